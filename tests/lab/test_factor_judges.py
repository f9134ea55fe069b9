"""Pages of judges made of factors: an order changed by buttons, weights fitted, relevance."""

from __future__ import annotations

from html import unescape

import pytest

from align import fitting
from plumbline.fleet.models import Job
from plumbline.judges.models import Judge
from tests.align.conftest import build_base, do
from tests.comparisons import compare, open_campaign
from tests.judges.test_factor_kinds import cast

pytestmark = pytest.mark.django_db
HIERARCHY = "/p/alpha/lab/judges/hierarchy/"
WEIGHTS = "/p/alpha/lab/judges/weights/"
ORDER = {"factor": ["words", "list_items"], "sign": ["-1", "1"], "margin": ["0.5", "0"]}


def text(response) -> str:
    return unescape(response.content.decode())


def order(response) -> list[str]:
    return [row.factor for row in response.context["rows"]]


def test_factors_are_ordered_by_buttons_and_saved_in_that_order(researcher, project):
    campaign = open_campaign(project, comparisons=0)
    compare(campaign, project.prompt_sets.get(), "Why?", ["- a\n- b", "one two three four"])
    empty = researcher.get(HIERARCHY)
    assert "Add the one that matters most first" in text(empty)
    added = researcher.post(HIERARCHY, {**ORDER, "new": "reading_ease", "add": "1"})
    assert order(added) == ["words", "list_items", "reading_ease"]
    assert Judge.objects.count() == 0
    moved = researcher.post(HIERARCHY, {**ORDER, "up": "1"})
    assert order(moved) == ["list_items", "words"]
    assert 'aria-label="Move List items down" autofocus' in text(moved)
    assert "Tried on 1 pairs" in text(moved)
    assert order(researcher.post(HIERARCHY, {**ORDER, "down": "0"})) == ["list_items", "words"]
    assert order(researcher.post(HIERARCHY, {**ORDER, "up": "0"})) == ["words", "list_items"]
    assert order(researcher.post(HIERARCHY, {**ORDER, "remove": "0"})) == ["list_items"]
    made = researcher.post(
        HIERARCHY, {**ORDER, "name": "Brief first", "certainty": "0.8", "save": "1"}, follow=True
    )
    assert "Brief first can judge now." in text(made)
    knobs = Judge.objects.get().versions.get().settings["knobs"]
    assert [one["factor"] for one in knobs["levels"]] == ["words", "list_items"]
    assert [one["sign"] for one in knobs["levels"]] == [-1, 1]
    assert "less is better, by more than" in text(made)
    judge = Judge.objects.get()
    assert "Brief first" in text(researcher.get(f"/p/alpha/lab/judges/{judge.pk}/"))
    assert f'href="{HIERARCHY}"' in text(researcher.get("/p/alpha/lab/judges/new/"))
    assert researcher.get("/p/alpha/lab/judges/new/?kind=hierarchy").status_code == 404


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": ""}, "A judge needs a name."),
        ({"margin": ["some", "0"]}, "The margin of Words must be a number, not 'some'."),
        ({"margin": ["-1", "0"]}, "The margin of words must be 0 or more"),
        ({"factor": ["charm", "words"]}, "There is no factor called charm."),
        ({"certainty": "2"}, "certainty must be at most 1"),
        ({"margin": ["1", "0"]}, "known of 0 answers"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_sentence_and_kept_on_the_page(
    researcher, project, change, said
):
    given = {**ORDER, "margin": ["0", "0"], "name": "N", "save": "1"}
    response = researcher.post(HIERARCHY, {**given, **change})
    assert response.status_code == 422
    assert said in text(response)
    assert len(order(response)) == 2
    assert Judge.objects.count() == 0


def test_weights_are_fitted_shown_and_made_a_judge(researcher, project, bob):
    assert "Nothing was weighed yet." in text(researcher.get(WEIGHTS))
    refused = researcher.post(WEIGHTS, {"sign:words": "0"})
    assert refused.status_code == 422
    assert "People voted on 0 pairs" in text(refused)
    campaign = open_campaign(project, comparisons=0)
    prompts = project.prompt_sets.get()
    for n in range(60):
        texts = ["word " * (1 + n % 4), "word " * (6 + n % 7)]
        cast(compare(campaign, prompts, f"Question {n}?", texts[:: 1 if n % 2 else -1]), bob,
             bool(n % 2))  # fmt: skip
    researcher.post(WEIGHTS, {"sign:words": "-1", "sign:headings": "1"})
    job = Job.objects.get(kind="fit")
    job.result, job.state = do(fitting.work, job.folder), Job.State.SUCCEEDED
    job.save()
    page = text(researcher.get(WEIGHTS))
    assert "100.0 %" in page
    assert "held-out pairs are foretold" in page
    made = researcher.post(f"{WEIGHTS}{job.pk}/adopt/", {"name": "Brief"}, follow=True)
    assert "Brief, version 1 can judge now." in text(made)
    again = researcher.post(f"{WEIGHTS}{job.pk}/adopt/", {"name": ""}, follow=True)
    assert "A judge needs a name." in text(again)


def test_a_judge_by_relevance_takes_right_answers_from_where_they_were_brought_in(
    researcher, project, settings, tmp_path
):
    settings.EMBEDDING_MODEL = str(build_base(tmp_path / "base"))
    campaign = open_campaign(project, comparisons=0)
    compare(campaign, project.prompt_sets.get(), "Capital of France?", ["Paris", "Rome"])
    page = "/p/alpha/lab/judges/relevance/"
    assert "those of a test" in text(researcher.get(page))
    refused = researcher.post(page, {"name": "Near", "temperature": "warm"})
    assert "The temperature must be a number, not 'warm'." in text(refused)
    made = researcher.post(page, {"name": "Near", "temperature": "0.5", "origin": "a test"},
                           follow=True)  # fmt: skip
    assert "Near can judge now." in text(made)
    assert "1 right answers" in text(made)
