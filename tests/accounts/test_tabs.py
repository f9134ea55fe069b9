"""Every page of a project stands under one tab of its bar, and the bar says which."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import get_resolver

from plumbline.accounts.templatetags.tabs import TABS, tab
from tests.comparisons import open_campaign

HEADLESS = ("ballots/", "my-keys/")  # a ballot has the screen for itself; keys are of a person


def addresses(patterns: Any, before: str = "") -> Iterator[str]:
    for one in patterns:
        path = before + str(one.pattern)
        if hasattr(one, "url_patterns"):
            yield from addresses(one.url_patterns, path)
        else:
            yield path


def test_every_address_of_a_project_belongs_to_a_tab(rf):
    everything = [path for path in addresses(get_resolver().url_patterns) if path.startswith("p/")]
    assert len(everything) > 100
    for path in everything:
        below, found = path.split("/", 2)[2], tab(rf.get(f"/{path}"))
        if not below:
            assert found == "project"
        elif below.startswith(HEADLESS):
            assert found == ""
        else:
            assert found in TABS, below


def test_no_address_belongs_to_two_tabs():
    starts = [start for each in TABS.values() for start in each]
    assert not [(a, b) for a in starts for b in starts if a != b and a.startswith(b)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", "Alpha"),
        ("campaigns/{campaign}/quality/", "Campaigns"),
        ("campaigns/{campaign}/manage/", "Campaigns"),
        ("lab/judges/tastes/", "Judges"),
        ("health/", "Jobs"),
        ("usage/", "Keys"),
    ],
)
def test_the_bar_marks_one_tab(path, name, project, dana, client_for):
    campaign = open_campaign(project)
    page = client_for(dana).get(f"/p/alpha/{path.format(campaign=campaign.pk)}")
    bar = re.search(r'<nav class="places".*?</nav>', page.content.decode(), re.S)
    assert bar
    assert re.findall(r'aria-current="page">([^<]*)<', bar[0]) == [name]
