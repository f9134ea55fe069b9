"""What is there when a story begins: people with passwords, tens of thousands of comparisons,
policies of different minds, an experiment of small rounds. Runs in a process with Django set up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

PASSWORD = "a long walk in the rain"
VOTERS, RESEARCHER = "chaos", "rosa"  # slug of the voters' project, who launches and promotes
QUESTIONS = ("What is the capital of France?", "Tell me about Peru.", "How do I boil an egg?")
TOKENS = 24
OVERLAP = 2
# So many checkpoints that old ones go.
SMALL = {"learning_rate": 1e-3, "batch_size": 4, "epochs": 1, "checkpoint_every": 1}


def lay(people: int, comparisons: int, policies: int, experiments: int = 1) -> dict[str, Any]:
    """All of it; the engine must be up. What clients need to know of it."""
    from plumbline.accounts import keys
    from plumbline.accounts.models import ApiKey, Scope, User
    from plumbline.demo import seed

    demo = seed.project()
    seed.deployment(demo)
    rosa = User.objects.get(username=RESEARCHER)
    rosa.set_password(PASSWORD)
    rosa.save()
    key, secret = keys.create(demo, "A client", [Scope.INFER, Scope.FEEDBACK], rosa)
    # Far away, so that it is counted in Redis and never reached.
    ApiKey.objects.filter(pk=key.pk).update(requests_per_minute=10**6)
    made = [_policy(demo, n) for n in range(1, policies + 1)]
    names = [f"voter-{n}" for n in range(people)]
    return {
        "campaign": _campaign(names, comparisons),
        "people": names,
        "secret": secret,
        "project": demo.slug,
        "policies": {one.name: str(one.pk) for one in made},
        "texts": _texts(demo, made),
        "experiments": [_experiment(demo, n) for n in range(1, experiments + 1)],
    }


def _policy(project: Any, number: int) -> Any:
    """The base with an adapter drawn at random, strong enough to answer otherwise."""
    import torch
    from django.conf import settings

    from align.gpu import checkpoint, model
    from align.jobs import ModelRef, Weights
    from plumbline.policies import serving
    from plumbline.policies.models import Policy

    torch.manual_seed(number)
    torch.set_num_threads(1)
    start = model.start(ModelRef(base=settings.BASE_MODEL), Weights(mode="lora", rank=4))
    with torch.no_grad():
        for parameter in start.model.parameters():
            if parameter.requires_grad:
                parameter += torch.randn_like(parameter) * 0.1
    folder = Path(settings.HOME) / "weights" / f"mind-{number}"
    committed = checkpoint.commit(folder, lambda stray: model.save(start, stray))
    return Policy.objects.create(
        project=project,
        name=f"mind-{number}",
        weights=Policy.Weights.LORA,
        base_model=settings.BASE_MODEL,
        path=str(folder),
        sha256=committed.sha256,
        parent=serving.base_policy(project),
    )


def _texts(project: Any, made: list[Any]) -> dict[str, dict[str, str]]:
    """What each policy says to each question when it does not guess."""
    from django.conf import settings

    from plumbline.policies import engines, serving

    found = {}
    for policy in (serving.base_policy(project), *made):
        serving.ensure_loaded(policy)
        found[policy.name] = {}
        for question in QUESTIONS:
            body = asking(serving.engine_name(policy), question)
            reply = engines.call(
                settings.ENGINE_URL, "POST", "/v1/chat/completions", body, serving.PROBE_SECONDS
            )
            found[policy.name][question] = reply["choices"][0]["message"]["content"]
    return found


def asking(model: str, question: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": model, "messages": messages, "max_tokens": TOKENS, "temperature": 0.0}


def _campaign(names: list[str], comparisons: int) -> int:
    """A campaign of its own project: the simulated raters of the demo's do not see it."""
    from django.contrib.auth.hashers import make_password
    from django.db import connection

    from plumbline.accounts.models import Membership, Project, User
    from plumbline.collect.models import Campaign, PromptSet
    from tests.bench.collection import loading

    project = Project.objects.create(name="Chaos", slug=VOTERS)
    secret = make_password(PASSWORD)
    people = User.objects.bulk_create(User(username=name, password=secret) for name in names)
    Membership.objects.bulk_create(
        Membership(project=project, user=one, role="annotator") for one in people
    )
    campaign = Campaign.objects.create(
        project=project, name="Under fire", overlap=OVERLAP, overlap_applied=OVERLAP
    )
    questions = PromptSet.objects.create(project=project, name="Prompts")
    named = {"set": questions.pk, "campaign": campaign.pk, "sharing": loading.SHARING}
    named["prompts"] = -(-comparisons // loading.SHARING)
    with connection.cursor() as cursor:
        for statement in (
            loading.PROMPTS,
            loading.COMPLETIONS,
            loading.COMPARISONS,
            loading.CANDIDATES,
        ):
            cursor.execute(statement, named)
        cursor.execute("VACUUM (ANALYZE)")
    return int(campaign.pk)


def _experiment(demo: Any, number: int) -> int:
    from plumbline.demo import seed
    from plumbline.loop.models import Experiment
    from plumbline.policies import serving

    made = Experiment.objects.create(
        project=demo,
        name=f"Under fire {number}",
        algorithm="dpo",
        start=serving.base_policy(demo),
        prompt_set=seed.prompt_set(demo),
        rounds_wanted=1,
        prompts_per_round=20,
        samples_per_prompt=2,
        max_tokens=32,
        heldout_prompts=4,
        overlap=1,
        autopilot=True,
        gate_win_rate=-1,
        weights={"mode": "lora", "rank": 4, "alpha": 8},
        optimiser=SMALL,
        reward_optimiser=SMALL,
        reward_folds=0,
    )
    return int(made.pk)
