"""Batches of random figures for any algorithm's loss, whatever roles and facts it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from align import algorithms
from align.algorithm import Algorithm, Labels, LogProbs, Loss
from align.knobs import Knob
from align.mirror import MirrorStep

COUNT = 5
SIDES = {"chosen": "rejected", "rejected": "chosen"}


def presets() -> dict[str, Algorithm]:
    """Every algorithm with the settings it has by default, and with those of its presets."""
    found = {}
    for name, cls in algorithms.discover().items():
        found[name] = cls()
        found |= {f"{name}-{n}": cls.build(p.knobs) for n, p in cls.presets.items()}
    return found


def varied() -> dict[str, Algorithm]:
    """These, and the default settings with one knob moved to a choice or to an end."""
    found = presets()
    for name, cls in algorithms.discover().items():
        for one in cls.knobs():
            for value in ends(cls, one):
                with suppress(ValueError):  # not together with the others' defaults
                    found[f"{name}-{one.name}={value}"] = cls.build({one.name: value})
    return found


def ends(cls: type[Algorithm], one: Knob) -> list[Any]:
    if one.type is bool:
        return [True, False]
    if one.name == "tau" and issubclass(cls, MirrorStep):
        return [0.0, cls().eta / 2, cls().eta]
    return [*(one.choices or ()), *({one.at_least, one.at_most} - {None})]


NAMES = list(algorithms.discover())
SETTINGS, VARIED = presets(), varied()


@dataclass(frozen=True)
class Batch:
    """What a loss reads: log-probabilities by model and role, labels, divergences."""

    models: dict[str, dict[str, Tensor]]
    labels: Labels
    divergences: dict[str, dict[str, Tensor]]

    def loss(self, algorithm: Algorithm) -> Loss:
        """The loss as the trainer asks for it, the probes' baseline first."""
        logps = LogProbs(self.models, self.divergences)
        found = algorithm.baseline(logps).detach() if algorithm.probes else None
        return algorithm.loss(logps, replace(self.labels, baseline=found))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same with every tensor of shape (B,) put through `change`."""
        return Batch(
            {n: {r: change(v) for r, v in roles.items()} for n, roles in self.models.items()},
            Labels(
                p=change(self.labels.p),
                facts={n: change(v) for n, v in self.labels.facts.items()},
                tokens={r: change(v) for r, v in self.labels.tokens.items()},
            ),
            {n: {r: change(v) for r, v in roles.items()} for n, roles in self.divergences.items()},
        )

    def swapped(self) -> Batch:
        """Chosen and rejected exchanged, in everything that is said of them."""

        def turn(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            names = {n: n.rpartition(".") for n in values}
            return {
                a + dot + SIDES.get(side, side): values[n]
                for n, (a, dot, side) in names.items()
            }  # fmt: skip

        return Batch(
            {name: turn(roles) for name, roles in self.models.items()},
            Labels(1 - self.labels.p, turn(self.labels.facts), turn(self.labels.tokens)),
            {name: turn(roles) for name, roles in self.divergences.items()},
        )


def fact(name: str, count: int, generator: torch.Generator) -> Tensor:
    """A figure in its range; what is said of the chosen answer is the better of the two."""
    kind, _, role = name.partition(".")
    if kind == "tie":
        return torch.zeros(count, dtype=torch.float64)
    if kind == "explored":  # one of the two answers was
        return torch.full((count,), float(role == "chosen"), dtype=torch.float64)
    drawn = torch.rand(count, generator=generator, dtype=torch.float64) / 2
    return drawn + 0.5 if role == "chosen" else drawn


def batch(algorithm: Algorithm, *, p: Tensor | None = None, at_start: bool = False) -> Batch:
    """Random values for all that the algorithm reads; `at_start` every policy is the same one, and
    both answers are as likely."""
    generator = torch.Generator().manual_seed(0)

    def row() -> Tensor:
        return -40 * torch.rand(COUNT, generator=generator, dtype=torch.float64)

    roles = (*algorithm.roles, *algorithm.probes)
    models = {name: {role: row() for role in roles} for name in ("policy", *algorithm.references)}
    if at_start:
        models["policy"] = {role: models["policy"][roles[0]].clone() for role in roles}
        for name in algorithm.references:
            models[name] = {role: v.clone() for role, v in models["policy"].items()}
    for leaf in models["policy"].values():
        leaf.requires_grad_(True)
    labels = Labels(
        p=torch.ones(COUNT, dtype=torch.float64) if p is None else p,
        facts={n: fact(n, COUNT, generator) for n in ("tie", *algorithm.facts)},
        tokens={
            role: torch.randint(1, 50, (COUNT,), generator=generator).double()
            for role in algorithm.roles
        },
    )
    apart = {n: {role: row().neg() for role in algorithm.roles} for n in algorithm.divergences}
    return Batch(models, labels, apart)


def of_pairs(settings: Mapping[str, Algorithm]) -> dict[str, Algorithm]:
    return {label: it for label, it in settings.items() if set(SIDES) <= set(it.roles)}
