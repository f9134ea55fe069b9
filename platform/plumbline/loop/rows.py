"""Between the database and a job's files: rows out for a run directory, results back in.

Everything read back is checked against what was asked for and stored so that doing it twice
changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

from django.db.models import Q, Subquery

from align import jobs
from plumbline.collect import origins, scales, votes
from plumbline.collect.models import Ballot, Comparison, Completion, Prompt
from plumbline.fleet.models import Job
from plumbline.judges.models import Score
from plumbline.loop import holdout
from plumbline.loop.models import Round, Stage
from plumbline.policies.models import Policy, RewardModel

BATCH = 500  # rows per INSERT
NUL, REPLACEMENT = "\0", "\N{REPLACEMENT CHARACTER}"  # PostgreSQL has no text with the first
PAGE = 100  # comparisons read at once: nine answers each stay below SQLite's thousand parameters
SAMPLE = "sample"  # purpose of a sampling job: "sample:<source>"
VALIDATION_SHARE = 4  # one prompt in four, where a round chooses among checkpoints


def prompt_rows(prompts: Iterable[Prompt]) -> Iterator[jobs.PromptRow]:
    for prompt in prompts:
        yield {"id": str(prompt.pk), "messages": prompt.messages}


def response_row(completion: Completion) -> jobs.ResponseRow:
    return {
        "id": str(completion.pk),
        "text": completion.text,
        "token_ids": completion.token_ids,
        "finish_reason": completion.finish_reason or None,
    }


def item_rows(completions: Iterable[Completion]) -> Iterator[jobs.ItemRow]:
    for completion in completions:
        yield {
            "id": str(completion.pk),
            "messages": completion.prompt.messages,
            "response": response_row(completion),
        }


def comparison_rows(
    ballots: Iterable[Ballot],
    *,
    validating: bool | None = None,
    apart: frozenset[int] = frozenset(),
) -> Iterator[jobs.ComparisonRow]:
    """What people said, one row per comparison, or two where annotators held out (`apart`) voted
    beside others; held-out prompts are kept from training whole (`holdout`). A row of votes that
    are held out, for either reason, is called after its comparison with `:heldout` behind it.
    `validating` keeps only the prompts that choose checkpoints, or only the others."""
    ratings = scales.Ratings()
    for comparison, cast_on_it in by_comparison(ballots):
        prompt = comparison.prompt
        if validating is not None and validates(prompt) != validating:
            continue
        by_part: dict[bool, list[Ballot]] = {}
        for ballot in cast_on_it:
            by_part.setdefault(bool(holdout.part(prompt, ballot, apart)), []).append(ballot)
        for heldout, some in by_part.items():
            told = [(one, ratings.of(one, comparison.campaign)) for one in some]
            counts = origins.weight(comparison.strategy)
            said = [(i, j, p, counts * n) for i, j, p, n in votes.preferences(some)]
            if not said and not any(rated for _, rated in told):
                continue  # all bad: an absolute judgement, which no preference can hold
            row: jobs.ComparisonRow = {
                "id": f"{comparison.pk}:heldout" if heldout else str(comparison.pk),
                "messages": prompt.messages,
                "responses": [response_row(slot.completion) for slot in comparison.slots.all()],
                "preferences": said,
                "heldout": heldout,
                "votes": [
                    vote_row(one, rated)
                    for one, rated in told
                    if rated or one.outcome == Ballot.Outcome.RANKED
                ],
            }
            yield row if counts == 1 else {**row, "counts": counts}


def vote_row(ballot: Ballot, rated: list[tuple[int, str, float]]) -> jobs.VoteRow:
    """A ballot as it was cast, with its ratings on a scale from 0 to 1. An AI judge's is known by
    the probability that it states. `age` is what `history.aged_ballots` adds, 0 of any other."""
    row: jobs.VoteRow = {
        "rater": str(ballot.annotator_id),
        "ranking": ballot.ranking,
        "strength": ballot.strength,
        "p": ballot.probability,
        "human": ballot.probability is None,
        "age": getattr(ballot, "age", 0),
    }
    return {**row, "ratings": rated} if rated else row


def by_comparison(ballots: Iterable[Ballot]) -> Iterator[tuple[Comparison, list[Ballot]]]:
    """Ballots grouped by comparison, in the order of comparisons, with their answers loaded."""
    grouped: dict[int, list[Ballot]] = {}
    for ballot in ballots:
        grouped.setdefault(ballot.comparison_id, []).append(ballot)
    ids = sorted(grouped)
    for start in range(0, len(ids), PAGE):
        page = (
            Comparison.objects.filter(pk__in=ids[start : start + PAGE])
            .select_related("prompt", "campaign")
            .prefetch_related("slots__completion")
            .order_by("pk")
        )
        for comparison in page:
            yield comparison, grouped[comparison.pk]


def ballots_digest(ballots: Iterable[Ballot]) -> str:
    """SHA-256 of the sorted ballot ids: what a round trained on, in one line."""
    ids = sorted(str(ballot.pk) for ballot in ballots)
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def import_completions(job: Job, policy: Policy, expected: set[int]) -> None:
    """A finished sampling job's rows become completions. Raises ValueError when one is missing."""
    spec = cast(jobs.SampleJob, jobs.from_json(job.spec))
    sampling = {"temperature": spec.temperature, "top_p": spec.top_p, "seed": spec.seed}
    rows = list(jobs.read_rows(job.folder / jobs.COMPLETIONS))
    seen = {(int(row["prompt"]), row["draw"]) for row in rows}
    wanted = {(prompt, draw) for prompt in expected for draw in range(spec.n)}
    if seen != wanted:
        raise ValueError(f"{job.title}: {len(wanted - seen)} of {len(wanted)} answers are missing.")
    Completion.objects.bulk_create(
        (
            Completion(
                prompt_id=int(row["prompt"]),
                policy=policy,
                text=row["text"].replace(NUL, REPLACEMENT),
                token_ids=row["token_ids"],
                finish_reason=row["finish_reason"],
                sampling=sampling,
                batch=job.pk,
                draw=row["draw"],
            )
            for row in rows
        ),
        batch_size=BATCH,
        ignore_conflicts=True,
    )


def read_scores(job: Job) -> dict[str, jobs.ScoreRow]:
    rows = cast(Iterator[jobs.ScoreRow], jobs.read_rows(job.folder / jobs.SCORES))
    return {row["id"]: row for row in rows}


def import_scores(job: Job, reward_model: RewardModel) -> None:
    Score.objects.bulk_create(
        (
            Score(
                completion_id=key,
                reward_model=reward_model,
                value=row["reward"],
                members=row["members"],
                spread=row["spread"],
            )
            for key, row in read_scores(job).items()
            if row["reward"] is not None  # an answer that does not fit the model has no score
        ),
        batch_size=BATCH,
        ignore_conflicts=True,
    )


def batches(round: Round, purpose: str) -> list[Any]:
    """The ids of a round's jobs for a purpose: sampled completions carry them as `batch`."""
    return list(round.jobs.filter(purpose=purpose).values_list("job_id", flat=True))


def sources(round: Round) -> dict[Any, str]:
    """The round's sampling jobs as they were asked for: by their id, which completions carry as
    `batch`, the source. A rebuild has those of the round that it replays."""
    found = {}
    asked = (round.replays or round).jobs
    for purpose, job_id in asked.order_by("pk").values_list("purpose", "job_id"):
        kind, *source = purpose.split(":")
        if kind == SAMPLE:
            found[job_id] = source[0]
    return found


def known_to(round: Round) -> Q:
    """Answers that there were when the round made its pairs: of a rebuild, when the round that it
    replays did."""
    if round.replays is None:
        return Q()
    made = round.replays.stages.filter(stage=Stage.PAIRS).values("finished_at")
    return Q(created_at__lte=Subquery(made[:1]))


def sampled(round: Round) -> dict[int, list[Completion]]:
    """The round's samples by prompt, in an order that is the same in every run."""
    batches = list(sources(round))
    by_prompt: dict[int, list[Completion]] = {}
    for completion in Completion.objects.filter(batch__in=batches).order_by("prompt_id", "draw"):
        by_prompt.setdefault(completion.prompt_id, []).append(completion)
    for answers in by_prompt.values():
        answers.sort(key=lambda answer: batches.index(answer.batch))
    return by_prompt


def validates(prompt: Prompt) -> bool:
    """Do votes on this prompt choose checkpoints, instead of training them?"""
    return int(prompt.digest[8:16], 16) % VALIDATION_SHARE == 0
