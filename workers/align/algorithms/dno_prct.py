"""DNO-Prct, the practical Direct Nash Optimization (arXiv:2404.03715, Algorithm 2).

DPO against the round's start, on hard labels of pairs that lie far apart: the positive is good in
itself, the negative clearly worse. A teacher's answers compete with the policy's own, and either
may win. Answers that repeat themselves can only lose. Departs from full DNO in that a pair's label
is 1 instead of a win rate's share, which the paper justifies by its large margins. What the paper
calls "alpha 0.005" is explained nowhere in it and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from align.algorithm import Draws, Example, Labels, LogProbs, Loss, Preset, knob
from align.margin import MarginAlgorithm
from align.pairing import RULES, Answer, Judged, PairChoice, as_one, score


@dataclass(frozen=True, kw_only=True)
class DNOPrct(MarginAlgorithm):
    title: ClassVar[str] = "DNO-Prct"
    references: ClassVar[tuple[str, ...]] = ("round_start",)
    pair_rule: ClassVar[str] = "all_pairs"
    teacher: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "Five answers and a teacher's, scored on the paper's rubric of 0 to 6 (another scale "
            "needs another threshold and margins): positives from 5 on, negatives 2 points lower, "
            "1 below a policy's own positive; old rounds' pairs fade out.",
            source="arXiv:2404.03715, Algorithm 2 and its experiments.",
            knobs={
                "beta": 0.1,
                "threshold": 5.0,
                "margin": 2.0,
                "student_margin": 1.0,
                "top_p": 0.95,
            },
            round={
                "rounds_wanted": 3,
                "samples_per_prompt": 5,
                "temperature": 0.7,
                "pairs_from": "reward_model",
                "pair_rule": "all_pairs",
                "replay": "decay",
                "epochs": 1,
                "batch_size": 64,
                "candidates": 4,
            },
        ),
        "theory": Preset(
            "Nearer to full DNO: answers drawn from the policy as it is, the same margin for "
            "everyone, no older pairs, the best of several checkpoints.",
            source="arXiv:2404.03715, Algorithm 1's sampling put into Algorithm 2.",
            knobs={"beta": 0.1, "student_margin": 2.0},
            round={
                "samples_per_prompt": 8,
                "temperature": 1.0,
                "pairs_from": "reward_model",
                "pair_rule": "all_pairs",
                "replay": "none",
                "epochs": 1,
                "candidates": 4,
            },
        ),
    }

    threshold: float = knob(
        0.0,
        "Lowest score that may win. The paper asks for 5 on a rubric of 0 to 6; 0 suits a "
        "reward model whose scores are centred at 0.",
    )
    margin: float = knob(
        2.0,
        "How much lower than the winner the loser must score. The paper asks for 2 points of "
        "its rubric.",
        at_least=0,
    )
    student_margin: float = knob(
        1.0,
        "The same where the winner is the policy's own answer and not the teacher's. The paper "
        "asks for 1 point of its rubric.",
        at_least=0,
    )
    repeat_words: int = knob(
        4,
        "Length, in words, of the runs whose repetition is counted. The paper gives no number; "
        "4 is ours.",
        at_least=1,
    )
    repeat_share: float = knob(
        0.5,
        "An answer can only lose when more than this share of its runs of words came up earlier "
        "in it. 1 turns this off. The paper gives no number; 0.5 is ours.",
        at_least=0,
        at_most=1,
    )
    top_p: float = knob(
        1.0,
        "Answers are drawn from the likeliest tokens that together have this probability; 1 is "
        "all of them. The paper takes 0.95.",
        above=0,
        at_most=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.student_margin > self.margin:
            raise ValueError(
                f"student_margin relaxes the margin, {self.margin:g}, and cannot be above it"
            )

    def draws(self, samples_per_prompt: int, temperature: float) -> tuple[Draws, ...]:
        return (Draws(n=samples_per_prompt, temperature=temperature, top_p=self.top_p),)

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """Pairs by the paper's rule on scores; people's own pairs by "voted", and where nothing has
        a score. Always certain.

        Votes are never turned around: a pair whose winner repeats itself is left out.
        """
        repeats = [self._repeats(answer.text) for answer in judged.answers]
        scored = [k for k, answer in enumerate(judged.answers) if answer.score is not None]
        if scored and rule != "voted":
            pairs = self._by_score(judged, scored, repeats, rule, seed)
        else:
            found = RULES["voted"](judged, seed)
            pairs = [x for x in found if x.p > 0.5 and not repeats[x.chosen]]
        return [self.example(judged, replace(pair, p=1.0, tie=0.0)) for pair in pairs]

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        margin = self.beta * (logps.gap("policy") - logps.gap("round_start"))  # (B,)
        figures = self.figures(logps, margin, reference="round_start")
        return Loss(self.likelihood(margin, labels), figures)

    def _repeats(self, text: str) -> bool:
        return repeated_share(text, self.repeat_words) > self.repeat_share

    def _by_score(
        self,
        judged: Judged,
        scored: Sequence[int],
        repeats: Sequence[bool],
        rule: str,
        seed: int,
    ) -> list[PairChoice]:
        """Pairs of scored answers by a rule that sees all that repeat themselves on one level, more
        than a margin below the rest; of these, the ones that are clear."""
        lowest = min(score(judged, k) for k in scored) - self.margin - 1
        ranked = [
            replace(judged.answers[k], score=lowest if repeats[k] else score(judged, k))
            for k in scored
        ]
        known = replace(judged, answers=tuple(ranked), votes=(), marks=(), length_penalty=0.0)
        pairs = [
            replace(pair, chosen=scored[pair.chosen], rejected=scored[pair.rejected])
            for pair in RULES[rule](known, seed)
            if self._clear(ranked[pair.chosen], ranked[pair.rejected])
        ]
        return as_one(pairs) if rule == "all_pairs" else pairs

    def _clear(self, positive: Answer, negative: Answer) -> bool:
        """Whether the positive is good enough, and its negative far enough below it."""
        assert positive.score is not None
        assert negative.score is not None
        least = self.margin if positive.source == "teacher" else self.student_margin
        return positive.score >= self.threshold and positive.score - negative.score >= least


def repeated_share(text: str, words: int) -> float:
    """The share of a text's runs of `words` words that came before in it: 0 in a text that never
    repeats itself, near 1 in one that loops."""
    tokens = text.lower().split()
    runs = [tuple(tokens[k : k + words]) for k in range(len(tokens) - words + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
