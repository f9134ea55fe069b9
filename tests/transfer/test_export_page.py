"""The researcher's page: choose, look, download as a stream, check a file."""

from __future__ import annotations

import gzip
import json
from html import unescape

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from plumbline.transfer import views
from tests.comparisons import compare, open_campaign
from tests.transfer.said import say
from tests.transfer.test_exports import round  # noqa: F401  # a fixture

URL = "/p/alpha/data/export/"
GET = URL + "download/"


@pytest.fixture
def campaign(project):
    return open_campaign(project, comparisons=5)


@pytest.fixture
def said(campaign, bob, carol):
    """Four pairs that bob prefers one of, a tie, and a gold comparison."""
    *pairs, tie = campaign.comparisons.order_by("pk")
    for pair in pairs:
        say(pair, bob, [[1], [0]], mark=3)
    say(tie, carol, [[0, 1]])
    gold = compare(
        campaign,
        tie.prompt.set,
        "gold?",
        ["x", "y"],
        kind="gold",
        expected={"outcome": "ranked", "ranking": [[0], [1]]},
    )
    say(gold, carol, [[0], [1]])
    return campaign


@pytest.fixture
def researcher(alice, client_for):
    return client_for(alice)


def text(response) -> str:
    assert response.status_code == 200, response.status_code
    return unescape(response.content.decode())


def downloaded(response) -> list[dict]:
    assert response.streaming
    lines = b"".join(response.streaming_content).decode().splitlines()
    return [json.loads(line) for line in lines]


def test_the_page_shows_three_rows_and_what_is_left_out(researcher, said):
    page = text(researcher.get(URL))
    assert '<span class="figure">4</span> rows from 6 comparisons' in page
    assert page.count('<pre class="log row"') == 3
    assert '"content": "Answer 0.1"' in page
    assert "<dt>1</dt><dd>votes that are ties</dd>" in page
    assert "<dt>1</dt><dd>gold comparisons: never training data</dd>" in page


def test_the_link_downloads_what_the_page_showed(researcher, said):
    page = text(researcher.get(URL, {"format": "trl_unpaired", "layout": "standard"}))
    link = page.split(f'href="{GET}?')[1].split('"')[0]
    response = researcher.get(f"{GET}?{link}")
    assert response["Content-Disposition"].startswith('attachment; filename="alpha-trl_unpaired-')
    rows = downloaded(response)
    assert len(rows) == 4
    assert rows[0]["prompt"] == "\n\nHuman: Question 0?\n\nAssistant:"
    assert "vote" in rows[0]


def test_a_format_just_chosen_stands_at_its_defaults(researcher, said):
    page = text(
        researcher.get(URL, {"format": "hh_rlhf", "shown": "trl_preference", "ties": "half"})
    )
    assert 'name="ties"' not in page
    assert 'name="layout"' not in page
    assert '<span class="figure">4</span> rows' in page
    back = text(researcher.get(URL, {"format": "trl_preference", "shown": "hh_rlhf"}))
    assert 'name="extras" id="id_extras" checked' in back.replace(
        ' aria-describedby="id_extras_helptext"', ""
    )


def test_a_box_can_be_unticked(researcher, said):
    query = {"format": "trl_preference", "shown": "trl_preference", "split": "train"}
    query |= {"layout": "conversational", "votes": "each", "ties": "skip"}
    assert set(downloaded(researcher.get(GET, query))[0]) == {"prompt", "chosen", "rejected"}
    assert "weight" in downloaded(researcher.get(GET, {**query, "extras": "on"}))[0]


def test_campaigns_and_rounds_can_be_chosen(researcher, project, said, bob, round):  # noqa: F811
    other = open_campaign(project, comparisons=1)
    vote = say(other.comparisons.get(), bob, [[0], [1]])
    assert len(downloaded(researcher.get(GET, {"format": "votes", "campaigns": other.pk}))) == 1
    assert "Warmer, round 4" not in text(researcher.get(URL))  # it has frozen nothing yet
    round.ballots.add(vote)
    round.ballots_sha256 = "abc"
    round.save()
    assert "Warmer, round 4" in text(researcher.get(URL))
    [row] = downloaded(researcher.get(GET, {"format": "votes", "round": round.pk}))
    assert row["id"] == str(vote.pk)


def test_another_projects_campaign_cannot_be_chosen(researcher, said, charlie):
    theirs = open_campaign(charlie.projects.get(), comparisons=1)
    response = researcher.get(GET, {"campaigns": theirs.pk})
    assert response.status_code == 422
    assert "is not one of the available choices" in response.content.decode()
    page = text(researcher.get(URL, {"campaigns": theirs.pk}))
    assert "is not one of the available choices" in page
    assert theirs.name not in page.replace("Campaign 0", "")


@pytest.mark.parametrize("query", [{"format": "nosuch"}, {"ties": "x", "shown": "trl_preference"}])
def test_a_link_that_cannot_be_answered_says_why(researcher, said, query):
    response = researcher.get(GET, query)
    assert response.status_code == 422
    assert "Select a valid choice" in response.content.decode()


def test_names_are_not_on_the_page_unless_asked_for(researcher, said):
    def rows(**query):
        page = text(researcher.get(URL, {"format": "votes", **query}))
        return page.split('<pre class="log row"')[1]

    assert '"annotator": "bob"' not in rows()
    assert '"annotator": "bob"' in rows(names="on")


def test_nobody_voted_yet_is_said(researcher, campaign):
    page = text(researcher.get(URL))
    assert "Nobody has voted here yet." in page
    assert ">Download<" not in page


def test_a_large_project_is_counted_in_part_and_downloaded_whole(researcher, said, monkeypatch):
    monkeypatch.setattr(views.stream, "MOST_COUNTED", 2)
    page = text(researcher.get(URL))
    assert '<span class="figure">2</span> rows from the first 2 of 6 comparisons' in page
    assert len(downloaded(researcher.get(GET))) == 4
    monkeypatch.setattr(views.stream, "MOST_TOTAL", 3)
    assert "from the first 2 of more than 3 comparisons" in text(researcher.get(URL))


def test_htmx_gets_the_choices_and_the_preview_alone(researcher, said):
    part = text(researcher.get(URL, {"format": "votes"}, headers={"HX-Request": "true"}))
    assert part.lstrip().startswith("<form")
    assert "Check a file" not in part


def test_the_page_asks_few_questions(researcher, said, django_assert_max_num_queries):
    with django_assert_max_num_queries(20):
        researcher.get(URL, {"format": "votes"})


def test_pieces_are_sent_before_the_last_row_is_read():
    read = []

    def lines():
        for number in range(100):
            read.append(number)
            yield "x" * 999 + "\n"

    pieces = views.in_pieces(lines(), 10_000)
    assert len(next(pieces)) == 10_000
    assert len(read) == 10
    assert sum(map(len, pieces)) == 90_000


def check(client, data: bytes, against: str = "trl_unpaired"):
    file = SimpleUploadedFile("mine.jsonl", data)
    return client.post(URL + "check/", {"against": against, "file": file})


def test_a_files_problems_are_named_by_line_and_field(researcher, project):
    good = {"prompt": "a", "completion": "b", "label": True}
    lines = [good, {**good, "label": "<b>yes</b>"}, {"prompt": "a", "label": True}]
    page = text(check(researcher, "\n".join(map(json.dumps, lines)).encode()))
    assert "2 of 3 lines are wrong" in page
    assert '2</th><td class="mono">label</td><td>must be true or false, not a string' in page
    assert '3</th><td class="mono">completion</td><td>is missing' in page
    page = text(check(researcher, json.dumps(good).encode()))
    assert "mine.jsonl</strong>: 1 line, all well." in page


def test_a_file_without_end_is_read_in_part(researcher, project, monkeypatch):
    monkeypatch.setattr(views, "MOST_LINES", 3)
    good = b'{"prompt": "a", "completion": "b", "label": true}\n'
    page = text(check(researcher, gzip.compress(2 * good + b"\n" * 100_000)))
    assert "2 lines, all well." in page
    assert "The file goes on" in page
    assert "The file goes on" not in text(check(researcher, 2 * good))


def test_a_file_must_be_given(researcher, project):
    assert researcher.post(URL + "check/").status_code == 422
    assert "0 of 0 lines" in text(check(researcher, b"\n"))


def test_the_bar_leads_researchers_to_their_data(researcher, project, bob, client_for):
    assert f'href="{URL}"' in text(researcher.get("/p/alpha/"))
    assert f'href="{URL}"' not in text(client_for(bob).get("/p/alpha/"))
