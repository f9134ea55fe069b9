"""Votes on live answers train like any other, on what their voter had seen."""

from __future__ import annotations

from uuid import uuid4

import pytest

from plumbline.collect import live
from plumbline.collect.models import PromptSet
from plumbline.collect.queue import Verdict
from plumbline.loop import campaigns, rows
from tests.collect.live_ground import grow, live_campaign

pytestmark = pytest.mark.django_db


def test_a_live_vote_is_evidence_and_an_unfinished_comparison_is_none(
    experiment_of, project, bob, carol
):
    campaign = live_campaign(project, prompts=2)
    experiment = experiment_of(prompt_set=PromptSet.objects.get(pk=campaign.live["prompts"]))
    judged, waiting = live.begin(bob, campaign), live.begin(carol, campaign)
    for one in (judged, waiting):
        grow(one, 0, "Paris is", "writing")
        grow(one, 1, "Lyon.", "done", finish_reason="stop", token_ids=[7, 2])
    first_better = Verdict(outcome="ranked", ranking=[[0], [1]], strength=2)
    vote = live.cast(judged, first_better, uuid4(), {0: (1, 5), 1: (1, 6)})
    found = campaigns.evidence(campaigns.offline(experiment))
    assert list(found) == [vote]
    (row,) = rows.comparison_rows(found)
    assert [(one["text"], one["token_ids"], one["finish_reason"]) for one in row["responses"]] == [
        ("Paris", None, "cut"),
        ("Lyon.", [7, 2], "stop"),
    ]
