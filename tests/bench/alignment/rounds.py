"""An arm's rounds: sample, vote, learn a reward, make examples, train; the product's own programs.

Nothing here decides anything that the product would decide: it plays the platform's part between
the jobs (`plumbline.loop`), on questions and voters of the bench's world.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align import algorithms, jobs
from align.algorithm import Algorithm, Draws
from align.demo.raters import CyclicRater, Rater
from align.jobs import ModelRef, Optimiser
from align.pairing import Answer, Judged, Vote
from tests.bench.alignment import world
from tests.bench.alignment.arms import Arm
from tests.bench.alignment.workshop import Workshop, response
from tests.bench.alignment.world import BASE, Reply

SEEDS = 1000  # apart: what one seed draws has nothing to do with the next one's
NEVER = 10**9  # steps between checkpoints: work that is lost here is done again


@dataclass(frozen=True)
class Asked:
    """A question of a round: its answers, where each came from, and what people said of two."""

    question: str
    replies: tuple[Reply, ...]
    sources: tuple[str, ...]
    votes: tuple[Vote, ...]


@dataclass
class Course:
    """An arm under way on one seed."""

    arm: Arm
    seed: int
    workshop: Workshop
    labeller: Rater | CyclicRater
    votes_per_round: int
    policy: ModelRef = BASE
    asked: list[list[Asked]] = field(default_factory=list)  # by round
    examples: list[list[dict[str, Any]]] = field(default_factory=list)  # by round, as rows
    labels: int = 0

    def advance(self) -> dict[str, Any]:
        """One round; its figures."""
        number = len(self.asked) + 1
        algorithm = algorithms.get(self.arm.algorithm).build(self.arm.knobs)
        self.asked.append(self.ask(number, algorithm))
        figures: dict[str, Any] = {}
        scores: list[list[float]] | None = None
        if self.arm.pairs_from == "reward_model":
            judge, figures = self.learn_reward()
            scores = self.score(judge, self.asked[-1])
            figures["relabel_accuracy"] = relabel_accuracy(self.asked[-1], scores)
        self.examples.append(list(self.example_rows(number, algorithm, scores)))
        return {**figures, **self.train(number, algorithm)}

    def explored(self) -> int:
        """Different answers that were drawn in all rounds: distinct (question, text)."""
        rounds = (one for round_ in self.asked for one in round_)
        return len({(one.question, reply.text) for one in rounds for reply in one.replies})

    def ask(self, number: int, algorithm: Algorithm) -> list[Asked]:
        """Sample the round's answers and have people compare two each of the first questions."""
        arm, votes = self.arm, self.votes_per_round
        count = max(votes, arm.prompts if arm.pairs_from == "reward_model" else 0)
        questions = world.training_questions(self.seed, number, votes, count)
        replies: list[list[Reply]] = [[] for _ in questions]
        sources: list[str] = []
        for k, draws in enumerate(self.draws(algorithm)):
            policy = self.drawn_from(draws)
            seed = (self.seed * SEEDS + number) * SEEDS + k
            found = self.workshop.draw(policy, questions, draws.n, draws.temperature, seed)
            for mine, more in zip(replies, found, strict=True):
                mine += more
            sources += [draws.source] * draws.n
        self.labels += votes
        contrasts = self.contrasts(questions[:votes], replies)
        said = [
            world.vote(self.labeller, question, found, self.seed * SEEDS + number, pair)
            for question, found, pair in zip(questions, replies, contrasts, strict=False)
        ]
        return [
            Asked(question, tuple(found), tuple(sources), said[k] if k < votes else ())
            for k, (question, found) in enumerate(zip(questions, replies, strict=True))
        ]

    def contrasts(
        self, questions: Sequence[str], replies: Sequence[Sequence[Reply]]
    ) -> list[Sequence[int]]:
        """Which two answers to each question contrast; none where the arm takes any two."""
        found: list[Sequence[int]] = [()] * len(questions)
        if self.arm.selection == "random":
            return found
        items = [
            {
                "id": f"{i}:{k}",
                "messages": world.messages(question),
                "response": response(some[k]),
            }
            for i, (question, some) in enumerate(zip(questions, replies, strict=False))
            for k in world.different(some)
        ]
        result = self.workshop.do(jobs.ContrastJob(base=BASE), {jobs.ITEMS: items})
        for row in jobs.read_rows(result["folder"] / jobs.CONTRASTS):
            i, first = (int(part) for part in row["first"].split(":"))
            found[i] = (first, int(row["second"].split(":")[1]))
        return found

    def draws(self, algorithm: Algorithm) -> Iterator[Draws]:
        """What the algorithm wants drawn, half of the policy's own at the other temperature."""
        for one in algorithm.draws(self.arm.candidates, self.arm.temperature):
            yield from one.halved(self.arm.other_temperature)

    def drawn_from(self, draws: Draws) -> ModelRef:
        assert draws.model != "mixture", "no arm draws from an average of policies"
        assert draws.top_p == 1, "no arm leaves out unlikely tokens"
        return self.policy if draws.model == "round_start" and self.arm.online else BASE

    def learn_reward(self) -> tuple[Path, dict[str, Any]]:
        """A reward model from the base, on every vote so far."""
        voted = [one for round_ in self.asked for one in round_ if one.votes]
        rows = [
            {
                "id": str(k),
                "messages": world.messages(one.question),
                "responses": [response(reply) for reply in one.replies],
                "preferences": [(v.i, v.j, v.p, v.weight) for v in one.votes],
                "heldout": False,
            }
            for k, one in enumerate(voted)
        ]
        arm = self.arm
        job = jobs.RewardJob(
            base=BASE,
            form=arm.reward_form,
            optimiser=optimiser(arm.reward_learning_rate, arm.reward_epochs, 32, self.seed),
        )
        result = self.workshop.do(job, {jobs.COMPARISONS: map(seen_alone, rows)})
        return result["weights"], {"reward_accuracy": result.get("folds_accuracy")}

    def score(self, judge: Path, asked: list[Asked]) -> list[list[float]]:
        """The reward model's score of every answer."""
        items = [
            {
                "id": f"{i}:{k}",
                "messages": world.messages(one.question),
                "response": response(reply),
            }
            for i, one in enumerate(asked)
            for k, reply in enumerate(one.replies)
        ]
        job = jobs.ScoreJob(reward_model=str(judge), batch_size=64)
        result = self.workshop.do(job, {jobs.ITEMS: items})
        found = {row["id"]: row["reward"] for row in jobs.read_rows(result["folder"] / jobs.SCORES)}
        return [[found[f"{i}:{k}"] for k in range(len(one.replies))] for i, one in enumerate(asked)]

    def example_rows(
        self, number: int, algorithm: Algorithm, scores: list[list[float]] | None
    ) -> Iterator[dict[str, Any]]:
        for i, one in enumerate(self.asked[-1]):
            judged = Judged(
                prompt=f"{self.seed}:{number}:{one.question}",
                answers=tuple(
                    Answer(
                        id=str(k),
                        text=reply.text,
                        tokens=len(reply.token_ids),
                        truncated=reply.finish_reason == "length",
                        score=scores[i][k] if scores else None,
                        source=source,
                    )
                    for k, (reply, source) in enumerate(zip(one.replies, one.sources, strict=True))
                ),
                votes=one.votes,
            )
            for k, made in enumerate(algorithm.examples(judged, self.arm.rule, self.seed)):
                yield {
                    "id": f"{number}:{i}:{k}",
                    "messages": world.messages(one.question),
                    "responses": {r: response(one.replies[at]) for r, at in made.answers.items()},
                    "p": made.p,
                    "facts": dict(made.facts),
                    "weight": made.weight,
                }

    def train(self, number: int, algorithm: Algorithm) -> dict[str, Any]:
        arm = self.arm
        named = {"initial": BASE, "reference": BASE, "round_start": self.policy}
        rounds = self.examples if arm.replay == "all" else self.examples[-1:]
        job = jobs.TrainJob(
            algorithm=arm.algorithm,
            knobs=arm.knobs,
            start=self.policy,
            references={
                name: named[name] for name in (*algorithm.references, *algorithm.divergences)
            },
            optimiser=optimiser(
                arm.learning_rate, arm.epochs, arm.batch_size, self.seed * SEEDS + number
            ),
            anchor=arm.anchor,
        )
        rows = [row for round_ in rounds for row in round_]
        result = self.workshop.do(job, {jobs.EXAMPLES: rows})
        self.policy = ModelRef(base=BASE.base, adapter=str(result["weights"]))
        names = ("examples", "accuracy", "drift_chosen", "drift_rejected", "chosen_longer")
        return {name: result[name] for name in names}


def seen_alone(row: dict[str, Any]) -> dict[str, Any]:
    """A comparison with no answers but those that somebody compared."""
    used = sorted({k for i, j, _, _ in row["preferences"] for k in (i, j)})
    at = {k: place for place, k in enumerate(used)}
    return {
        **row,
        "responses": [row["responses"][k] for k in used],
        "preferences": [(at[i], at[j], p, weight) for i, j, p, weight in row["preferences"]],
    }


def relabel_accuracy(asked: list[Asked], scores: list[list[float]]) -> float:
    """Share of answer pairs that the scores order as the gold utility does; equals left out."""
    right = total = 0
    for one, given in zip(asked, scores, strict=True):
        gold = [world.gold(one.question, reply) for reply in one.replies]
        for i in range(len(gold)):
            for j in range(i):
                gap = gold[i] - gold[j]
                if abs(gap) > 1e-9:
                    total += 1
                    right += gap * (given[i] - given[j]) > 0
    return right / total if total else 0.5


def optimiser(learning_rate: float, epochs: int, batch: int, seed: int) -> Optimiser:
    return Optimiser(
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch,
        micro_batch_size=batch,
        seed=seed,
        checkpoint_every=NEVER,
    )
