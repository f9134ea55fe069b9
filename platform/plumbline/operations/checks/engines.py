"""Engines answer and serve, under each name, the folder that the database has for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.utils import timezone

from plumbline.operations.check import Check, Finding
from plumbline.policies import engines, routes, serving
from plumbline.policies.models import Loan, Policy, Reload

SECONDS = 10.0
Cards = dict[str, dict[str, Any]]


class EnginesCheck(Check):
    title = "Engines serve what the aliases need."
    needs_engines = True

    def look(self) -> Iterator[Finding]:
        wanted = list(routes.needed().order_by("name"))
        folders = dict(Policy.objects.exclude(path="").values_list("name", "path"))
        busy = Loan.objects.exists() or Reload.objects.filter(until__gt=timezone.now()).exists()
        for url, answer in zip(engines.urls(), engines.each(engines.urls(), _ask), strict=True):
            self.seen += 1
            if isinstance(answer, str):
                yield self.found(
                    url,
                    f"{answer[:1].upper()}{answer[1:]}.",
                    "Start it (`manage.py engine`), or set ENGINE_URL to where it is.",
                )
                continue
            yield from self._differing(url, answer, folders)
            yield from () if busy else self._lacking(url, answer, wanted)

    def _lacking(self, url: str, cards: Cards, wanted: list[Policy]) -> Iterator[Finding]:
        for policy in wanted:
            if serving.engine_name(policy) not in cards:
                yield self.found(
                    url,
                    f"The engine at {url} does not serve {policy.name}, which an alias needs.",
                    "`manage.py runloop` loads it again within seconds; see its log.",
                )

    def _differing(self, url: str, cards: Cards, folders: dict[str, str]) -> Iterator[Finding]:
        for name, card in sorted(cards.items()):
            root = card.get("root")
            if name in folders and root not in (None, folders[name]):
                yield self.found(
                    url,
                    f"The engine at {url} serves {root} under the name {name}, which stands for "
                    f"{folders[name]}.",
                    "Unload that name in the engine, or start the engine again.",
                )


def _ask(url: str) -> Cards | str:
    """Its cards, or what is wrong with it. Runs beside others, without the database."""
    try:
        return engines.cards(url, SECONDS)
    except engines.EngineError as error:
        return str(error)
