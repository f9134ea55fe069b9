"""Why, in words and by the campaign's short reasons. A note is always possible; where a campaign
asks for a critique, the words are required."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from plumbline.collect import asking
from plumbline.collect.kinds.part import Part
from plumbline.collect.models import Ballot

LONGEST = 2000


class Critique(Part):
    name = "critique"
    in_bar = True

    @property
    def wanted(self) -> bool:
        return asking.CRITIQUE in self.campaign.asks

    def fields(self) -> dict[str, forms.Field]:
        needed = {"required": "Say why in words; this campaign asks for it."}
        reasons = [(reason, reason) for reason in self.campaign.reasons]
        return {
            "comment": forms.CharField(
                required=self.wanted, max_length=LONGEST, error_messages=needed
            ),
            "reasons": forms.MultipleChoiceField(choices=reasons, required=False),
        }

    def said(self, cleaned: Mapping[str, Any]) -> dict[str, Any]:
        return {"comment": cleaned["comment"], "reasons": cleaned["reasons"]}

    def fill(self, ballot: Ballot) -> dict[str, Any]:
        return {"comment": ballot.comment, "reasons": ballot.reasons}

    def at_bar(self, given: Mapping[str, Any]) -> dict[str, Any]:
        chosen = given.get("reasons") or []
        return {
            "wanted": self.wanted,
            "comment": given.get("comment", ""),
            "reasons": [(reason, reason in chosen) for reason in self.campaign.reasons],
        }
