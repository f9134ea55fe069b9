"""Whether a platform under fire kept its word: clients' journals against what is there in the end.

Nothing acknowledged may be missing, nothing may be there twice or that nobody meant, and what was
refused or never answered may be there once at most. It knows neither Django nor HTTP: it compares
what `final.py` read with what `journal.py` kept, and says what is wrong in sentences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.journal import Command

STALE_SECONDS = 8.0  # a gateway on a busy machine may go on with what it knew of an alias
VOTES = ("ranked", "all_bad", "absolute")


@dataclass
class Verdict:
    """`lost`, `doubled`, `mixed`, `wrong`: a sentence for each finding."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # what else should not be
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def kept(self) -> bool:
        return not (self.lost or self.doubled or self.mixed or self.wrong)

    @property
    def unknown(self) -> int:
        return sum(n for name, n in self.counts.items() if name.endswith(" unknown"))

    def words(self) -> str:
        told = ", ".join(f"{n} {name}" for name, n in sorted(self.counts.items()))
        head = "The platform kept its word" if self.kept else "The platform broke its word"
        findings = [
            f"{name}: {sentence}"
            for name in ("lost", "doubled", "mixed", "wrong")
            for sentence in getattr(self, name)[:20]
        ]
        return "\n".join([f"{head}: {told}.", *findings])


def keyed(verdict: Verdict, what: str, commands: Iterable[Command], final: Sequence[str]) -> None:
    """acked within final; final within acked and unknown; each key once."""
    mine = {one.key: one for one in commands if one.what == what}
    there = Counter(final)
    for key, one in mine.items():
        state = "acked" if one.acked else "refused" if one.refused else "unknown"
        verdict.counts[f"{what}s {state}"] += 1
        if one.acked and key not in there:
            verdict.lost.append(f"{what} {key} was acknowledged and is not there")
        if one.unknown and key in there:
            verdict.counts[f"{what}s that were done unheard"] += 1
        if one.refused and key in there:
            verdict.wrong.append(f"{what} {key} was refused and is there")
    for key, times in there.items():
        if times > 1:
            verdict.doubled.append(f"{what} {key} is there {times} times")
        if key not in mine:
            verdict.doubled.append(f"{what} {key} is there and nobody meant it")


def votes(
    verdict: Verdict, commands: Sequence[Command], final: Sequence[Mapping[str, Any]], overlap: int
) -> None:
    """`final`: key, comparison, annotator, seat, outcome and choice of each answer there is."""
    keyed(verdict, "vote", commands, [row["key"] for row in final])
    standing = [row for row in final if row["seat"] is not None and row["outcome"] in VOTES]
    pairs = Counter((row["comparison"], row["annotator"]) for row in standing)
    for (comparison, annotator), times in pairs.items():
        if times > 1:
            verdict.doubled.append(f"{annotator} has {times} votes on comparison {comparison}")
    for comparison, times in Counter(row["comparison"] for row in standing).items():
        if times > overlap:
            verdict.doubled.append(f"comparison {comparison} has {times} votes, {overlap} wanted")
    said = {row["key"]: row for row in final}
    for one in commands:
        if one.what == "vote" and one.intent is not None and one.key in said:
            row = said[one.key]
            meant = one.intent["choices"]
            if row["choice"] not in meant:
                verdict.wrong.append(f"vote {one.key} says {row['choice']}, meant was {meant}")
            if row["annotator"] != one.intent["by"]:
                verdict.wrong.append(
                    f"vote {one.key} of {one.intent['by']} is {row['annotator']}'s"
                )


def streams(
    verdict: Verdict,
    commands: Iterable[Command],
    flips: Sequence[Mapping[str, Any]],
    texts: Mapping[str, Collection[str]],
) -> None:
    """One answer, one policy, and that one current. `flips`: at (of the commit), after, in their
    order; `texts`: what each policy answers, where that is known."""
    for one in commands:
        if one.what != "stream":
            continue
        if not one.acked:
            verdict.counts[
                "streams refused" if one.refused else "streams unanswered or broken off"
            ] += 1
            continue
        told = one.acks[-1]
        verdict.counts["streams whole"] += 1
        names = {told["version"], *told["models"]}
        if len(names) > 1:
            verdict.mixed.append(f"stream {one.key} names {', '.join(sorted(names))}")
        if not told["finish"]:
            verdict.wrong.append(f"stream {one.key} ended with [DONE] and no finish_reason")
        known = texts.get(told["version"])
        if known is not None and told["text"] not in known:
            authors = [name for name, said in texts.items() if told["text"] in said]
            by = f"is {' or '.join(authors)}'s" if authors else "is no policy's"
            verdict.mixed.append(f"stream {one.key} is stamped {told['version']}; its text {by}")
        assert one.intent is not None
        if not _was_current(told["version"], one.intent["at"] - STALE_SECONDS, told["at"], flips):
            verdict.wrong.append(f"stream {one.key} is of {told['version']}, which was not current")


def _was_current(
    version: str, began: float, ended: float, flips: Sequence[Mapping[str, Any]]
) -> bool:
    """At some time between the two."""
    for n, flip in enumerate(flips):
        until = flips[n + 1]["at"] if n + 1 < len(flips) else float("inf")
        if flip["after"] == version and flip["at"] <= ended and until >= began:
            return True
    return False


def moves(
    verdict: Verdict,
    commands: Iterable[Command],
    flips: Sequence[Mapping[str, Any]],
    points_at: str,
) -> None:
    """The alias's history is one chain, and every move that was acknowledged is in it or was none.
    `flips`: at, before, after, reason; a move's key stands in its reason."""
    current = None
    for flip in flips:
        if flip["before"] != current:
            verdict.wrong.append(f"a move left {flip['before']} when {current} was current")
        current = flip["after"]
    if points_at != current:
        verdict.wrong.append(f"the alias points at {points_at}, its history ends with {current}")
    for one in commands:
        if one.what != "move":
            continue
        done = [flip for flip in flips if one.key in flip["reason"]]
        verdict.counts[
            f"moves {'acked' if one.acked else 'refused' if one.refused else 'unknown'}"
        ] += 1
        if len(done) > 1:
            verdict.doubled.append(f"move {one.key} was made {len(done)} times")
        if one.acked and not done:
            target, at = one.acks[0]["policy"], one.acks[0]["at"]
            assert one.intent is not None
            if not _was_current(target, one.intent["at"], at, flips):  # then there was none to make
                verdict.lost.append(f"move {one.key} to {target} was acknowledged and is not there")


def jobs(verdict: Verdict, final: Iterable[Mapping[str, Any]]) -> None:
    """`final`: id, kind, state, attempt, epoch, done (how often its end was noted)."""
    for job in final:
        verdict.counts[f"jobs {job['state']}"] += 1
        verdict.counts["attempts at jobs"] += job["attempt"]
        if job["state"] not in ("succeeded", "failed", "cancelled"):
            verdict.wrong.append(f"{job['kind']} job {job['id']} is still {job['state']}")
        if job["done"] > 1 or (job["state"] == "succeeded") != (job["done"] == 1):
            verdict.doubled.append(
                f"job {job['id']} is {job['state']} and ended {job['done']} times"
            )


def rounds(verdict: Verdict, final: Iterable[Mapping[str, Any]]) -> None:
    """`final`: number, stage, error, frozen and hashed (its ballots' hash, and that of the list),
    completions and draws (there, and wanted), policies (made by it)."""
    for one in final:
        name = f"round {one['number']}"
        verdict.counts[f"rounds {one['stage']}"] += 1
        if one["stage"] not in ("done", "failed", "cancelled"):
            verdict.wrong.append(f"{name} is still at {one['stage']}")
        if one["stage"] == "failed":
            verdict.wrong.append(f"{name} failed: {one['error'][-200:]}")
        if one["hashed"] and one["hashed"] != one["frozen"]:
            verdict.wrong.append(f"{name} trained on other ballots than its hash names")
        if one["stage"] == "done":
            if one["completions"] != one["draws"]:
                few = one["completions"] < one["draws"]
                kind = verdict.lost if few else verdict.doubled
                kind.append(f"{name} has {one['completions']} answers, drew {one['draws']}")
            if one["policies"] != 1:
                verdict.doubled.append(f"{name} made {one['policies']} policies")
