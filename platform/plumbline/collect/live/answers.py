"""The two answers of a live comparison: what a person sees of them, and what is kept.

An answer grows in its row and nowhere else, so what a browser has shown was stored before, two
tabs see the same, and a page that is opened again goes on where it was. Nobody but the person it
was begun for gets the comparison until their first word on it: that turns both answers into
completions, each as far as it was seen, and stops whoever still writes. Nothing here says which
policy wrote what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from plumbline.collect import queue
from plumbline.collect.models import Ballot, Candidate, Comparison, Completion, LiveAnswer
from plumbline.collect.queue import Verdict, seats

State = LiveAnswer.State
CUT = "cut"  # the finish reason of an answer that a person had seen enough of
LONG, BROKEN = "long", "broken"
TROUBLES = {
    LONG: "The conversation is too long for this answer.",
    BROKEN: "This answer broke off. The other one is not affected.",
}
MOST_ATTEMPTS = 10
Seen = tuple[int, int]  # of a side: which attempt, and how much of it
AHEAD = 160  # characters that one side may show more than the other while both are written,
PATIENCE = timedelta(seconds=3)  # unless the other has not grown for so long


@dataclass(frozen=True)
class Side:
    """An answer as its reader may know it. `upto` is how much of it that is: code points, and one
    more when it has ended."""

    state: str  # waiting, writing, done, failed
    attempt: int
    text: str
    upto: int
    trouble: str = ""
    cut_off: str = ""


def unfinished(comparison: Comparison) -> bool:
    """Whether a live comparison waits for its first word: it has no completions yet."""
    return comparison.kind == Comparison.Kind.LIVE and comparison.only_for_id is not None


def whole(comparison: Comparison) -> dict[int, str]:
    """The answers that have ended, by slot: what is asked of a text that stands still can be asked
    of these."""
    return {one.slot: one.text for one in comparison.live_answers.all() if one.state == State.DONE}


def sides(ballot: Ballot, have: Sequence[Seen] = ((0, 0), (0, 0))) -> list[Side]:
    """Both sides as they may be shown now, in the order on the screen. `have`: the attempt of each
    that a browser shows already, and how much of it; that is not taken back."""
    answers = {one.slot: one for one in ballot.comparison.live_answers.all()}
    a, b = (answers[slot] for slot in ballot.shown)
    return [_side(a, b, have[0]), _side(b, a, have[1])]


def again(ballot: Ballot, place: int, attempt: int) -> bool:
    """Have a side that failed written anew. Asked twice for one attempt it is done once; False
    after the last that there is."""
    failed = LiveAnswer.objects.filter(
        comparison=ballot.comparison_id,
        slot=ballot.shown[place],
        state=State.FAILED,
        attempt=attempt,
    )
    if attempt >= MOST_ATTEMPTS or ballot.outcome:
        return False
    failed.update(
        state=State.WAITING,
        attempt=F("attempt") + 1,
        text="",
        trouble="",
        writer=None,
        grown_at=timezone.now(),
    )
    return True


def read(given: str) -> Seen:
    """How far a browser is with a side, as ATTEMPT.UPTO; (0, 0) for anything else."""
    attempt, _, upto = given.partition(".")
    if attempt.isdecimal() and upto.isdecimal() and len(given) < 16:
        return int(attempt), int(upto)
    return 0, 0


def seen(ballot: Ballot, given: Mapping[str, str]) -> dict[int, Seen]:
    """How much of each slot a form says its sender has seen."""
    return {slot: read(given.get(f"seen_{place}", "")) for place, slot in enumerate(ballot.shown)}


def cast(ballot: Ballot, verdict: Verdict, key: UUID, seen: Mapping[int, Seen]) -> Ballot:
    """`queue.cast`, of a live comparison on what was seen. Raises ValueError while there is no
    answer to judge on one side."""
    return _settled(ballot, seen, lambda: queue.cast(ballot, verdict, key))


def skip(ballot: Ballot, reason: str, key: UUID) -> Ballot:
    return _settled(ballot, None, lambda: queue.skip(ballot, reason, key))


def flag(ballot: Ballot, reason: str, words: str, key: UUID) -> Ballot:
    return _settled(ballot, None, lambda: queue.flag(ballot, reason, words, key))


def _settled(ballot: Ballot, seen: Mapping[int, Seen] | None, say: Callable[[], Ballot]) -> Ballot:
    """What is said of any comparison; of a live one together with what it is said of."""
    if ballot.comparison.kind != Comparison.Kind.LIVE:
        return say()
    with transaction.atomic():
        _settle(ballot, seen)
        return say()


def _settle(ballot: Ballot, seen: Mapping[int, Seen] | None) -> None:
    """Keep both answers as far as they were seen, and stop them. Without `seen` nobody judges
    them: what there is stays with the skip or flag, and the comparison is asked of nobody else."""
    comparison = seats.lock_comparison(ballot.comparison_id)
    if unfinished(comparison):
        answers = LiveAnswer.objects.select_for_update().filter(comparison=comparison)
        for answer in answers.order_by("slot"):
            completion = _keep(comparison, answer, _shown(answer, seen))
            Candidate.objects.create(comparison=comparison, completion=completion, slot=answer.slot)
        LiveAnswer.objects.filter(comparison=comparison).update(
            state=State.KEPT, text="", token_ids=None
        )
        comparison.only_for = None
        comparison.retired_at = None if seen is not None else timezone.now()
        comparison.save(update_fields=["only_for", "retired_at"])
    if seen is not None:
        _check_there_is_something(comparison)


def _shown(answer: LiveAnswer, seen: Mapping[int, Seen] | None) -> int:
    if seen is None:
        return answer.upto
    attempt, upto = seen.get(answer.slot, (0, 0))
    if upto and attempt != answer.attempt:
        raise ValueError("One of the answers has been written anew since. Look at it first.")
    return min(upto, answer.upto)


def _keep(comparison: Comparison, answer: LiveAnswer, shown: int) -> Completion:
    """The answer as the person saw it. Its sampled tokens are those of the whole answer, so a part
    of it has none, and the trainer tokenizes its text without closing it."""
    ended = answer.state == State.DONE and shown == answer.upto
    return Completion.objects.create(
        prompt_id=comparison.prompt_id,
        policy_id=answer.policy_id,
        text=answer.text[:shown],
        token_ids=answer.token_ids if ended else None,
        finish_reason=answer.finish_reason if ended else CUT,
        sampling=answer.sampling,
        draw=answer.slot,
    )


def _check_there_is_something(comparison: Comparison) -> None:
    if Completion.objects.filter(comparison=comparison, finish_reason=CUT, text="").exists():
        raise ValueError(
            "One of the answers has not begun yet. Wait for it, have it written again, or skip."
        )


def _side(answer: LiveAnswer, other: LiveAnswer, have: Seen) -> Side:
    """A policy that writes faster than the other must not be known by it: they keep pace."""
    text = answer.text
    both = answer.state == State.WRITING and other.state in (State.WRITING, State.WAITING)
    if both and timezone.now() - other.grown_at < PATIENCE:
        shown = have[1] if have[0] == answer.attempt else 0
        text = text[: max(shown, len(other.text) + AHEAD)]
    done = answer.state == State.DONE
    return Side(
        state=answer.state,
        attempt=answer.attempt,
        text=text,
        upto=answer.upto if done else len(text),
        trouble=TROUBLES.get(answer.trouble, TROUBLES[BROKEN]) if answer.trouble else "",
        cut_off="Cut off at the length limit." if answer.finish_reason == "length" else "",
    )
