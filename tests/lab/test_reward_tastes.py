"""A reward model's page says whether raters differ, and which head fits whom."""

from __future__ import annotations

from html import unescape

import pytest

from plumbline.loop import tastes
from plumbline.loop.models import Stage
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


def told(raters: dict[int, list[float]], differ: bool) -> dict:
    ends = (0.11, 0.3) if differ else (-0.1, 0.02)
    return {
        "labels": {"tastes": {
            "heads": 2, "gain": 0.2 if differ else -0.05, "low": ends[0], "high": ends[1],
            "differ": differ, "votes": 60,
            "raters": {
                str(pk): {"shares": shares, "votes": 30, "gain": 0.2, "by_own": 0.9, "by_one": 0.5}
                for pk, shares in raters.items()
            },
        }},
        "shares": [0.4, 0.6],
        "routes": {str(pk): shares for pk, shares in raters.items()},
    }  # fmt: skip


def page(researcher, model) -> str:
    return unescape(researcher.get(f"/p/alpha/lab/reward-models/{model.pk}/").content.decode())


def test_the_page_says_which_head_fits_whom(project, researcher, django_user_model):
    one, other = (django_user_model.objects.create(username=name) for name in ("ada", "bob"))
    (model,) = lab.reward_models(project, "mixed")
    assert tastes.of(model) is None
    assert "Do raters differ?" not in page(researcher, model)
    model.metrics = told({one.pk: [0.02, 0.98], other.pk: [0.9, 0.1]}, differ=True)
    model.save()
    found = tastes.of(model)
    assert [(rater.name, rater.best) for rater in found.raters] == [("bob", 1), ("ada", 2)]
    shown = page(researcher, model)
    assert "0.2 nats a vote (0.11 to 0.3)" in shown
    for words in ("head 2", "98.0 %", "60.0 %", "ada", "bob"):
        assert words in shown, words
    model.metrics = told({one.pk: [0.5, 0.5]}, differ=False)
    model.save()
    assert "Not as far as 60 votes tell." in page(researcher, model)
    model.metrics = {"labels": {"tastes": {
        "heads": 2, "gain": None, "low": None, "high": None, "differ": False, "votes": 0,
        "raters": {},
    }}}  # fmt: skip
    model.save()
    assert "it takes two raters" in page(researcher, model)


def test_a_mixture_is_read_for_a_group_by_the_mean_of_its_members(project, django_user_model):
    one, other, unknown = (
        django_user_model.objects.create(username=name) for name in ("ada", "bob", "cy")
    )
    (model,) = lab.reward_models(project, "mixed")
    with pytest.raises(ValueError, match="no mixture"):
        tastes.weights(model, [one])
    model.metrics = told({one.pk: [0.0, 1.0], other.pk: [0.5, 0.5]}, differ=True)
    assert tastes.weights(model, [one, other, unknown]) == [0.25, 0.75]
    with pytest.raises(ValueError, match="no vote of these raters"):
        tastes.weights(model, [unknown])


def test_the_next_mixture_numbers_its_heads_by_the_last_ones_raters(project, django_user_model):
    experiment = lab.experiment(project, reward_objective="mixture")
    (model,) = lab.reward_models(project, "mixed")
    model.metrics = told({7: [0.1, 0.9]}, differ=True)
    model.save()
    first = lab.round_at(experiment, Stage.DONE, reward_model=model)
    assert tastes.before(first) == {}
    second = lab.round_at(experiment, Stage.REWARD)
    assert tastes.before(second) == {"7": [0.1, 0.9]}
