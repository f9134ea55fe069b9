"""The page that blends policies, and the picture of what came of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from plumbline.loop import blending
from plumbline.loop.models import Experiment
from plumbline.policies.models import Policy, RewardModel
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
URL = "/p/alpha/lab/blends/new/"


@pytest.fixture
def policies(project: Any, tmp_path: Path) -> list[Policy]:
    return lab.adapters(project, tmp_path)


@pytest.fixture
def models(project: Any) -> list[RewardModel]:
    return lab.reward_models(project, "helpful", "brief")


@pytest.fixture
def sent(project: Any, policies: list[Policy], models: list[RewardModel]) -> dict[str, Any]:
    return {
        **{"name": "Between", "method": "soup", "own": 0.7, "alpha": 0.5, "steps": 0, "seed": 0},
        **{"policy-1": policies[0].pk, "share-1": 75, "policy-2": policies[1].pk, "share-2": 25},
        **{"policy-3": "", "share-3": 0, "policy-4": "", "share-4": 0, "judge": models[0].pk},
        **{"objectives": [one.pk for one in models], "heldout_prompts": 3, "max_tokens": 24},
        **{"gate_win_rate": 0.5, "gate_kl": 50, "prompt_set": lab.prompt_set(project).pk},
    }


def test_the_coefficients_are_shown_while_sliders_move(researcher: Any, sent: Any) -> None:
    page = researcher.get(URL, sent, headers={"hx-request": "true"}).content.decode()
    assert "<html" not in page
    assert "0.750 ×" in page
    assert "0.250 ×" in page
    page = researcher.get(
        URL, {**sent, "method": "bone", "share-2": 0, "own": 0.6}, headers={"hx-request": "true"}
    ).content.decode()
    assert "1.500 ×" in page
    assert "-0.500 ×" in page


def test_the_base_alone_and_a_lost_adapter_are_refused(
    researcher: Any, sent: Any, policies: list[Policy]
) -> None:
    base = {"policy-1": policies[0].parent_id, "share-1": 100, "share-2": 0}
    page = researcher.post(URL, {**sent, **base}).content.decode()
    assert "That is the base model alone" in page
    (Path(policies[0].path) / "adapter_config.json").unlink()
    page = researcher.post(URL, sent).content.decode()
    assert "An adapter cannot be read from here" in page
    assert not Experiment.objects.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"policy-2": ""}, "Choose two different policies or more."),
        ({"share-1": 0, "share-2": 0}, "At least one share must be above 0."),
        ({"method": "vector"}, "Task arithmetic takes three policies"),
        ({"method": "bone", "own": 0.5}, "more than 1/2 of its own objective"),
        ({"method": "bone", "own": ""}, "own objective&#x27;s part"),
        ({"name": ""}, "The blend needs a name."),
        ({"prompt_set": 0}, "Select a valid choice"),
        ({"share-1": 150}, "less than or equal to 100"),
    ],
)
def test_what_cannot_be_blended_is_said_and_nothing_is_made(
    researcher: Any, sent: Any, change: Any, sentence: str
) -> None:
    answer = researcher.post(URL, {**sent, **change})
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert not Experiment.objects.exists()


def test_more_points_than_are_made_at_once_are_refused(
    researcher: Any, sent: Any, policies: list[Policy]
) -> None:
    more = {"policy-3": policies[2].pk, "steps": 6}
    page = researcher.post(URL, {**sent, **more}).content.decode()
    assert "6 steps between 3 policies are 28 blends" in page


def test_sending_it_begins_the_first_point(
    researcher: Any, sent: Any, policies: list[Policy], models: list[RewardModel]
) -> None:
    answer = researcher.post(URL, {**sent, "steps": 2})
    made = Experiment.objects.get()
    assert answer.headers["location"] == f"/p/alpha/lab/experiments/{made.pk}/"
    assert made.rounds_wanted == 3
    assert made.rounds.get().number == 1
    assert [one["asked"] for one in made.blend["points"]] == [
        "100% : 0%", "50% : 50%", "0% : 100%",
    ]  # fmt: skip
    assert made.blend["points"][1]["parts"] == {str(one.pk): 0.5 for one in policies[:2]}
    again = researcher.get(URL, {"like": made.pk}).content.decode()
    assert 'value="Between, again"' in again
    assert f'<option value="{policies[1].pk}" selected>' in again
    assert "Another experiment has this name." in researcher.post(URL, sent).content.decode()


def test_the_points_are_a_picture_a_table_and_a_csv(
    researcher: Any, project: Any, policies: list[Policy], models: list[RewardModel]
) -> None:
    found = blending.points("soup", policies[:2], [[1, 0], [1, 1], [0, 1]], 0.0)
    blend = blending.launch(
        project, None, name="Between", method="soup", found=found, judge=models[0],
        prompt_set=lab.prompt_set(project), objectives=models,
    )  # fmt: skip
    page = researcher.get(f"/p/alpha/lab/experiments/{blend.pk}/").content.decode()
    assert "Points appear here as they are measured." in page
    live = {"hx-request": "true", "hx-target": "blend"}
    part = researcher.get(f"/p/alpha/lab/experiments/{blend.pk}/", headers=live).content.decode()
    assert part.startswith('<section class="section" id="blend" hx-get')  # while points are made
    blend.rounds.all().delete()
    values = [(0.0, 0.0), (1.0, 3.0)], [(0.0, 0.0), (2.0, 2.0)], [(0.0, 0.0), (1.5, 1.0)]
    for number, (base, blended) in enumerate(values, 1):
        lab.measured_point(blend, number, models, [blended, base])
    page = researcher.get(f"/p/alpha/lab/experiments/{blend.pk}/").content.decode()
    assert page.count('class="before') == 1
    assert page.count('class="point') == 3
    assert page.count('class="point best"') == 2  # the third is beaten by the second
    assert "there before" in page
    assert "83.3 %" in page  # of the unit square: (1/2, 1) and (1, 2/3)
    table = researcher.get(f"/p/alpha/lab/experiments/{blend.pk}/blend.csv").content.decode()
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["point"] for row in rows[1:]] == ["100% : 0%", "50% : 50%", "0% : 100%"]
    assert [row["helpful"] for row in rows] == ["0.0", "1.0", "2.0", "1.5"]
    assert [row["front"] for row in rows] == ["0", "1", "1", "0"]
