"""DPA - Directional Preference Alignment (arXiv:2402.18571): one policy, turned by a direction.

A direction v is drawn for a prompt within an angle of the first attribute; of the prompt's answers
the one of the greatest R_v = v . r(x, y) is kept and trained on as plain text, with v written into
the system line, times 100. Whoever serves the policy puts such a line (`align.directions`) before
a conversation to say what counts.

Departures: the authors' code was never released; the recipe is secondary. Attributes are two to
four, the reward model's score (or the share of votes) and others that are measured on the text,
each standardised among the prompt's answers, where theirs are heads of one regression over ten.
Answers are those that the round drew, without a direction. The pair rule is not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from align import directions, factors
from align.algorithm import Algorithm, Example, Labels, LogProbs, Loss, Preset, knob
from align.pairing import Judged, known, score
from align.rows import Message

FIRST = "quality"
NONE = "none"
# Factors of an answer alone: a prompt's text is not among what is judged.
MEASURED = tuple(name for name in factors.FACTORS if name != "question_repeated")


@dataclass(frozen=True, kw_only=True)
class DPA(Algorithm):
    title: ClassVar[str] = "DPA"
    references: ClassVar[tuple[str, ...]] = ()
    written: ClassVar[tuple[str, ...]] = ("v.first", "v.second", "v.third", "v.fourth")
    roles: ClassVar[tuple[str, ...]] = ("chosen",)
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            "The best of 16 by one direction a prompt, within 45 degrees of the score.",
            source="arXiv:2402.18571 as secondary notes have it; its code was never released.",
            knobs={"angle": 45.0, "directions": 1, "second": "words", "reduction": "mean"},
            round={
                "samples_per_prompt": 16,
                "temperature": 1.0,
                "pairs_from": "reward_model",
                "pair_rule": "max_min",
                "replay": "none",
                "epochs": 1,
            },
        ),
        "theory": Preset(
            "Several directions for each prompt, so that what tells its answers apart is the "
            "direction alone; likelihoods of whole answers.",
            source="arXiv:2402.18571: its expectation over directions, with more draws of them.",
            knobs={"angle": 45.0, "directions": 4, "second": "words", "reduction": "sum"},
            round={
                "samples_per_prompt": 8,
                "temperature": 1.0,
                "pairs_from": "reward_model",
                "pair_rule": "max_min",
                "replay": "none",
                "epochs": 1,
            },
        ),
    }

    angle: float = knob(
        45.0,
        "How far a direction may turn from the score, in degrees, to either side.",
        at_least=0,
        at_most=90,
    )
    directions: int = knob(
        4, "How many directions are drawn for each prompt, each an example.", at_least=1, at_most=32
    )
    second: str = knob(
        "words",
        "What counts besides the score: a factor that is measured on the text.",
        choices=MEASURED,
    )
    third: str = knob(
        NONE,
        "A further factor that counts, if any.",
        choices=(NONE, *MEASURED),
    )
    fourth: str = knob(
        NONE,
        "And another.",
        choices=(NONE, *MEASURED),
    )
    reduction: str = knob(
        "mean",
        "Whether cross-entropy is averaged over an answer's tokens (mean) or summed (sum), which "
        "gives long answers more weight.",
        choices=("mean", "sum"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.attributes)) < len(self.attributes):
            raise ValueError("second, third and fourth must be different factors")

    @property
    def attributes(self) -> tuple[str, ...]:
        """What a direction weighs, in the order in which it is written."""
        others = (self.second, self.third, self.fourth)
        return (FIRST, *(one for one in others if one != NONE))

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """The winner of each direction drawn for the prompt."""
        told = [index for index in known(judged) if not judged.answers[index].truncated]
        if len({judged.answers[index].text for index in told}) < 2:
            return []
        rewards = self.rewards(judged, told)
        found = []
        for number in range(self.directions):
            v = directions.drawn(self.attributes, self.angle, f"{seed}:{judged.prompt}:{number}")
            chosen = told[directions.best(v, rewards)]
            facts = dict(zip(self.written, v.values(), strict=False))
            found.append(Example({"chosen": chosen}, facts=facts))
        return found

    def rewards(self, judged: Judged, told: Sequence[int]) -> list[dict[str, float]]:
        """r(x, y) of these answers, each attribute standardised among them."""
        columns = {FIRST: directions.standard([score(judged, index) for index in told])}
        for name in self.attributes[1:]:
            measure = factors.FACTORS[name].measure
            columns[name] = directions.standard(
                [measure("", judged.answers[index].text) for index in told]
            )
        return [{name: values[at] for name, values in columns.items()} for at in range(len(told))]

    def conversation(
        self, messages: Sequence[Message], facts: Mapping[str, float]
    ) -> list[Message]:
        """The prompt with its direction as the end of the system line."""
        there = [facts[name] for name in self.written if name in facts]
        return directions.put(messages, dict(zip(self.attributes, there, strict=True)))

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        tokens = labels.tokens["chosen"] if self.reduction == "mean" else 1
        cross_entropy = -logps.of("policy", "chosen") / tokens  # (B,)
        return Loss(cross_entropy, {"cross_entropy": cross_entropy})
