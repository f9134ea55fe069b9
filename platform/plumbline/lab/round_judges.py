"""A round's judges on its page: who they are, what they were given, and how people saw it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from plumbline.judges import triage
from plumbline.loop import judging, triaging
from plumbline.loop.models import Experiment, Round

WORDS = {
    (triage.PEOPLE, triage.RANDOM): "to people, as the random slice",
    (triage.PEOPLE, triage.UNSURE): "to people, as the judge is not sure enough",
    (triage.PEOPLE, triage.INCONSISTENT): "to people, as the judge contradicts itself",
    (triage.PEOPLE, triage.SILENT): "to people, as the judge gave no verdict",
    (triage.PEOPLE, triage.SUSPENDED): "to people, as the judge is suspended",
    (triage.JUDGE, triage.SURE): "to the judge",
    (triage.JUDGE, triage.WAITING): "held until the judge has spoken",
    (triage.NOBODY, triage.LEFT_OUT): "to nobody: more than people’s votes allow",
    (triage.NOBODY, triage.INCONSISTENT): "to nobody, as the judge contradicts itself",
    (triage.NOBODY, triage.SUSPENDED): "to nobody: the judge is suspended, votes are used up",
}


def panel(round: Round) -> dict[str, Any] | None:
    """None of a round without judges."""
    by_judge = round.experiment.judge == Experiment.Judge.JUDGE
    if not (round.experiment.judged or by_judge):
        return None
    judges = list(
        round.judges.select_related("version__judge", "calibration").defer("calibration__rows")
    )
    if not judges:
        return None
    found: dict[str, Any] = {
        "judges": judges,
        "suspended": triaging.suspended(round),
        "evaluated": round.figures.get("evaluated_by_judge", {}).get("current"),
        "promise": (promise := round.figures.get("triage")),
        "sure": 0.5 + promise["above"] if promise and promise["above"] is not None else None,
    }
    if round.experiment.judged:
        labellers = [one for one in judges if one.role == judging.LABEL]
        counts = Counter(round.sent.values_list("to", "why"))
        found |= {
            "sent": [(WORDS.get(key, " ".join(key)), n) for key, n in counts.most_common()],
            "several": len(labellers) > 1,
            "watch": triaging.watched(round) if round.sent.exists() else None,
        }
    return found
