"""An answer as the person would have it. The whole corrected text is kept, by slot; the difference
is always worked out from the two texts. A text left as it was is no correction. An answer that is
still being written waits for its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from plumbline.collect import asking
from plumbline.collect.changes import lines_as_python
from plumbline.collect.kinds.part import Part
from plumbline.collect.models import Ballot

LONGEST = 100_000


class Correct(Part):
    name = "correct"
    in_pane = True

    def fields(self) -> dict[str, forms.Field]:
        return {
            f"correct_{n}": forms.CharField(required=False, strip=False, max_length=LONGEST)
            for n in range(len(self.shown))
        }

    def problem(self, cleaned: Mapping[str, Any]) -> str:
        alone = not ({asking.COMPARE, asking.RATE} & set(self.campaign.asks))
        if alone and not self.said(cleaned):
            return "Correct the answer, or skip it when there is nothing to correct."
        return ""

    def said(self, cleaned: Mapping[str, Any]) -> dict[str, Any]:
        texts = self.texts()
        corrected = {
            str(slot): lines_as_python(cleaned.get(f"correct_{n}") or "")
            for n, slot in enumerate(self.shown)
        }
        changed = {
            slot: text
            for slot, text in corrected.items()
            if int(slot) in texts and text.strip() and text != lines_as_python(texts[int(slot)])
        }
        return {"corrections": changed} if changed else {}

    def fill(self, ballot: Ballot) -> dict[str, Any]:
        return {
            f"correct_{n}": ballot.corrections[str(slot)]
            for n, slot in enumerate(self.shown)
            if str(slot) in ballot.corrections
        }

    def at_pane(self, n: int, given: Mapping[str, Any]) -> dict[str, Any]:
        texts, slot = self.texts(), self.shown[n]
        original = lines_as_python(texts.get(slot, ""))
        text = lines_as_python(str(given.get(f"correct_{n}") or original))
        return {
            "n": n,
            "name": f"correct_{n}",
            "letter": self.letters[n],
            "waits": slot not in texts,
            "text": text,
            "changed": text != original,
            "original": original,
        }
