"""From judged answers to training examples, and which earlier ones are trained on again.

The algorithm makes the examples (`Algorithm.examples`); this file brings it what is known of each
prompt's answers, freezes what it made, and reads it back for the trainer.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Q

from align import algorithms, failpoints, jobs
from align.algorithm import Algorithm
from align.algorithm import Example as Made
from align.pairing import Answer, Judged, Mark, Vote
from plumbline.collect import origins, votes
from plumbline.collect.models import Completion, Prompt
from plumbline.judges.models import Score
from plumbline.loop import history, rows
from plumbline.loop.agreement import Members
from plumbline.loop.models import Example, ExampleAnswer, Experiment, Round

POLICY, TEACHER = "policy", "teacher"  # what answers are called that no further draw names


def freeze(round: Round) -> None:
    """Make the round's examples, once and for all. Raises ValueError when there are none."""
    if round.examples.exists():  # frozen by a loop that died before it wrote the next stage down
        return
    experiment = round.experiment
    algorithm = algorithms.get(experiment.algorithm).build(experiment.knobs)
    made: list[tuple[Prompt, list[Completion], Made]] = []
    members = Members(round)
    for prompt, answers, judged in judged_prompts(round, algorithm):
        for one in algorithm.examples(judged, experiment.pair_rule, experiment.seed):
            if (kept := members.settle([answer.pk for answer in answers], one)) is not None:
                made.append((prompt, answers, kept))
    if not made and members.pairs:
        raise ValueError(
            f"No training examples: of {members.pairs} pairs the reward model's members agree on "
            "none."
        )
    if not made:
        raise ValueError(
            "No training examples: every comparison was a tie, cut off or all bad, or no prompt "
            f"has the answers that {algorithm.title} needs ({', '.join(algorithm.roles)})."
        )
    with transaction.atomic():
        Round.objects.select_for_update(no_key=True).get(pk=round.pk)
        if round.examples.exists():  # another loop was faster
            return
        if agreed := members.figures():
            round.figures = {**round.figures, "agreement": agreed}
            round.save(update_fields=["figures"])
        created = Example.objects.bulk_create(
            (
                Example(
                    round=round,
                    prompt=prompt,
                    p=one.p,
                    weight=one.weight,
                    facts=dict(one.facts),
                    rule=experiment.pair_rule,
                )
                for prompt, _, one in made
            ),
            batch_size=rows.BATCH,
        )
        failpoints.reach("examples.written")
        ExampleAnswer.objects.bulk_create(
            (
                ExampleAnswer(example=example, role=role, completion=answers[index])
                for example, (_, answers, one) in zip(created, made, strict=True)
                for role, index in one.answers.items()
            ),
            batch_size=rows.BATCH,
        )


def example_rows(round: Round) -> Iterator[jobs.ExampleRow]:
    """What the round trains on: its own examples, and those of earlier rounds it replays."""
    ids = trained_on(round)
    algorithm = algorithms.get(round.experiment.algorithm).build(round.experiment.knobs)
    for start in range(0, len(ids), rows.PAGE):
        page = (
            Example.objects.filter(pk__in=ids[start : start + rows.PAGE])
            .select_related("prompt")
            .prefetch_related("answers__completion")
            .order_by("pk")
        )
        for example in page:
            yield {
                "id": str(example.pk),
                "messages": algorithm.conversation(example.prompt.messages, example.facts),
                "responses": {
                    one.role: rows.response_row(one.completion) for one in example.answers.all()
                },
                "p": example.p,
                "facts": example.facts,
                "weight": example.weight,
            }


def trained_on(round: Round) -> list[int]:
    """Ids of the examples, in order.

    With decay the last round gives at most `replay_share` times this round's count, and each round
    further back `replay_decay` times as much as the one after it; which ones, the seed decides.
    """
    experiment = round.experiment
    mine = list(round.examples.order_by("pk").values_list("pk", flat=True))
    if experiment.replay == Experiment.Replay.NONE:
        return mine
    earlier: list[int] = []
    share = experiment.replay_share
    for before in reversed(history.before(round)):
        found = list(before.examples.order_by("pk").values_list("pk", flat=True))
        if experiment.replay == Experiment.Replay.DECAY:
            count = min(len(found), int(share * len(mine)))
            seed = f"{experiment.seed}:{round.number}:{before.number}"
            found = random.Random(seed).sample(found, count)
            share *= experiment.replay_decay
        earlier = [*sorted(found), *earlier]
    return [*earlier, *mine]


@dataclass
class Known:
    """What is known of a round's answers, by prompt."""

    answers: dict[int, dict[Any, Completion]]
    said: dict[int, list[tuple[Any, Any, float, float, float]]]  # answers' ids, p, weight, tie
    bad: dict[int, list[tuple[Any, float]]]  # answer's id, how many ballots called all bad

    def add(self, completion: Completion) -> None:
        self.answers.setdefault(completion.prompt_id, {})[completion.pk] = completion


def judged_prompts(
    round: Round, algorithm: Algorithm
) -> Iterator[tuple[Prompt, list[Completion], Judged]]:
    """Each prompt of the round with its answers and all that is known of them.

    Answers: those people compared; what further draws of the algorithm gave; all samples when the
    experiment pairs by its reward model, and then only those it could score; the teacher's, for an
    algorithm that learns from one. Prompts whose votes choose the checkpoint are left out.
    """
    experiment = round.experiment
    by_model = experiment.pairs_from == Experiment.Pairs.REWARD_MODEL
    sources = rows.sources(round)
    turn = {batch: at for at, batch in enumerate(sources)}  # a batch's id is of no fixed order
    known = _votes(round)
    wanted = [batch for batch, source in sources.items() if by_model or source != POLICY]
    for completion in Completion.objects.filter(batch__in=wanted):
        known.add(completion)
    if algorithm.teacher:
        for completion in Completion.objects.filter(taught(round)):
            known.add(completion)
    scores = _scores(round) if by_model else {}
    temperature = round.reward_model.temperature if by_model and round.reward_model else 1.0
    for prompt in Prompt.objects.filter(pk__in=known.answers).order_by("pk"):
        if experiment.candidates and rows.validates(prompt):
            continue
        found = sorted(
            (c for c in known.answers[prompt.pk].values() if not by_model or c.pk in scores),
            key=lambda c: (turn.get(c.batch, len(turn)), str(c.batch), c.draw, str(c.pk)),
        )
        index = {completion.pk: k for k, completion in enumerate(found)}
        judged = Judged(
            prompt=str(prompt.pk),
            answers=tuple(_answer(c, scores.get(c.pk), sources) for c in found),
            votes=tuple(
                Vote(index[a], index[b], p, weight, tie)
                for a, b, p, weight, tie in known.said.get(prompt.pk, [])
                if {a, b} <= index.keys()
            ),
            marks=tuple(
                Mark(index[key], good=False, weight=weight)
                for key, weight in known.bad.get(prompt.pk, [])
                if key in index
            ),
            length_penalty=experiment.length_penalty,
            temperature=temperature,
        )
        yield prompt, found, judged


def _votes(round: Round) -> Known:
    """What people said on the round's frozen ballots."""
    known = Known({}, {}, {})
    for comparison, ballots in rows.by_comparison(round.ballots.all()):
        slots = [slot.completion for slot in comparison.slots.all()]
        for completion in slots:
            known.add(completion)
        ties = votes.tie_shares(ballots)
        counts = origins.weight(comparison.strategy)
        for i, j, p, weight in votes.preferences(ballots):
            known.said.setdefault(comparison.prompt_id, []).append(
                (slots[i].pk, slots[j].pk, p, counts * weight, ties[i, j])
            )
        bad, judged_by = votes.bad_shares(ballots)
        if bad:
            known.bad.setdefault(comparison.prompt_id, []).extend(
                (completion.pk, bad * judged_by) for completion in slots
            )
    return known


def taught(round: Round) -> Q:
    """Imported answers to the round's prompts, for an algorithm that learns from them unvoted. What
    client apps sent is no such thing."""
    unvoted = Q(prompt__rounds=round, policy=None) & ~Q(origin=origins.CLIENT_TEXT)
    return unvoted & rows.known_to(round)


def sample_figures(round: Round) -> dict[str, float]:
    """Of the round's samples: how many, the shares cut off and said twice, the mean length."""
    sampled = Completion.objects.filter(batch__in=rows.sources(round)).only(
        "prompt_id", "text", "token_ids", "finish_reason"
    )
    texts: Counter[tuple[int, str]] = Counter()
    cut = tokens = 0
    for completion in sampled.iterator():
        texts[completion.prompt_id, completion.text.strip()] += 1
        cut += completion.finish_reason == "length"
        tokens += len(completion.token_ids or ())
    total = texts.total()
    if not total:
        return {}
    return {
        "samples": total,
        "truncated": cut / total,
        "duplicates": 1 - len(texts) / total,
        "tokens": tokens / total,
    }


def _scores(round: Round) -> dict[Any, float]:
    """Every score under the round's reward model, by answer."""
    scored = Score.objects.filter(reward_model=round.reward_model)
    return dict(scored.values_list("completion_id", "value"))


def _answer(completion: Completion, score: float | None, sources: dict[Any, str]) -> Answer:
    tokens = completion.token_ids
    drawn = POLICY if completion.policy_id else TEACHER
    return Answer(
        id=str(completion.pk),
        text=completion.text,
        tokens=len(tokens) if tokens is not None else len(completion.text.split()),
        truncated=completion.cut_off,
        score=score,
        source=sources.get(completion.batch, drawn),
    )
