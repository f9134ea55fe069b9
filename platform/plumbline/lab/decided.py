"""What a round's page tells of decisions: those on its policy, retracted votes, rebuilds."""

from __future__ import annotations

from typing import Any

from plumbline.loop import decisions, lineage, rebuilding
from plumbline.loop.models import Round


def about(round: Round) -> dict[str, Any]:
    """For the templates that the page includes."""
    tainted = lineage.tainted(round.experiment.project)
    return {
        "decisions": decisions.history([round.policy_out]) if round.policy_out else [],
        "taint": next((one for one in tainted if one.round.pk == round.pk), None),
        "same_weights": rebuilding.same_weights(round),
    }
