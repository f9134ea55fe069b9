"""Two tenants with something of everything a page can name, so that every URL has real objects.

`words` says what stands in each text that people, models or files could have written; tests plant
marks or hostile strings through it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from align import jobs, seeded_writer
from align.factor_jobs import FitJob
from align.icpl.emphases import of_arm
from align.programs import to_json
from plumbline.accounts import invitations, keys
from plumbline.accounts.models import Membership, Project, User
from plumbline.collect import enrolment, versions
from plumbline.collect.models import Ballot, Campaign, Flag
from plumbline.evolve.models import Evolution, Generation, Program
from plumbline.fleet.models import Job
from plumbline.judges import constitutions
from plumbline.judges.models import Calibration, Endpoint, Judge, JudgeVersion, Revising
from plumbline.loop.models import Retraction, SavedView
from plumbline.policies.guard_models import Guard
from plumbline.policies.models import Deployment, Flip, Objective, RouteChange
from plumbline.transfer.models import Import, Upload
from tests.comparisons import compare
from tests.lab import contest
from tests.lab import laboratory as lab

Words = Callable[[str], str]
ROLES = ("annotator", "researcher", "admin")
# Arguments of URLs that name no row: a missing one is another matter than a foreign one.
PLACES = {"project", "number", "part"}
# What `pk` names, by how the URL's name begins.
PK = {
    "comparison": "comparison", "flag": "flag", "evolution": "evolution", "policy": "policy",
    "experiment": "experiment", "blend": "experiment", "vote": "vote", "retraction": "retraction",
    "factor-weights": "fit", "confidence": "stated", "judge-check": "endpoint",
    "judge-unask": "endpoint", "judge-constitution": "constitution",
    "judge-principle": "principle", "judge-revisions": "revising", "judge-include": "revising",
    "reward-model": "reward_model", "disputes": "reward_model", "runs-view": "view", "job": "job",
    "import-file": "upload", "import-undo": "import", "guard-end": "guard",
}  # fmt: skip


@dataclass
class Tenant:
    project: Project
    people: dict[str, User]
    objects: dict[str, Any] = field(default_factory=dict)  # primary keys and tokens by name

    def arguments(self, name: str, wanted: frozenset[str]) -> dict[str, Any]:
        """What a URL takes, all of this tenant's."""
        given = {"project": self.project.slug, **self.objects}
        given["user"] = self.people["annotator"].pk
        if name == "accept-invitation":
            given["token"] = self.objects["invitation"]
        if "pk" in wanted:
            kind = max((one for one in PK if name.startswith(one)), key=len)
            given["pk"] = self.objects[PK[kind]]
        return {one: given[one] for one in wanted}

    def path(self, url: str, **instead: Any) -> str:
        return reverse(url, kwargs={**self.arguments(url, URLS[url]), **instead})


def _urls(patterns: Any, before: frozenset[str] = frozenset()) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for one in patterns:
        wanted = before | frozenset(one.pattern.converters)
        if isinstance(one, URLResolver):
            found |= _urls(one.url_patterns, wanted)
        elif isinstance(one, URLPattern):
            found[str(one.name)] = wanted
    return found


URLS = _urls(get_resolver().url_patterns)  # name -> arguments
MISSING: Mapping[str, Any] = {"token": "nothing", "alias": "nothing", "name": "nothing"}


def missing(name: str, argument: str, own: Any) -> Any:
    """A value of the same type that names nothing."""
    if argument in MISSING:
        return MISSING[argument]
    return uuid.UUID(int=7) if isinstance(own, uuid.UUID) else 999_999


def tenant(slug: str, words: Words) -> Tenant:
    project = Project.objects.create(name=words("project")[:80], slug=slug)
    made = Tenant(project, {})
    for role in ROLES:
        user = User.objects.create_user(username=f"{slug}-{role}")
        Membership.objects.create(project=project, user=user, role=role)
        made.people[role] = user
    _collected(made, words)
    _trained(made, words)
    _judged(made, words)
    _evolved(made, words)
    _brought_in(made, words)
    return made


def _collected(made: Tenant, words: Words) -> None:
    """A campaign with a claim, a flag and a vote of the annotator; keys and invitations."""
    project, annotator, researcher = (
        made.project,
        made.people["annotator"],
        made.people["researcher"],
    )
    draft = Campaign(
        project=project, name=words("campaign")[:120], guidelines=words("guidelines"), overlap=3,
        asks=["compare", "mark", "critique"], reasons=[words("reason")[:80]],
        warning=words("warning")[:200],
        examples=[{one: words("example") for one in ("prompt", "better", "worse", "why")}],
    )  # fmt: skip
    campaign = versions.create(draft, researcher)
    prompts = lab.prompt_set(project, train=1, heldout=1, name=words("prompt set")[:80])
    ballots = []
    for number in range(3):
        texts = [words("completion") + " " * n for n in range(2)]
        made_one = compare(campaign, prompts, words("prompt") + " " * number, texts)
        now = timezone.now()
        ballots.append(
            Ballot.objects.create(
                comparison=made_one, annotator=annotator, seat=0, shown=[0, 1], claimed_at=now,
                expires_at=now + timedelta(minutes=15),
            )
        )  # fmt: skip
    for ballot, outcome in zip(ballots, ("ranked", "flagged"), strict=False):
        ballot.outcome, ballot.cast_at = outcome, timezone.now()
        ballot.comment, ballot.reason = words("comment"), words("reason")[:300]
        ballot.ranking = [[0], [1]] if outcome == "ranked" else []
        ballot.save()
    voted, flagged, claimed = ballots
    flag = Flag.objects.create(ballot=flagged, reason=words("flag")[:300], words=words("flag"))
    enrolment.enrol(campaign, annotator)
    _, came = enrolment.invite(campaign, researcher)
    _, invited = invitations.create(project, "annotator", made.people["admin"])
    key, secret = keys.create(
        project, words("key")[:80], ["infer", "feedback", "manage"], researcher
    )
    retraction = Retraction.objects.create(
        project=project, ballot=voted, reason=words("retraction")[:300], actor=researcher
    )
    view = SavedView.objects.create(project=project, owner=researcher, name=words("view")[:60])
    made.objects |= {
        "campaign": campaign.pk, "comparison": voted.comparison_id, "ballot": claimed.pk,
        "flag": flag.pk, "vote": voted.pk, "person": annotator.pk, "user": annotator.pk,
        "token": came,
        "invitation": invited, "key": key.pk, "secret": secret, "retraction": retraction.pk,
        "view": view.pk,
    }  # fmt: skip


def _trained(made: Tenant, words: Words) -> None:
    """An experiment with a finished round, a candidate, jobs, a reward model."""
    project = made.project
    base = lab.policy(project)
    held = lab.prompt_set(project, train=2, heldout=2, name=words("held out")[:79] + "h")
    experiment = lab.experiment(project, name=words("experiment")[:80], start=base, prompt_set=held)
    model = contest.reward_model(project, f"{project.slug}-reward")
    round = lab.finished_round(experiment, steps=2, reward_model=model)
    round.ballots.set(Ballot.objects.filter(pk=made.objects["vote"]))
    deployment = Deployment.objects.create(project=project, alias="current", policy=base)
    other = Deployment.objects.create(project=project, alias=f"{project.slug}-alias", policy=base)
    guard = Guard.objects.create(deployment=other, metric="errors")
    Flip.objects.create(deployment=deployment, after=base, reason=words("flip")[:300])
    Objective.objects.create(project=project, name=f"{project.slug}-aim", policy=base)
    RouteChange.objects.create(
        project=project, what="objective", name="aim", after=base, reason=words("change")[:300]
    )
    train = round.jobs.get(purpose="train").job
    train.error = words("error")
    train.save()
    fit = Job.objects.create(
        project=project, kind=FitJob.kind, queue="cpu", title="Weights", state="succeeded",
        spec={"signs": {"words": -1}}, result={"weights": {}, "intervals": {}},
    )  # fmt: skip
    sample = jobs.SampleJob(engine_url="http://engine", model=base.name, n=2)
    stated = Job.objects.create(
        project=project, kind="sample", queue="cpu", title=f"Confidence of {base.name}",
        state="queued", spec=jobs.to_json(sample),
    )  # fmt: skip
    assert round.policy_out is not None
    made.objects |= {
        "experiment": experiment.pk, "number": round.number, "policy": round.policy_out.pk,
        "reward_model": model.pk, "job": train.pk, "fit": fit.pk, "stated": stated.pk,
        "part": "frontier", "held": held.pk, "base": base.pk, "alias": other.alias,
        "guard": guard.pk, "name": f"{project.slug}-aim",
    }  # fmt: skip


def _judged(made: Tenant, words: Words) -> None:
    project = made.project
    endpoint = Endpoint.objects.create(
        project=project, name=words("endpoint")[:80], model=words("model")[:200]
    )
    constitution = constitutions.add(project, words("constitution")[:80])
    constitutions.state(constitution, words("principle"), 1.0)
    judge = Judge.objects.create(project=project, name=words("judge")[:80], kind="pairwise")
    version = JudgeVersion.objects.create(
        judge=judge, number=1, sha256="ab" * 32, endpoint=endpoint,
        settings={"knobs": {"verdict": "marker"}, "guidance": words("guidance"),
                  "endpoint": {"name": endpoint.name, "model": endpoint.model, "url": ""}},
    )  # fmt: skip
    campaign = Campaign.objects.create(project=project, name=words("revised")[:119] + "r")
    told = Job.objects.create(
        project=project, kind="judge", queue="cpu", title="Revisions", state="failed", spec={},
        error=words("error"),
    )  # fmt: skip
    revising = Revising.objects.create(version=version, job=told, campaign=campaign)
    Calibration.objects.create(
        version=version, ballots_sha256="cd" * 32, error=words("error"),
        finished_at=timezone.now(),
    )  # fmt: skip
    made.objects |= {
        "endpoint": endpoint.pk, "constitution": constitution.pk, "judge": judge.pk,
        "principle": constitution.principles.get().pk, "revising": revising.pk,
    }  # fmt: skip


def _evolved(made: Tenant, words: Words) -> None:
    project = made.project
    evolution = Evolution.objects.create(
        project=project, name=words("session")[:80], task=words("task"), arms=3,
        policy_id=made.objects["base"], prompt_set_id=made.objects["held"],
    )  # fmt: skip
    generation = Generation.objects.create(
        evolution=evolution, number=1, stage="write",
        messages=[{"role": "user", "content": words("prompt of a writer")}],
    )  # fmt: skip
    written = seeded_writer.write(0, of_arm(0))
    program = Program.objects.create(
        generation=generation, arm=0, attempt=0, emphasis=of_arm(0), program=to_json(written),
        sha256=written.sha256, status="validated", reply=words("reply"),
    )  # fmt: skip
    Program.objects.create(
        generation=generation, arm=0, attempt=1, emphasis=of_arm(0), status="invalid",
        reply=words("reply"), problems=[words("problem")],
    )  # fmt: skip
    made.objects |= {"evolution": evolution.pk, "program": program.pk}


def _brought_in(made: Tenant, words: Words) -> None:
    project = made.project
    upload = Upload.objects.create(
        project=project, author=made.people["researcher"], filename=words("filename")[:255],
        size=1, set_name=words("prompt set")[:80], state="failed", error=words("error"),
    )  # fmt: skip
    record = Import.objects.create(
        set_id=made.objects["held"], format="trl_preference", filename=words("filename")[:255],
        sha256="ef" * 32, source=words("source")[:200], rows=1, prompts=0, completions=0, ballots=0,
    )  # fmt: skip
    made.objects |= {"upload": upload.pk, "import": record.pk}
