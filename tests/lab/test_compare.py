"""The page of policies side by side: ratings, matrix, pictures with tables, CSV; all by address."""

from __future__ import annotations

import csv
import io
from html import unescape
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from plumbline.lab.panels import ticks
from tests.lab import contest
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
ADDRESS = "/p/alpha/lab/compare/"


def page(researcher, query: str = "") -> str:
    return unescape(researcher.get(f"{ADDRESS}?{query}").content.decode())


def rows(researcher, part: str, query: str = "") -> list[dict[str, str]]:
    answer = researcher.get(f"{ADDRESS}{part}.csv?{query}")
    assert answer["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.content.decode())))


def test_without_policies_it_says_where_they_come_from(researcher, project):
    assert "each round adds a policy to compare" in page(researcher)
    lab.policy(project)
    assert "Two policies make a comparison" in page(researcher)


def test_ratings_and_the_matrix_are_there_by_peoples_votes(researcher, project):
    contest.ladder(project)
    found = page(researcher)
    assert "Ratings by people" in found
    assert "83.3 %" in found  # 20 of 24 prompts
    assert "20 · 0 · 4" in found
    assert "the anchor" in found


def test_each_judge_is_shown_apart(researcher, project):
    contest.ladder(project)
    assert "No AI judge has compared any two of these policies." in page(researcher, "judge=ai")
    assert "Ratings by reward models" in page(researcher, "judge=reward")
    assert "There is no judge “me”" in page(researcher, "judge=me")


def test_the_address_names_the_policies(researcher, project, charlie):
    base, made, _ = contest.ladder(project)
    found = page(researcher, f"policy={base.pk}&policy={made[1].pk}")
    table = found.partition('id="matrix-title"')[2].partition("</table>")[0]
    assert "alpha-rung-2" in table
    assert "alpha-rung-1" not in table
    other = lab.policy(charlie.projects.get(), "beta-base")
    assert "not in this project" in page(researcher, f"policy={base.pk}&policy={other.pk}")
    assert "is no policy's id" in page(researcher, "policy=nonsense")
    many = "&".join(f"policy={uuid4()}" for _ in range(13))
    assert "At most 12 policies" in page(researcher, many)


def test_every_picture_has_its_words_its_table_and_the_gate(researcher, project):
    contest.ladder(project)
    found = page(researcher)
    for title in (
        "Reward over the base",
        "Disagreement of the ensemble",
        "Win rate against the base by people",
        "Win rate against the base by AI judges",
        "Win rate against the base by reward models",
    ):
        assert f"<h3>{title}</h3>" in found, title
    assert 'aria-label="Win rate against the base by people: alpha-base 50.0 %' in found
    assert "gate: 30 nats (Ladder)" in found
    assert 'class="fit"' in found
    assert "No AI judge has compared any of these policies." in found
    assert found.count("<summary>Figures</summary>") == 4


def test_what_is_drawn_is_in_the_csv(researcher, project):
    contest.ladder(project)
    drawn = rows(researcher, "frontier")
    people = {one["policy"]: one for one in drawn if one["figure"] == "people"}
    assert float(people["alpha-rung-4"]["value"]) == pytest.approx(20 / 24)
    assert float(people["alpha-rung-4"]["kl"]) == 64
    met = rows(researcher, "matrix")
    assert len(met) == 8, "four policies against the base, from both sides"
    rated = rows(researcher, "ratings", "judge=reward")
    assert rated[0]["policy"] == "alpha-rung-4"
    assert float(rated[0]["log_odds"]) > 0
    assert rated[-1]["length_controlled_rate"] == ""
    assert rows(researcher, "best-of-n") == []
    assert researcher.get(f"{ADDRESS}nonsense.csv").status_code == 404


def test_the_best_of_n_is_listed(researcher, project):
    base, _, model = contest.ladder(project)
    for prompt in base.completions.first().prompt.set.prompts.filter(split="heldout")[:4]:
        contest.score(contest.answer(prompt, base, f"Other {prompt.pk}"), model, 1.0)
    found = page(researcher)
    assert "2 answers each to 4 prompts" in found
    (one, two) = rows(researcher, "best-of-n")
    assert (one["n"], float(one["gain"])) == ("1", 0.0)
    assert float(two["gain"]) == pytest.approx(0.25)  # half of a gap of 1, at temperature 2


def test_a_dozen_policies_take_a_fixed_number_of_queries(researcher, project):
    _, made, _ = contest.ladder(project, rungs=2, prompts=12)
    page(researcher)
    with CaptureQueriesContext(connection) as few:
        page(researcher, "&".join(f"policy={one.pk}" for one in made))
    contest_more = made[0].project
    base = made[0].parent
    more = [lab.policy(contest_more, f"alpha-more-{n}", parent=base) for n in range(9)]
    with CaptureQueriesContext(connection) as many:
        page(researcher, "&".join(f"policy={one.pk}" for one in [*made, *more]))
    assert len(many) <= len(few) + 9, "one a policy, for its best of n"


def test_ticks_are_round_numbers():
    assert ticks(0, 8.32, 6) == [0, 2, 4, 6, 8]
    assert ticks(0.31, 0.93, 5) == [0.4, 0.6, 0.8]
    assert ticks(-0.4, 1.1, 5) == [0.0, 0.5, 1.0]
    assert ticks(1, 1, 5) == [1]
