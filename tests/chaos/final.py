"""What a platform's database holds in the end, as `checker.py` compares it with the journals.

Runs in a process with Django set up, past all proxies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db.models.expressions import RawSQL

from tests.chaos import checker, ground
from tests.chaos.journal import Command

ENDS = ("done", "failed: ", "cancelled")  # notes that a job's end leaves; see fleet/claims.py


def read(campaign: int) -> dict[str, Any]:
    from plumbline.gateway.models import Exchange, Feedback
    from plumbline.policies.models import Deployment, Flip

    alias = Deployment.objects.get(project__slug="demo", alias="current")
    flips = (
        Flip.objects.filter(deployment=alias)
        .order_by("pk")
        .select_related("before", "after")
        .annotate(committed=RawSQL("pg_xact_commit_timestamp(policies_flip.xmin)", ()))
    )
    return {
        "votes": _votes(campaign),
        "feedback": list(Feedback.objects.values_list("name", flat=True)),
        "exchanges": list(Exchange.objects.values_list("completion_id", flat=True)),
        "flips": [
            {
                "at": one.committed.timestamp(),
                "before": one.before and one.before.name,
                "after": one.after.name,
                "reason": one.reason,
            }
            for one in flips
        ],
        "points_at": alias.policy.name,
        "jobs": _jobs(),
        "rounds": _rounds(),
        "unverified": _unverified(),
    }


def judge(commands: list[Command], final: dict[str, Any], texts: dict[str, Any]) -> checker.Verdict:
    """All invariants on what `read` found."""
    verdict = checker.Verdict()
    checker.votes(verdict, commands, final["votes"], ground.OVERLAP)
    checker.keyed(verdict, "feedback", commands, final["feedback"])
    answers = {name: set(said.values()) for name, said in texts.items()}
    checker.streams(verdict, commands, final["flips"], answers)
    checker.moves(verdict, commands, final["flips"], final["points_at"])
    checker.jobs(verdict, final["jobs"])
    checker.rounds(verdict, final["rounds"])
    begun = {f"Round {one['number']} has begun." for one in final["rounds"]}
    for one in commands:
        if one.what == "launch" and one.acked:
            verdict.counts["launches acked"] += 1
            if one.acks[0]["said"] not in begun:
                verdict.lost.append(f"{one.acks[0]['said']!r} was said, and there is no such round")
    verdict.wrong += [
        f"{name} is served and its manifest is not kept" for name in final["unverified"]
    ]
    return verdict


def _votes(campaign: int) -> list[dict[str, Any]]:
    from plumbline.collect.kinds import pair
    from plumbline.collect.models import Ballot

    said = Ballot.objects.filter(comparison__campaign=campaign).exclude(idempotency_key=None)
    return [
        {
            "key": str(one.idempotency_key),
            "comparison": one.comparison_id,
            "annotator": one.annotator.username,
            "seat": one.seat,
            "outcome": one.outcome,
            "choice": pair.write(one),
        }
        for one in said.select_related("annotator").iterator()
    ]


def _jobs() -> list[dict[str, Any]]:
    from plumbline.fleet.models import Job

    return [
        {
            "id": str(job.pk),
            "kind": job.kind,
            "state": job.state,
            "attempt": job.attempt,
            "done": sum(note.message == "done" for note in job.events.all()),
        }
        for job in Job.objects.prefetch_related("events")
    ]


def _rounds() -> list[dict[str, Any]]:
    from plumbline.collect.models import Completion
    from plumbline.loop import rows
    from plumbline.loop.models import Round
    from plumbline.policies.models import Policy

    found = []
    for one in Round.objects.order_by("pk").select_related("experiment"):
        sampled = [each.job for each in one.jobs.filter(purpose__startswith=f"{rows.SAMPLE}:")]
        drawn = Completion.objects.filter(batch__in=[job.pk for job in sampled]).count()
        found.append(
            {
                "number": one.number,
                "stage": one.stage,
                "error": one.error,
                "hashed": one.ballots_sha256,
                "frozen": rows.ballots_digest(list(one.ballots.all())),
                "completions": drawn,
                "draws": sum(job.result["completions"] for job in sampled if job.result),
                "policies": Policy.objects.filter(made_by=one).count(),
            }
        )
    return found


def _unverified() -> list[str]:
    """Policies that an alias points at, or has pointed at, whose files are not what was hashed."""
    from plumbline.policies import manifest
    from plumbline.policies.models import Flip, Policy

    broken = []
    for policy in Policy.objects.filter(pk__in=Flip.objects.values("after")).exclude(path=""):
        try:
            manifest.verify(Path(policy.path), policy.sha256)
        except (ValueError, OSError) as error:
            broken.append(f"{policy.name} ({error})")
    return broken
