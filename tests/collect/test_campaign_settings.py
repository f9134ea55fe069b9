"""A campaign's form and versions: what may be set, what is refused, what is remembered."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

import pytest
from django.utils import timezone

from plumbline.collect import queue, versions
from plumbline.collect.models import Campaign, CampaignVersion
from plumbline.collect.quality import settings
from tests.collect import crowd
from tests.collect.filled import in_form

pytestmark = pytest.mark.django_db
NEW = "/p/alpha/campaigns/new/"


def edit(client, project, campaign, **changes):
    campaign.refresh_from_db()
    data = in_form(project, campaign, **changes)
    return client.post(f"/p/alpha/campaigns/{campaign.pk}/edit/", data)


def test_a_campaign_is_made_with_everything_it_asks(client_for, project, alice):
    data = in_form(
        project,
        name="Tone",
        guidelines="Prefer **plain** words.",
        asks=["compare", "rate", "spans"],
        criteria_0_name="clarity",
        criteria_0_question="How clear?",
        reasons="Wrong fact\n\nToo long\nWrong fact",
        overlap="3",
        lease_minutes="5",
        hourly_rate="18.50",
        invited_only="on",
        deadline=f"{timezone.now() + timedelta(days=3):%Y-%m-%dT%H:%M}",
        quality_gold_start="0.2",
        examples_0_prompt="Why?",
        examples_0_better="Because.",
        examples_0_worse="No.",
        examples_0_why="It answers.",
    )
    response = client_for(alice).post(NEW, data)
    made = Campaign.objects.get(name="Tone")
    assert response.url == f"/p/alpha/campaigns/{made.pk}/fill/"
    assert made.asks == ["compare", "rate", "spans"]
    assert made.criteria == [
        {"name": "clarity", "question": "How clear?", "least": 1, "most": 5, "low": "", "high": ""}
    ]
    assert made.reasons == ["Wrong fact", "Too long"]
    assert (made.overlap, made.lease_seconds, str(made.hourly_rate)) == (3, 300, "18.50")
    assert made.invited_only
    assert made.examples[0]["why"] == "It answers."
    assert settings.of(made).gold_start == 0.2
    assert made.quality == {"gold_start": 0.2}, "what stays at its default is not stored"
    first = made.versions.get()
    assert (first.number, first.author) == (1, alice)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "", "Name is missing."),
        ("name", "Campaign 0", "Another campaign of this project has this name."),
        ("asks", [], "tick one of the questions"),
        ("asks", ["mark"], "Ask people to compare, to rate or to correct"),
        ("asks", ["compare", "rate"], "Ratings need criteria"),
        ("overlap", "0", "People per comparison must be between 1 and 100."),
        ("overlap", "two", "People per comparison must be a whole number."),
        ("lease_minutes", "", "Minutes on one comparison is missing."),
        ("deadline", "2020-01-01T10:00", "The deadline lies in the past."),
        ("deadline", "soon", "Deadline must be a date and a time"),
        ("hourly_rate", "-1", "Hourly rate cannot be negative."),
        ("training_pass", "101", "Training passed at must be between 0 and 100."),
        ("reasons", "x" * 81, "Shorter, please"),
        ("reasons", "\n".join(f"r{n}" for n in range(13)), "12 reasons are the most"),
        ("criteria_0_name", "two words", "named in one word of letters"),
        ("criteria_0_question", "How clear?", "Name this criterion in one word"),
        ("examples_0_prompt", "Why?", "a prompt, a better and a worse answer"),
        ("quality_gold_start", "0.9", "Gold start: a share between 0 and a half"),
        ("quality_gold_end", "0.4", "cannot end above its start"),
        ("quality_pause_certainty", "1", "Pause certainty lies between 0 and 1."),
        ("quality_gold_over", "1.5", "Gold over must be a whole number."),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_nothing_is_saved(
    client_for, project, alice, campaign, field, value, words
):
    response = client_for(alice).post(NEW, in_form(project, **{"name": "Tone", field: value}))
    assert response.status_code == 422
    assert words in response.content.decode().replace("&#x27;", "’")
    assert not Campaign.objects.filter(name="Tone").exists()


def test_every_quality_setting_has_help(project):
    from plumbline.collect.campaign_forms import QUALITY, CampaignForm

    shown = [field for field in CampaignForm(project, None) if field.name.startswith(QUALITY)]
    assert len(shown) == len(fields(settings.Quality))
    assert all(field.help_text for field in shown)


def test_every_change_is_a_version_with_its_author(client_for, project, alice, dana, campaign):
    edit(client_for(alice), project, campaign, guidelines="Be kind.")
    edit(client_for(dana), project, campaign, guidelines="Be kind and brief.", overlap="2")
    found = list(campaign.versions.order_by("number"))
    assert [(one.number, one.author) for one in found] == [(1, None), (2, alice), (3, dana)]
    assert [one.settings["guidelines"] for one in found] == ["", "Be kind.", "Be kind and brief."]
    campaign.refresh_from_db()
    assert campaign.settings_version == 3


def test_an_evaluation_never_becomes_training_data(client_for, project, alice, campaign):
    response = edit(client_for(alice), project, campaign, purpose="evaluate")
    assert response.status_code == 422
    assert "The purpose stays once there are comparisons." in response.content.decode()
    campaign.comparisons.all().delete()
    assert edit(client_for(alice), project, campaign, purpose="evaluate").status_code == 302


def test_saving_without_a_change_makes_no_version(client_for, project, alice, campaign):
    Campaign.objects.filter(pk=campaign.pk).update(lease_seconds=90)
    edit(client_for(alice), project, campaign)
    campaign.refresh_from_db()
    assert campaign.settings_version == 1
    assert campaign.lease_seconds == 90, "seconds stay as they are while their minutes do"
    assert not campaign.versions.exists()


def test_a_version_is_never_edited(project, alice, campaign):
    version = versions.change(campaign, {"guidelines": "Be kind."}, alice)
    version.settings = {}
    with pytest.raises(AssertionError):
        version.save()
    assert CampaignVersion.objects.get(pk=version.pk).settings["guidelines"] == "Be kind."


def test_a_ballot_carries_the_version_its_voter_saw(project, alice, bob, campaign):
    first = queue.claim_next(bob, campaign)
    versions.change(campaign, {"guidelines": "Be kind."}, alice)
    queue.skip(first, "no", first.pk)
    second = queue.claim_next(bob, campaign)
    assert (first.settings_version, second.settings_version) == (1, 2)


def test_two_researchers_do_not_overwrite_each_other(client_for, project, alice, dana, campaign):
    mine = in_form(project, campaign, guidelines="Mine.")
    versions.change(campaign, {"guidelines": "Theirs."}, dana)
    page = f"/p/alpha/campaigns/{campaign.pk}/edit/"
    response = client_for(alice).post(page, mine)
    text = response.content.decode()
    assert response.status_code == 422
    assert "dana changed this campaign while you were editing (version 2)" in text
    assert "Mine." in text
    assert 'name="saw" value="2"' in text, "saving again goes through"
    assert client_for(alice).post(page, {**mine, "saw": "2"}).status_code == 302
    campaign.refresh_from_db()
    assert campaign.guidelines == "Mine."


def test_the_difference_of_two_versions_reads_word_by_word(client_for, alice, campaign):
    versions.change(campaign, {"guidelines": "Prefer the short answer."}, alice)
    versions.change(campaign, {"guidelines": "Prefer the honest answer.", "overlap": 4}, alice)
    page = f"/p/alpha/campaigns/{campaign.pk}/versions/"
    text = client_for(alice).get(page).content.decode()
    assert "Version 2 to 3" in text
    assert "<del>short</del><ins>honest</ins>" in text
    assert "<del>1</del>" in text
    assert "<ins>4</ins>" in text
    from_first = client_for(alice).get(page, {"from": 1, "to": 3}).content.decode()
    assert "Version 1 to 3" in from_first
    assert "short" not in from_first
    assert client_for(alice).get(page, {"from": "x", "to": 99}).status_code == 200


def test_long_unchanged_guidelines_are_cut_in_a_difference():
    before = "".join(f"line {n}\n" for n in range(40))
    found = list(versions.pieces(before, before.replace("line 20", "line twenty")))
    shown = "".join(piece.text for piece in found)
    assert "⋯" in shown
    assert len(shown.splitlines()) < 12


def test_markdown_of_guidelines_is_previewed_harmless(client_for, alice):
    page = "/p/alpha/campaigns/preview/"
    sent = {"guidelines": "**bold** <script>alert(1)</script>"}
    text = client_for(alice).post(page, sent).content.decode()
    assert "<strong>bold</strong>" in text
    assert "<script>" not in text


def test_a_raised_overlap_reopens_full_comparisons_and_a_lower_one_fills_them(
    client_for, project, alice, bob, carol, campaign, prefer
):
    one = campaign.comparisons.order_by("pk").first()
    prefer(queue.claim_next(bob, campaign))
    one.refresh_from_db()
    assert one.full
    edit(client_for(alice), project, campaign, overlap="2")
    one.refresh_from_db()
    assert not one.full
    campaign.refresh_from_db()
    claimed = [queue.claim_next(carol, campaign).comparison_id]
    assert claimed == [one.pk], "another person is asked at once"
    edit(client_for(alice), project, campaign, overlap="1")
    one.refresh_from_db()
    assert one.full
    assert one.ballots.filter(outcome="ranked").count() == 1, "no vote is taken back"


def test_a_comparison_has_an_overlap_of_its_own_at_any_time(client_for, alice, bob, campaign):
    one = campaign.comparisons.first()
    page = f"/p/alpha/campaigns/{campaign.pk}/comparisons/{one.pk}/overlap/"
    crowd.vote(bob, one, [[0], [1]])
    client_for(alice).post(page, {"overlap": "3"})
    one.refresh_from_db()
    assert (one.overlap, one.full) == (3, False)
    versions.change(campaign, {"overlap": 1, "lease_seconds": 60}, alice)
    one.refresh_from_db()
    assert not one.full, "the campaign's number does not touch it"
    client_for(alice).post(page, {"overlap": ""})
    one.refresh_from_db()
    assert (one.overlap, one.full) == (None, True)
    for wrong in ("0", "101", "many"):
        client_for(alice).post(page, {"overlap": wrong})
        one.refresh_from_db()
        assert one.overlap is None


def test_hidden_tests_have_no_overlap_to_change(client_for, alice, campaign):
    one = crowd.gold(campaign)
    page = f"/p/alpha/campaigns/{campaign.pk}/comparisons/{one.pk}/overlap/"
    text = client_for(alice).post(page, {"overlap": "2"}, follow=True).content.decode()
    assert "asked of whoever is due" in text
    one.refresh_from_db()
    assert one.overlap == 32_767
