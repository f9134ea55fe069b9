"""What a process is doing when it is struck at a failpoint, by name, with ids as arguments, so that
the same can be done here and in a process of its own that is killed."""

from __future__ import annotations

from collections.abc import Callable

from django.core.management import call_command
from django.db import transaction
from django.test import Client

from align import jobs
from plumbline.accounts.models import Project, User
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Campaign
from plumbline.fleet import claims, dispatch
from plumbline.fleet.models import Job
from plumbline.loop import advance, examples, labelling
from plumbline.loop.models import Round, Stage
from plumbline.policies import serving
from plumbline.policies.models import Policy


def vote(session: str, ballot: str, key: str) -> None:
    """From the browser's form to the answer."""
    browser = Client()
    browser.cookies["sessionid"] = session
    slug = Ballot.objects.get(pk=ballot).comparison.campaign.project.slug
    reply = browser.post(f"/p/{slug}/ballots/{ballot}/", {"choice": "A2", "key": key})
    assert reply.status_code == 303, reply.status_code


def claim(user: str, campaign: str) -> None:
    queue.claim_next(User.objects.get(pk=user), Campaign.objects.get(pk=campaign))


def submit(project: str) -> None:
    spec = jobs.SampleJob(engine_url="-", model="-", n=1)
    inputs = {"given.jsonl": [{"a": 1}]}
    with transaction.atomic():  # as everybody does who writes down what the job is for
        dispatch.submit(Project.objects.get(pk=project), spec, "asked for", inputs)


def take() -> None:
    claims.claim("cpu", "taker")


def finish(job: str) -> None:
    claims.succeed(Job.objects.get(pk=job), {"said": 1})


def sweep() -> None:
    claims.sweep()


def release(job: str) -> None:
    claims.release(Job.objects.get(pk=job))


def freeze(round: str) -> None:
    labelling.label(Round.objects.get(pk=round))


def pairs(round: str) -> None:
    examples.freeze(Round.objects.get(pk=round))


def move(round: str) -> None:
    row = Round.objects.get(pk=round)
    if row.stage == Stage.LABEL:
        advance._leave(row, Stage.REWARD)


def bring(path: str) -> None:
    given = ["--project", "alpha", "--set", "brought", "--skip-checks"]
    call_command("import", "trl_preference", path, *given, verbosity=0)


def promote(policy: str) -> None:
    row = Policy.objects.get(pk=policy)
    serving.promote(row.project, row, actor=None, reason="better", evidence={})


def retire() -> None:
    serving.retire()


ACTS: dict[str, Callable[..., None]] = {
    one.__name__: one
    for one in (
        *(vote, claim, submit, take, finish, sweep, release),
        *(freeze, pairs, move, bring, promote, retire),
    )
}
