"""What the kinds that ask a language model about pairs have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from align import judging
from align.judge_jobs import JudgeJob
from align.knobs import knob
from plumbline.judges import kind
from plumbline.judges.kind import Kind, Parts
from plumbline.judges.models import JudgeVersion


@dataclass(frozen=True, kw_only=True)
class Asking(Kind):
    """The knobs of kinds that ask a language model about pairs."""

    verdict: str = knob(
        "auto",
        "How a verdict is read: from the probabilities of its letter (tokens), from JSON that the "
        "endpoint holds the reply to (schema), or from a marker at the reply's end (marker). auto "
        "takes tokens where the endpoint gives them and schema where it does not.",
        choices=("auto", "tokens", "schema", "marker"),
    )
    labels: str = knob(
        "letters",
        "What the two sides are called: A and B, or letters drawn for each question (random), "
        "which no answer can name in advance.",
        choices=("letters", "random"),
    )
    slight: float = knob(0.75, "P(better) of a verdict of slightly better.", above=0.5, below=1.0)
    clear: float = knob(0.95, "P(better) of a verdict of much better.", above=0.5, below=1.0)
    least_mass: float = knob(
        0.05,
        "Verdict tokens: what the three letters together must weigh for the reply to count.",
        at_least=0,
        at_most=1,
    )
    temperature: float = knob(
        0.0, "Of the reply, where it is words; 0 takes the likeliest.", at_least=0, at_most=2
    )
    max_tokens: int = knob(1024, "Tokens of a reply in words, at most.", at_least=16, at_most=32768)
    seed: int = knob(0, "Of nonces, labels and sampled words.", at_least=0, at_most=1_000_000)

    def freeze(self, parts: Parts) -> dict[str, Any]:
        if self.slight > self.clear:
            raise ValueError("Slightly better cannot be surer than much better.")
        return {
            **super().freeze(parts),
            "system": self.system(),
            "question": judging.QUESTION,
            "wording": judging.WORDING,
        }

    def system(self) -> str:
        """What the judge is told of its task."""
        return judging.SYSTEM

    def asking(self, version: JudgeVersion, **more: Any) -> JudgeJob:
        """The job of a version. Raises ValueError where the code words questions differently by
        now."""
        frozen = version.settings
        if frozen["wording"] != judging.WORDING:
            raise ValueError(
                f"{version} was made when questions were worded differently. Revise the judge."
            )
        return JudgeJob(
            asked=kind.asked(version),
            system=frozen["system"],
            question=frozen["question"],
            guidance=frozen.get("guidance", ""),
            mode=self.verdict,  # type: ignore[arg-type]  # one of the knob's choices
            labels=self.labels,  # type: ignore[arg-type]
            slight=self.slight,
            clear=self.clear,
            least_mass=self.least_mass,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
            **more,
        )
