"""What each of a generation's programs is asked to look at first, so that they differ."""

from __future__ import annotations

EMPHASES = {
    "concise": "Reward answers that say what is needed in few words.",
    "complete": "Reward answers that leave nothing important out.",
    "tone": "Reward the right tone: how the answer speaks to the person.",
    "grounding": "Reward answers that keep to the question and to what is certain.",
    "structure": "Reward answers whose form helps reading: order, paragraphs, lists where apt.",
    "free": "Reward whatever you think people will like best here; differ from the obvious.",
}


def of_arm(arm: int) -> str:
    """The emphasis of an arm; more arms than emphases begin again."""
    return list(EMPHASES)[arm % len(EMPHASES)]
