"""What an alignment algorithm is: knobs, a sampling plan, a rule that makes examples, and a loss.

A subclass is one file in `align/algorithms/`. It is light enough for the web process to import
(tensors appear only in annotations), so the launch form, validation and help text are derived
from the same declaration the trainer runs. The trainer never asks which algorithm it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.knobs import Declared, knob
from align.pairing import RULES, Judged, PairChoice
from align.rows import Message

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MISMATCHED",
    "Algorithm",
    "Draws",
    "Example",
    "Labels",
    "LogProbs",
    "Loss",
    "Preset",
    "knob",
    "logsigmoid",
]

MISMATCHED = "mismatched"  # a probe that the trainer makes: another prompt's answer, under this one


class LogProbs:
    """Summed response log-probabilities (nats), by model and by role.

    `values[model][role]` has shape (B,): `model` is "policy" or a reference's name, `role` one of
    the algorithm's roles. `divergences[reference][role]`, where the algorithm asks for it, is
    KL(reference || policy) over the whole vocabulary, summed over response tokens, (B,). Only what
    depends on "policy" carries a gradient.
    """

    def __init__(
        self,
        values: Mapping[str, Mapping[str, Tensor]],
        divergences: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> None:
        self.values = values
        self.divergences = divergences or {}

    def of(self, model: str, role: str) -> Tensor:
        return self.values[model][role]

    def gap(self, model: str) -> Tensor:
        """l_m(chosen) - l_m(rejected), shape (B,)."""
        return self.of(model, "chosen") - self.of(model, "rejected")

    def ratio(self, role: str, reference: str) -> Tensor:
        """rho(y) = l_policy(y) - l_reference(y), shape (B,)."""
        return self.of("policy", role) - self.of(reference, role)

    def divergence(self, reference: str, role: str) -> Tensor:
        return self.divergences[reference][role]


@dataclass(frozen=True)
class Labels:
    """What the data says of each example; every tensor has shape (B,).

    `p` = P(chosen > rejected). `facts` are the figures the algorithm's examples carry. `tokens`
    counts response tokens by role, the end of turn included. `baseline` is what the algorithm made
    of its probes over the whole batch, a scalar.
    """

    p: Tensor
    facts: Mapping[str, Tensor] = field(default_factory=dict)
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    baseline: Tensor | None = None

    def of(self, fact: str) -> Tensor:
        return self.facts[fact]


@dataclass(frozen=True)
class Loss:
    """Per-example losses (B,), not reduced, and named per-example figures (B,) worth logging."""

    losses: Tensor
    metrics: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """`n` completions of each prompt. `source` is the name that the answers carry from here on.

    They come from the policy the round starts with, from the experiment's initial policy, or from
    their average in weight space with `initial_share` of the latter.
    """

    n: int
    temperature: float
    top_p: float = 1.0
    source: str = "policy"
    model: Literal["round_start", "initial", "mixture"] = "round_start"
    initial_share: float = 0.0

    def halved(self, other: float | None) -> tuple[Draws, ...]:
        """A half as it is and a half at the temperature `other`; undivided where there is no other
        temperature, the draw is not of the policy's own answers, or it is a single answer."""
        half = self.n // 2
        if other is None or self.source != "policy" or not half:
            return (self,)
        return replace(self, n=self.n - half), replace(self, n=half, temperature=other)


@dataclass(frozen=True)
class Example:
    """One training example out of a prompt's judged answers: index by role; `p` = P(chosen >
    rejected); figures for the loss."""

    answers: Mapping[str, int]
    p: float = 1.0
    weight: float = 1.0
    facts: Mapping[str, float] = field(default_factory=dict)

    def adding(
        self, *, answers: Mapping[str, int] | None = None, facts: Mapping[str, float] | None = None
    ) -> Example:
        """The same example with further answers and figures."""
        return replace(
            self,
            answers={**self.answers, **(answers or {})},
            facts={**self.facts, **(facts or {})},
        )


@dataclass(frozen=True)
class Preset:
    """Settings that belong together: of the algorithm, and of the round around it.

    `round` holds fields of the launch form by name (reference, replay, pair_rule, ...). What a
    preset does not name keeps its default, learning rates of 7B models among them. `source` says
    where the values are from.
    """

    about: str
    source: str
    knobs: Mapping[str, Any] = field(default_factory=dict)
    round: Mapping[str, Any] = field(default_factory=dict)

    def quick(self, samples_per_prompt: int = 4, **knobs: Any) -> Preset:
        """The smallest round that passes every stage with this preset's rules: a look at whether
        all works together, which takes minutes and teaches next to nothing."""
        drawn = min(samples_per_prompt, self.round.get("samples_per_prompt", samples_per_prompt))
        small = {
            "rounds_wanted": 1,
            "prompts_per_round": 16,
            "samples_per_prompt": drawn,
            "max_tokens": 48,
            "prompts_compared": 0,
            "overlap": 1,
            "epochs": 1,
            "batch_size": 8,
            "candidates": 0,
            "reward_folds": 0,
            "heldout_prompts": 16,
        }
        return Preset(
            "Does it all work together? One round of 16 prompts with short answers, one vote each: "
            "minutes, and too little to learn from.",
            source="Ours: the smallest round that passes every stage.",
            knobs={**self.knobs, **knobs},
            round={**self.round, **small},
        )


def logsigmoid(x: Tensor) -> Tensor:
    """log sigmoid(x) without importing torch; equal to torch's to 1e-44 on [-1e4, 1e4]."""
    return -(-x).logaddexp(x.new_zeros(()))


@dataclass(frozen=True, kw_only=True)
class Algorithm(Declared):
    """Base of all algorithms; the fields of a subclass are its knobs.

    What the loss reads (`roles`, `references`, `facts`, `divergences`) may depend on the knobs: a
    subclass overrides the property, or puts a ClassVar in its place where it is always the same.

    Attributes:
        pair_rule: the default rule of `align.pairing` that turns judged answers into pairs.
        selection: the strategy that picks which answers people compare.
        probes: roles that are read without gradient over the whole batch, for `baseline`;
            MISMATCHED among them comes from the trainer, not from the examples.
        teacher: whether answers that were imported with the prompts are candidates as well.
        written: figures that examples may carry for the prompt's text (`conversation`), not the
            loss.
        presets: settings that belong together, by name.
    """

    pair_rule: ClassVar[str] = "voted"
    selection: ClassVar[str] = "random"
    probes: ClassVar[tuple[str, ...]] = ()
    teacher: ClassVar[bool] = False
    written: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[Mapping[str, Preset]] = {}

    @property
    def roles(self) -> tuple[str, ...]:
        """The responses of an example that the loss reads with a gradient."""
        return ("chosen", "rejected")

    @property
    def references(self) -> tuple[str, ...]:
        """Frozen policies whose log-probabilities the loss reads: "reference" (what the round's
        reference mode says), "initial" (pi_0), "round_start" (pi_t). Each costs a pass."""
        return ("reference",)

    @property
    def facts(self) -> tuple[str, ...]:
        """Figures that every example must carry, by name."""
        return ()

    @property
    def divergences(self) -> tuple[str, ...]:
        """References whose whole-vocabulary divergence the loss reads; each is kept in memory."""
        return ()

    @classmethod
    def offered(cls) -> dict[str, Preset]:
        """The presets by name, and "quick" last: a small round by the theory's rules, where the
        algorithm declares no other."""
        found = dict(cls.presets)
        if "theory" in found:
            found.setdefault("quick", found["theory"].quick())
        return found

    def warnings(self) -> tuple[str, ...]:
        """Sentences on settings that are allowed and likely to disappoint."""
        return ()

    def draws(self, samples_per_prompt: int, temperature: float) -> tuple[Draws, ...]:
        """What to sample for each prompt of a round."""
        return (Draws(n=samples_per_prompt, temperature=temperature),)

    def examples(self, judged: Judged, rule: str, seed: int) -> list[Example]:
        """One prompt's judged answers -> training examples, by a named rule of `align.pairing`."""
        return [self.example(judged, choice) for choice in RULES[rule](judged, seed)]

    def example(self, judged: Judged, choice: PairChoice) -> Example:
        """A pair as an example, with the figures and further answers that the loss reads."""
        answers = {"chosen": choice.chosen, "rejected": choice.rejected}
        return Example(answers, choice.p, choice.weight, {"tie": choice.tie})

    def conversation(
        self, messages: Sequence[Message], facts: Mapping[str, float]
    ) -> list[Message]:
        """The prompt as an example with these figures is trained on: as it is, unless the figures
        belong into its text."""
        return list(messages)

    def baseline(self, logps: LogProbs) -> Tensor:
        """A scalar from the probes' log-probabilities over the whole batch, without gradient."""
        raise NotImplementedError

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        raise NotImplementedError
