"""The pages of live comparisons: what a browser is told, and that it never learns who writes."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.urls import reverse

from plumbline.collect import live
from plumbline.collect.models import Ballot, Campaign, LiveAnswer
from plumbline.policies.models import Deployment
from tests.collect.live_ground import grow, live_campaign, serve_base

pytestmark = pytest.mark.django_db


def news(client, ballot, a="0.0", b="0.0"):
    url = reverse("ballot-news", args=["alpha", ballot.pk])
    return client.get(url, {"a": a, "b": b})


@pytest.fixture
def ballot(project, bob):
    return live.begin(bob, live_campaign(project))


def on_screen(ballot, a: str, b: str, state: str = "writing", **more) -> None:
    for slot, text in zip(ballot.shown, (a, b), strict=True):
        grow(ballot, slot, text, state, **more)


def test_news_hold_only_what_has_come_since(client_for, bob, ballot):
    on_screen(ballot, "Paris is", "Lyon")
    told = news(client_for(bob), ballot, a="1.5").json()
    assert told["open"]
    assert told["answers"][0] == {
        "state": "writing",
        "attempt": 1,
        "at": 5,
        "more": " is",
        "upto": 8,
    }
    assert told["answers"][1]["more"] == "Lyon"


def test_a_finished_answer_comes_rendered_once_and_cleaned(client_for, bob, ballot):
    on_screen(ballot, "**Paris** <script>", "Lyon", "done", finish_reason="stop")
    first = news(client_for(bob), ballot).json()["answers"][0]
    assert "<strong>Paris</strong>" in first["html"]
    assert "<script>" not in first["html"]
    assert first["upto"] == len("**Paris** <script>") + 1
    assert "html" not in news(client_for(bob), ballot, a=f"1.{first['upto']}").json()["answers"][0]


def test_an_answer_written_again_comes_from_its_start(client_for, bob, ballot):
    on_screen(ballot, "Paris is", "Lyon", attempt=2)
    assert news(client_for(bob), ballot, a="1.5").json()["answers"][0]["at"] == 0


def test_nothing_that_is_sent_names_a_policy(client_for, bob, ballot, project):
    on_screen(ballot, "Paris", "Lyon", "failed", trouble="broken")
    client = client_for(bob)
    page = client.get(reverse("ballot", args=["alpha", ballot.pk]))
    told = news(client, ballot)
    policy = Deployment.objects.get().policy
    rows = [str(one.pk) for one in LiveAnswer.objects.all()]
    for answer in (page, told):
        whole = answer.content.decode() + str(dict(answer.items()))
        assert policy.name not in whole
        assert str(policy.pk) not in whole
    assert told.json()["answers"][0]["trouble"].startswith("This answer broke off.")
    assert set(told.json()["answers"][0]) == {
        *("state", "attempt", "at", "more", "upto", "trouble"),
    }
    assert rows


def test_another_person_and_a_stranger_hear_nothing(client_for, carol, charlie, ballot):
    for user in (carol, charlie):
        assert news(client_for(user), ballot).status_code == 404
        url = reverse("ballot-again", args=["alpha", ballot.pk])
        assert client_for(user).post(url, {"place": "a", "attempt": "1"}).status_code == 404


def test_a_vote_by_form_keeps_what_the_form_had_seen(client_for, bob, ballot):
    on_screen(ballot, "Paris is the", "Lyon")
    client = client_for(bob)
    url = reverse("ballot", args=["alpha", ballot.pk])
    form = {"key": uuid4(), "choice": "A2", "seen_0": "1.5", "seen_1": "1.4"}
    assert client.post(url, form).status_code == 303
    ballot.refresh_from_db()
    assert ballot.ranking == [[ballot.shown[0]], [ballot.shown[1]]]
    kept = {slot.slot: slot.completion.text for slot in ballot.comparison.slots.all()}
    assert kept == {ballot.shown[0]: "Paris", ballot.shown[1]: "Lyon"}
    assert not news(client, ballot).json()["open"]
    assert "Kept as far as it was seen." in client.get(url).content.decode()


def test_a_vote_too_early_is_refused_in_words_and_stops_nothing(client_for, bob, ballot):
    on_screen(ballot, "Paris", "")
    client = client_for(bob)
    url = reverse("ballot", args=["alpha", ballot.pk])
    answer = client.post(url, {"key": uuid4(), "choice": "A2", "seen_0": "1.5", "seen_1": "1.0"})
    assert answer.status_code == 422
    assert "has not begun yet" in answer.content.decode()
    assert set(LiveAnswer.objects.values_list("state", flat=True)) == {"writing"}


def test_a_page_opened_again_shows_what_was_written(client_for, bob, ballot):
    on_screen(ballot, "Paris is", "Lyon")
    page = client_for(bob).get(reverse("ballot", args=["alpha", ballot.pk])).content.decode()
    assert "Paris is" in page
    assert 'name="seen_0" value="1.8"' in page


def test_after_the_vote_comes_the_next_prompt_and_then_the_campaign(client_for, bob, project):
    campaign = live_campaign(project, prompts=2)
    client = client_for(bob)
    for last in (False, True):
        client.post(reverse("claim", args=["alpha", campaign.pk]))
        ballot = Ballot.objects.get(outcome="")
        on_screen(ballot, "a", "b")
        url = reverse("ballot", args=["alpha", ballot.pk])
        form = {"key": uuid4(), "choice": "tie", "seen_0": "1.1", "seen_1": "1.1"}
        answer = client.post(url, form)
        assert answer.url.endswith(f"/campaigns/{campaign.pk}/") == last


def test_people_write_then_answer_then_go_on(client_for, bob, project):
    campaign = live_campaign(project, prompts=0)
    client = client_for(bob)
    page = client.get(reverse("campaign", args=["alpha", campaign.pk])).content.decode()
    url = reverse("live-write", args=["alpha", campaign.pk])
    assert url in page
    begun = client.post(url, {"words": "Hello?"})
    ballot = Ballot.objects.get()
    assert begun.url == reverse("ballot", args=["alpha", ballot.pk])
    on_screen(ballot, "Good day", "Go away")
    form = {"key": uuid4(), "choice": "B2", "seen_0": "1.8", "seen_1": "1.7"}
    assert client.post(begun.url, form).url == url
    page = client.get(url).content.decode()
    assert "Go away" in page
    assert "Good day" not in page
    client.post(url, {"words": "And now?", "after": ballot.pk})
    turns = Ballot.objects.get(outcome="").comparison.prompt.messages
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]


def test_words_that_are_refused_stay_on_the_page(client_for, bob, project):
    campaign = live_campaign(project, prompts=0)
    live.write(bob, campaign, "Hello?")
    url = reverse("live-write", args=["alpha", campaign.pk])
    answer = client_for(bob).post(url, {"words": "Another thing"})
    assert answer.status_code == 422
    assert "Another thing" in answer.content.decode()
    assert "go to it" in answer.content.decode()


def test_nobody_writes_where_prompts_are_given(client_for, bob, project):
    campaign = live_campaign(project, prompts=1)
    url = reverse("live-write", args=["alpha", campaign.pk])
    assert client_for(bob).get(url).status_code == 404


def settings_form(client, **changed) -> dict[str, str]:
    """The form of a new campaign as a browser would send it."""
    page = client.get(reverse("campaign-new", args=["alpha"])).context["form"]
    sent = {"name": "Live one", "asks": ["compare"]}
    for form in (page, page.live, *page.sets.values()):
        bound = [form.management_form, *form] if hasattr(form, "management_form") else [form]
        for one in bound:
            for field in one:
                value = field.value()
                blank = value is None or value is False
                if field.name not in ("asks", "name") and not blank:
                    sent[field.html_name] = value
    return {**sent, **changed}


def test_a_researcher_makes_a_campaign_live(client_for, alice, project):
    serve_base(project)
    client = client_for(alice)
    sent = settings_form(client, **{"live-on": "on", "live-max_tokens": "80"})
    assert client.post(reverse("campaign-new", args=["alpha"]), sent).status_code == 302
    made = Campaign.objects.get()
    assert made.live["max_tokens"] == 80
    assert made.live["writing"] is True
    page = client.get(reverse("campaign-edit", args=["alpha", made.pk]))
    assert page.context["form"].live["on"].value() is True


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"live-temperature": "0"}, "two samples of one policy are the same at 0"),
        ({"live-max_tokens": "100000"}, "Longest answer must be between 1 and"),
        (
            {"asks": ["rate"], "criteria-0-name": "helpful"},
            "people are asked which is better",
        ),
        ({"live-first": "nobody"}, "nobody"),
    ],
)
def test_live_settings_are_refused_in_a_sentence(client_for, alice, project, changed, sentence):
    serve_base(project)
    client = client_for(alice)
    sent = settings_form(client, **{"live-on": "on", **changed})
    answer = client.post(reverse("campaign-new", args=["alpha"]), sent)
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert not Campaign.objects.exists()


def test_a_campaign_that_is_not_live_needs_no_live_settings(client_for, alice, project):
    client = client_for(alice)
    sent = settings_form(client, **{"live-temperature": "", "live-max_tokens": "nonsense"})
    sent.pop("live-on", None)
    assert client.post(reverse("campaign-new", args=["alpha"]), sent).status_code == 302
    assert Campaign.objects.get().live == {}
