"""What a researcher sets for one round's campaign holds for the next round's as well."""

from __future__ import annotations

import pytest

from plumbline.collect import versions
from plumbline.collect.models import Campaign
from plumbline.loop import campaigns
from plumbline.loop.models import Stage
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


def test_what_people_read_and_are_tested_by_carries_over(project, alice):
    experiment = lab.experiment(project)
    first = lab.round_at(experiment, Stage.LABEL)
    first.campaign = campaigns.open_campaign(first, Campaign.Purpose.TRAIN)
    first.save()
    example = {"prompt": "Why?", "better": "Because.", "worse": "No.", "why": ""}
    told = {"guidelines": "Be kind.", "examples": [example], "quality": {"gold_start": 0.2}}
    versions.change(first.campaign, told, alice)
    second = lab.finished_round(experiment, steps=1)
    opened = campaigns.open_campaign(second, Campaign.Purpose.TRAIN)
    assert {name: getattr(opened, name) for name in told} == told
    assert opened.settings_version == 1
