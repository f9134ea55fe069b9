"""Seven to nine answers: the best and the worst of them, all others tied between. People cannot
hold a full order of so many (best-worst scaling; Kiritchenko and Mohammad, 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from plumbline.collect.kinds.part import Part
from plumbline.collect.models import Ballot


class BestWorst(Part):
    name = "best_worst"
    in_pane = in_bar = True

    def fields(self) -> dict[str, forms.Field]:
        answers = [(str(n), letter) for n, letter in enumerate(self.letters)]
        return {
            "all_bad": forms.BooleanField(required=False),
            "best": forms.ChoiceField(choices=answers, required=False),
            "worst": forms.ChoiceField(choices=answers, required=False),
        }

    def problem(self, cleaned: Mapping[str, Any]) -> str:
        if cleaned.get("all_bad"):
            return ""
        best, worst = cleaned.get("best"), cleaned.get("worst")
        if not best or not worst:
            return "Say which answer is the best and which is the worst."
        return "The best and the worst are two answers." if best == worst else ""

    def said(self, cleaned: Mapping[str, Any]) -> dict[str, Any]:
        if cleaned["all_bad"]:
            return {"outcome": Ballot.Outcome.ALL_BAD}
        best, worst = self.shown[int(cleaned["best"])], self.shown[int(cleaned["worst"])]
        between = sorted(set(self.shown) - {best, worst})
        return {"outcome": Ballot.Outcome.RANKED, "ranking": [[best], between, [worst]]}

    def fill(self, ballot: Ballot) -> dict[str, Any]:
        if ballot.outcome == Ballot.Outcome.ALL_BAD:
            return {"all_bad": "on"}
        if len(ballot.ranking) < 2:
            return {}
        ends = {"best": ballot.ranking[0], "worst": ballot.ranking[-1]}
        return {
            name: str(self.shown.index(group[0])) for name, group in ends.items() if len(group) == 1
        }

    def at_pane(self, n: int, given: Mapping[str, Any]) -> dict[str, Any]:
        ends = [("best", "Best"), ("worst", "Worst")]
        return {
            "n": n,
            "letter": self.letters[n],
            "ends": [(name, word, str(given.get(name, "")) == str(n)) for name, word in ends],
        }

    def at_bar(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {"all_bad": bool(given.get("all_bad"))}
