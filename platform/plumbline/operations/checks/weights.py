"""Policies' and reward models' folders against the manifests that they were registered with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from django.db.models import QuerySet

from plumbline.operations.check import Check, Finding
from plumbline.policies import manifest
from plumbline.policies.models import Policy, RewardModel


class WeightsCheck(Check):
    title = "All weights are the ones that were registered."

    def look(self) -> Iterator[Finding]:
        for path, names in sorted(_bases().items()):
            self.seen += 1
            if not (Path(path) / "config.json").is_file():
                yield self.found(
                    path,
                    f"The base model of {names} is not at {path}.",
                    "Put the folder back where it was, or mount the storage that holds it.",
                )
        yield from self._folders(RewardModel.objects.order_by("name"), "reward model")
        trained = Policy.objects.exclude(weights=Policy.Weights.BASE).order_by("name")
        yield from self._folders(trained, "policy")

    def _folders(
        self, rows: QuerySet[Policy] | QuerySet[RewardModel], noun: str
    ) -> Iterator[Finding]:
        look = manifest.outline if self.quick else manifest.verify
        for row in rows.iterator():
            self.seen += 1
            try:
                look(Path(row.path), row.sha256)
            except (ValueError, OSError) as error:
                yield self.found(
                    row.name,
                    f"The {noun} {row.name} is not what was registered: {error}.",
                    "Restore its folder from a backup; until then no engine loads it.",
                )


def _bases() -> dict[str, str]:
    """Folders of base models that some policy needs, with a name of one that does."""
    found: dict[str, str] = {}
    for path, name in Policy.objects.order_by("-name").values_list("base_model", "name"):
        found[path] = name
    return found
