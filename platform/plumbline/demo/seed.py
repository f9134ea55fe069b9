"""The demo's project: people, simulated raters, prompts, the base policy, one experiment, and a
live campaign for whoever looks in.

Made step by step, each only if it is not there yet, so a start that was killed is completed by the
next one and nothing that people changed is put back.
"""

from __future__ import annotations

from django.conf import settings
from django.db import transaction

from align.demo import prompts, raters
from align.jobs import Message
from plumbline.accounts import keys
from plumbline.accounts.models import ApiKey, Membership, Project, Role, Scope, User
from plumbline.collect.live.settings import Live
from plumbline.collect.models import Campaign, Prompt, PromptSet
from plumbline.evolve.models import Evolution
from plumbline.loop.models import Experiment
from plumbline.policies import serving
from plumbline.policies.models import Deployment
from plumbline.transfer.rows import digest

SLUG = "demo"
PEOPLE = {"ada": Role.ADMIN, "rosa": Role.RESEARCHER, "anna": Role.ANNOTATOR}
EXPERIMENT = "First experiment"
LIVE = "Live: the current policy against the base"
LIVE_GUIDELINES = """\
Two answers are written while you read. Judge as soon as you have seen enough: what you have seen is
what is kept. Take a question of the demo, or write one of your own.

At first both sides are the base model. Once the experiment has promoted a policy, one side is that
one, and you do not learn which. Your votes here measure; they train nothing.
"""
KEY_NAME = "Demo app"
SESSION = "What makes a good answer here"
SESSION_TASK = """\
Answers to short questions about everyday things: true, brief and friendly, in plain words.
"""


def project() -> Project:
    """The demo project with its members."""
    with transaction.atomic():
        demo, _ = Project.objects.get_or_create(slug=SLUG, defaults={"name": "Demo"})
        for name, role in PEOPLE.items():
            _member(demo, name, role, User.Kind.PERSON)
        for rater in raters.PANEL:
            _member(demo, rater.name.lower(), Role.ANNOTATOR, User.Kind.SIMULATED)
    return demo


def api_key(demo: Project) -> str | None:
    """The secret of a new key; None when the demo made its key on an earlier start."""
    if ApiKey.objects.filter(project=demo, name=KEY_NAME).exists():
        return None
    admin = User.objects.get(username="ada")
    _, secret = keys.create(demo, KEY_NAME, [Scope.INFER, Scope.FEEDBACK], admin)
    return secret


def prompt_set(demo: Project) -> PromptSet:
    with transaction.atomic():
        made, _ = PromptSet.objects.get_or_create(
            project=demo,
            name="Demo prompts",
            defaults={"source": "align.demo.prompts", "licence": "Apache-2.0"},
        )
        Prompt.objects.bulk_create(
            (_prompt(made, question) for question in prompts.questions()),
            batch_size=500,
            ignore_conflicts=True,
        )
    return made


def deployment(demo: Project) -> Deployment:
    """`current`, pointing at the base model until something better is promoted, and again after
    a start with another base. The engine must be up; raises EngineError when it is not."""
    existing = Deployment.objects.filter(project=demo, alias=serving.CURRENT).first()
    if existing is not None and existing.policy.base_model == settings.BASE_MODEL:
        return existing
    base = serving.base_policy(demo)
    return serving.promote(
        demo, base, actor=None, reason="The base model, to begin with", evidence={}
    )


def experiment(demo: Project, questions: PromptSet) -> Experiment:
    """Two rounds of DPO that promote by themselves what passes the gate."""
    made, _ = Experiment.objects.get_or_create(
        project=demo,
        name=EXPERIMENT,
        defaults={
            "created_by": User.objects.get(username="rosa"),
            "algorithm": "dpo",
            "start": serving.base_policy(demo),
            "prompt_set": questions,
            "rounds_wanted": 2,
            "prompts_per_round": 400,
            "samples_per_prompt": 3,
            "max_tokens": 96,
            "overlap": len(raters.PANEL),  # everybody's taste in every comparison
            "knobs": {"beta": 0.1},
            "optimiser": {"learning_rate": 4e-3, "epochs": 3, "batch_size": 32},
            "reward_optimiser": {"learning_rate": 5e-3, "epochs": 3, "batch_size": 32},
            "reward_folds": 0,  # a panel that overlaps leaves hundreds of votes held out
            "heldout_prompts": 240,
            "replay": "none",
            "autopilot": True,
        },
    )
    return made


def live(demo: Project, questions: PromptSet) -> Campaign:
    """A campaign in which people compare, live, what is served with the base it began from."""
    base = serving.base_policy(demo).name
    made, _ = Campaign.objects.get_or_create(
        project=demo,
        name=LIVE,
        defaults={
            "guidelines": LIVE_GUIDELINES,
            "purpose": Campaign.Purpose.EVALUATE,  # so that it changes no round
            "asks": ["compare", "mark"],
            "reasons": ["Friendlier", "Clearer", "Says more"],
            "live": Live(second=base, prompts=questions.pk, max_tokens=96).json,
        },
    )
    return made


def evolution(demo: Project, questions: PromptSet) -> Evolution:
    """A session of reward programs by the seeded writer, ranked by the simulated raters."""
    made, _ = Evolution.objects.get_or_create(
        project=demo,
        name=SESSION,
        defaults={
            "created_by": User.objects.get(username="rosa"),
            "task": SESSION_TASK,
            "prompt_set": questions,
            "policy": serving.base_policy(demo),
            "overlap": len(raters.PANEL),
            "max_tokens": 96,
            "generations_wanted": 3,
            "hidden_prompts": 20,
            "fresh_prompts": 20,
        },
    )
    return made


def _member(demo: Project, name: str, role: Role, kind: User.Kind) -> None:
    user, new = User.objects.get_or_create(username=name, defaults={"kind": kind})
    if new:
        user.set_unusable_password()  # sign-in by link only, until they choose one
        user.save()
    Membership.objects.get_or_create(project=demo, user=user, defaults={"role": role})


def _prompt(into: PromptSet, question: prompts.Question) -> Prompt:
    messages: list[Message] = [{"role": "user", "content": question.text}]
    return Prompt(set=into, messages=messages, split=question.split, digest=digest(messages))
