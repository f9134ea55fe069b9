"""Rounds again, without the votes that were retracted since.

A rebuild is an experiment of its own. Each of its rounds takes over the frozen snapshot of the
round that it replays, prompts, answers and votes, less the retracted ones, and then goes through
the real loop from the reward model on: same settings, same seeds, same number, from the rebuilt
policy where the original started from one. One that leaves nothing out makes the same weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect.models import Prompt
from plumbline.loop import history, lineage, retractions, rewarding, rows
from plumbline.loop.models import Experiment, Rebuild, Retraction, Round, Stage
from plumbline.policies import manifest
from plumbline.policies.models import Policy

NAME = 80  # characters, as Experiment.name holds
TAKEN_OVER = ("sampled", "annotator_share")  # figures of the snapshot
OWN = ("id", "name", "created_by", "created_at", "state", "rounds_wanted", "autopilot")


def begin(
    experiment: Experiment, *, actor: User | None, reason: str, also: int | None = None
) -> Experiment:
    """An experiment that rebuilds all tainted rounds of this one, and round `also` in any case.

    The retractions that stand at this moment are what it goes by, and can no longer be undone. A
    person promotes what it makes, never the autopilot. Raises ValueError with a sentence where
    there is nothing to rebuild, or where what the experiment starts from must be rebuilt first.
    """
    before = history.rebuild_of(experiment)
    root = before.of if before else experiment
    if root.blend:
        raise ValueError(
            f"{root} blends policies: rebuild what made those, then repeat it with the new ones."
        )
    reason = reason.strip()[: retractions.REASON]
    if not reason:
        raise ValueError("Say why it is rebuilt; the reason is kept with your name.")
    with transaction.atomic():
        stand = retractions.standing(root.project).filter(at__lte=timezone.now())
        used = list(stand.select_for_update())
        numbers = _numbers(root, also)
        fields = {
            one.attname: getattr(root, one.attname)
            for one in Experiment._meta.concrete_fields
            if one.attname not in OWN
        }
        fields |= _beginnings(root)
        made = Experiment.objects.create(
            **fields, name=_name(root), created_by=actor, rounds_wanted=numbers[-1]
        )
        rebuild = Rebuild.objects.create(
            experiment=made, of=root, numbers=numbers, actor=actor, reason=reason
        )
        rebuild.retractions.set(used)
        unused = Retraction.objects.filter(pk__in=[one.pk for one in used], used_at=None)
        unused.update(used_at=timezone.now())
    return made


def following(rebuild: Rebuild, last: Round | None) -> dict[str, Any]:
    """The fields of the rebuild's next round."""
    number = next(n for n in rebuild.numbers if last is None or n > last.number)
    original = rebuild.of.rounds.get(number=number)
    return {
        "number": number,
        "replays": original,
        "policy_in": _stand_in(rebuild, original.policy_in),
    }


def replay(round: Round) -> Stage:
    """Take over the original's snapshot without the retracted votes. Raises ValueError where it is
    not what its hash says, or where too little is left of it."""
    original = round.replays
    rebuild = history.rebuild_of(round.experiment)
    assert original is not None
    assert rebuild is not None
    frozen = original.ballots.all()
    if rows.ballots_digest(frozen) != original.ballots_sha256:
        raise ValueError(f"The votes of {original} are not those that it froze.")
    kept = list(retractions.without(frozen, rebuild.retractions.all()))
    with transaction.atomic():
        round.prompts.set(original.prompts.all())
        round.ballots.set(kept)
        round.ballots_sha256 = rows.ballots_digest(kept)
        round.figures = {
            **{name: original.figures[name] for name in TAKEN_OVER if name in original.figures},
            "rebuilt": {"without": len(frozen) - len(kept), "of": len(frozen)},
        }
        round.save(update_fields=["ballots_sha256", "figures"])
    rewarding.check_learnable(round.experiment, kept)
    return Stage.REWARD


def is_last(round: Round) -> bool:
    """Whether a person decides about what this round made: of a rebuild only the last one."""
    return round.number >= round.experiment.rounds_wanted


def validation_prompts(original: Round) -> list[Prompt]:
    """The prompts that the original's checkpoints were compared on."""
    asked = original.jobs.filter(purpose__startswith="validate:").values("job_id")
    return list(Prompt.objects.filter(completions__batch__in=asked).distinct().order_by("pk"))


def same_weights(round: Round) -> bool | None:
    """Whether a rebuilt round made what its original made, file by file; None until it has made
    something, and where the folders cannot be read from here.

    A policy's own hash also covers where its weights came from, which a rebuild differs in.
    """
    new, old = round.policy_out, round.replays.policy_out if round.replays else None
    if new is None or old is None:
        return None
    if new.sha256 == old.sha256:
        return True
    try:
        return _files(new) == _files(old)
    except (OSError, ValueError):
        return None


def _files(policy: Policy) -> dict[str, str]:
    """Hashes by name, as the folder's manifest has them."""
    files = manifest.outline(Path(policy.path), policy.sha256)["files"]
    return {name: entry["sha256"] for name, entry in files.items()}


def _numbers(root: Experiment, also: int | None) -> list[int]:
    """The finished rounds to go through again; `also` with all that build on it."""
    whole = lineage.graph(root.project)
    hit = {one.round.pk for one in lineage.tainted(root.project, whole=whole)}
    if also is not None:
        again = root.rounds.filter(number=also).first()
        if again is None or again.stage != Stage.DONE or again.policy_out is None:
            raise ValueError(f"Round {also} of {root} has made no policy that could be rebuilt.")
        hit |= {one.pk for one in whole.downstream([again.pk])}
    done = root.rounds.filter(pk__in=hit, stage=Stage.DONE, policy_out__isnull=False)
    numbers = sorted(done.values_list("number", flat=True))
    if not numbers:
        raise ValueError(
            f"No finished round of {root} holds a retracted vote or builds on one: there is "
            "nothing to rebuild."
        )
    return numbers


def _beginnings(root: Experiment) -> dict[str, Any]:
    """Rebuilt policies in the place of tainted ones that the experiment itself was given."""
    tainted = {one.round.policy_out_id: one.round for one in lineage.tainted(root.project)}
    fields = {}
    for name in ("start_id", "soup_with_id"):
        given = getattr(root, name)
        if given not in tainted:
            continue
        rebuilt = (
            Round.objects.filter(replays__policy_out=given, policy_out__isnull=False)
            .filter(stage=Stage.DONE)
            .exclude(policy_out__in=tainted)
            .order_by("-pk")
            .first()
        )
        if rebuilt is None:
            raise ValueError(
                f"Rebuild {tainted[given]} first: {root} begins with its policy, and retracted "
                "votes went into that."
            )
        fields[name] = rebuilt.policy_out_id
    return fields


def _stand_in(rebuild: Rebuild, policy: Policy) -> Policy:
    """What a rebuilt round starts from: the rebuilt policy where there is one."""
    again = rebuild.experiment.rounds.filter(replays__policy_out=policy).first()
    if again is not None and again.policy_out is not None:
        return again.policy_out
    return rebuild.experiment.start if policy == rebuild.of.start else policy


def _name(root: Experiment) -> str:
    taken = set(Experiment.objects.filter(project=root.project).values_list("name", flat=True))
    for count in range(1, len(taken) + 2):
        tail = ", rebuilt" if count == 1 else f", rebuilt {count}"
        if (name := root.name[: NAME - len(tail)] + tail) not in taken:
            return name
    raise AssertionError("one name more than there are was tried")
