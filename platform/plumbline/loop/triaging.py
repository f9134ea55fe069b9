"""A round's comparisons between its judges and people: sorted, watched, and cast as ballots.

Comparisons are held back from people until the judges have spoken, but for the random slice, which
people see in any case. What a judge is believed on is never asked of people; when people's votes on
the slice say that it should not be believed, all of that is asked of them after all. A judge's
ballots are cast when labelling ends, so that no vote of a person is ever in their way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from align.measure.concordance import agreed, majority
from align.measure.trust import Watch, watch
from plumbline.accounts.models import User
from plumbline.collect import votes
from plumbline.collect.models import Ballot, Candidate, Comparison
from plumbline.judges import casting, triage
from plumbline.judges.triage import Word
from plumbline.loop import campaigns, judging
from plumbline.loop.models import Experiment, Round, RoundJudge, Sent

BATCH = 500
ARTIFICIAL = (User.Kind.AI, User.Kind.IMPORT)


def go_on(round: Round) -> bool:
    """One look: begin, ask, sort, watch. True once everything is sorted."""
    if not round.experiment.judged or round.campaign is None:
        return True
    begin(round)
    if not _sorted(round):
        pairs = _pairs(round)
        labellers = judging.of(round, judging.LABEL)
        ready = [
            judging.said(round, one, f"judging:{one.version_id}", list(pairs.values()))
            for one in labellers
        ]
        if not all(ready):
            return False
        _sort(round, labellers, pairs)
    _look(round)
    return True


def begin(round: Round) -> None:
    """Put the random slice before people and hold the rest back; done once."""
    if round.sent.exists():
        return
    experiment, campaign = round.experiment, round.campaign
    assert campaign is not None
    seed = f"{experiment.seed}:{round.number}:slice"
    made, held = [], []
    with transaction.atomic():
        asked = votes.counted(campaign.comparisons.all()).filter(retired_at=None)
        for one in asked.select_related("prompt").prefetch_related("slots__completion"):
            texts = [slot.completion.text for slot in one.slots.all()]
            named = triage.name(one.prompt.digest, texts)
            drawn = triage.in_slice(seed, named, experiment.slice_percent)
            to, why = (Sent.To.PEOPLE, triage.RANDOM) if drawn else (Sent.To.JUDGE, triage.WAITING)
            made.append(Sent(round=round, comparison=one, to=to, why=why))
            one.priority = triage.priority(None)
            one.retired_at = None if drawn else timezone.now()
            held.append(one)
        Sent.objects.bulk_create(made, batch_size=BATCH)
        Comparison.objects.bulk_update(held, ["priority", "retired_at"], batch_size=BATCH)
        round.figures = {**round.figures, "triage": _promise(round)}
        round.save(update_fields=["figures"])


def cast(round: Round) -> None:
    """The judges' ballots: on what they are believed on, and on the slice beside people's. Cast
    once; a judge that is suspended casts none."""
    campaign = round.campaign
    if not round.experiment.judged or campaign is None or suspended(round):
        return
    labellers = judging.of(round, judging.LABEL)
    leading = max(labellers, key=lambda one: (one.weight, -one.pk))
    account = leading.version.judge.account
    if account is None:
        raise ValueError(f"{leading.version.judge} has no account to vote by.")
    now = timezone.now()
    sure = round.sent.filter(to=Sent.To.JUDGE, p__isnull=False)
    beside = round.sent.filter(why=triage.RANDOM, p__isnull=False, consistent=True)
    rows = [
        Ballot(
            comparison_id=one.comparison_id,
            annotator=account,
            shown=[0, 1],
            settings_version=campaign.settings_version,
            claimed_at=now,
            expires_at=now + timedelta(seconds=campaign.lease_seconds),
            cast_at=now,
            outcome=Ballot.Outcome.RANKED,
            ranking=casting.ranking(one.p),
            probability=one.p,
            comment=signature(labellers),
        )
        for one in [*sure, *beside]
        if one.p is not None
    ]
    there = Ballot.objects.filter(annotator=account, comparison__campaign=campaign)
    known = set(there.values_list("comparison_id", flat=True))
    fresh = [row for row in rows if row.comparison_id not in known]
    Ballot.objects.bulk_create(fresh, batch_size=BATCH, ignore_conflicts=True)


def kept(round: Round, ballots: Iterable[Ballot]) -> list[Ballot]:
    """Without the judges' ballots on comparisons that people voted on: people override."""
    listed = list(ballots)
    if not round.experiment.judged:
        return listed
    machines = set(
        User.objects.filter(
            pk__in={one.annotator_id for one in listed}, kind=User.Kind.AI
        ).values_list("pk", flat=True)
    )
    voted = {one.comparison_id for one in listed if one.annotator_id not in machines}
    return [
        one for one in listed if one.annotator_id not in machines or one.comparison_id not in voted
    ]


def suspended(round: Round) -> dict[str, Any] | None:
    """Why the judges are not believed in this round any more; None where they are."""
    found: dict[str, Any] | None = round.figures.get("suspended")
    return found


def watched(round: Round) -> Watch:
    """What people said of the judges on the slice so far, in the order in which they spoke: of
    those that sort only where they were sure enough."""
    promise = round.figures.get("triage") or _promise(round)
    rate, above = promise["rate"], promise["above"]
    sorting = round.experiment.labels == Experiment.Labels.TRIAGE
    told: dict[int, float] = {
        one.comparison_id: one.p
        for one in round.sent.filter(why=triage.RANDOM, consistent=True)
        if one.p is not None and (not sorting or (above is not None and abs(one.p - 0.5) > above))
    }
    said: dict[int, list[float]] = {}
    here = Comparison.objects.filter(pk__in=told)
    cast = campaigns.evidence(here).exclude(annotator__kind__in=ARTIFICIAL)
    for ballot in cast.order_by("cast_at", "pk"):
        for i, j, p, _ in votes.preferences([ballot]):
            if (i, j) == (0, 1):
                said.setdefault(ballot.comparison_id, []).append(p)
    errors = [1 - agreed(told[pk], majority(given)) for pk, given in said.items()]
    # Judges that label everything promise what their chances say, at least the rate that is stated.
    rates = [rate if sorting else max(rate, 0.5 - abs(told[pk] - 0.5)) for pk in said]
    return watch(errors, rates)


def signature(labellers: Sequence[RoundJudge]) -> str:
    """Which versions a ballot is of, with their weights where they are several."""
    alone = len(labellers) == 1
    return "; ".join(
        f"{one.version} ({one.sha256[:12]})" + ("" if alone else f", weight {one.weight:.3f}")
        for one in labellers
    )


def _sorted(round: Round) -> bool:
    return bool(round.figures.get("triage", {}).get("sorted"))


def _promise(round: Round) -> dict[str, Any]:
    """The error rate that the judges must keep, and above which confidence they are believed."""
    experiment = round.experiment
    rate = experiment.judge_errors / 100
    if experiment.labels != Experiment.Labels.TRIAGE:
        return {"rate": rate, "above": None, "held_out": None, "sorted": False}
    labellers = judging.of(round, judging.LABEL)
    found = judging.trusted(
        [one.calibration for one in labellers], [one.weight for one in labellers], rate
    )
    above = found["above"] if found else None
    return {"rate": rate, "above": above, "held_out": found, "sorted": False}


def _pairs(round: Round) -> dict[int, judging.Pair]:
    """By comparison its two answers, slot 0 first; comparisons of more go to people."""
    found: dict[int, list[Any]] = {}
    slots = Candidate.objects.filter(comparison__sent__round=round)
    for slot in slots.select_related("completion__prompt").order_by("comparison_id", "slot"):
        found.setdefault(slot.comparison_id, []).append(slot.completion)
    return {pk: (two[0], two[1]) for pk, two in found.items() if len(two) == 2}


def _sort(round: Round, labellers: Sequence[RoundJudge], pairs: dict[int, judging.Pair]) -> None:
    """Send each comparison where it belongs, all in one step."""
    said = judging.words(labellers, list(pairs.values()))
    words = {
        pk: said[pairs[pk][0].pk, pairs[pk][1].pk] if pk in pairs else Word(None, False)
        for pk in round.sent.values_list("comparison_id", flat=True)
    }
    with transaction.atomic():
        sent = list(round.sent.select_for_update())
        drawn = {one.comparison_id for one in sent if one.why == triage.RANDOM}
        rest = {pk: word for pk, word in words.items() if pk not in drawn}
        promise = round.figures["triage"]
        if round.experiment.labels == Experiment.Labels.TRIAGE:
            found = triage.triage(rest, promise["above"], _budget(round, len(drawn)))
        else:
            found = triage.by_judge(rest)
        for one in sent:
            word = words[one.comparison_id]
            one.p, one.consistent = word.p, word.consistent
            if one.comparison_id in found:
                one.to, one.why = found[one.comparison_id].to, found[one.comparison_id].why
        Sent.objects.bulk_update(sent, ["p", "consistent", "to", "why"], batch_size=BATCH)
        asked = [pk for pk, to in found.items() if to.to == triage.PEOPLE]
        _ask_people(asked, words)
        round.figures = {**round.figures, "triage": {**promise, "sorted": True}}
        round.save(update_fields=["figures"])


def _look(round: Round) -> None:
    """Suspend the judges where people's votes on the slice break the promise."""
    if suspended(round) or round.campaign is None or round.campaign.closed_at is not None:
        return
    seen = watched(round)
    if not seen.broken:
        return
    with transaction.atomic():
        sent = list(round.sent.filter(to=Sent.To.JUDGE).select_for_update())
        words = {one.comparison_id: Word(one.p, one.consistent) for one in sent}
        asked = triage.most_uncertain(list(words), words)
        budget = _budget(round, round.sent.filter(to=Sent.To.PEOPLE).count())
        keep = set(asked if budget is None else asked[: max(0, budget)])
        for one in sent:
            to = Sent.To.PEOPLE if one.comparison_id in keep else Sent.To.NOBODY
            one.to, one.why = to, triage.SUSPENDED
        Sent.objects.bulk_update(sent, ["to", "why"], batch_size=BATCH)
        _ask_people([pk for pk in asked if pk in keep], words)
        evidence = {**asdict(seen), "rate": seen.rate, "at": timezone.now().isoformat()}
        round.figures = {**round.figures, "suspended": evidence}
        round.save(update_fields=["figures"])


def _ask_people(comparisons: Sequence[int], words: dict[int, Word]) -> None:
    """Let people be asked, the most uncertain first."""
    found = list(Comparison.objects.filter(pk__in=comparisons))
    for one in found:
        one.retired_at, one.priority = None, triage.priority(words[one.pk])
    Comparison.objects.bulk_update(found, ["retired_at", "priority"], batch_size=BATCH)


def _budget(round: Round, asked: int) -> int | None:
    """How many more comparisons people may be asked about; None for any number."""
    most = round.experiment.votes_at_most
    return None if not most else most // max(1, round.experiment.overlap) - asked
