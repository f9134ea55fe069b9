"""The researcher's quality pages: figures, honest gaps, planting, pausing, excluding."""

from __future__ import annotations

import pytest

from plumbline.collect.models import Comparison, Enrolment
from plumbline.collect.quality import people
from tests.collect import crowd
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db

FIRST, SECOND = [[0], [1]], [[1], [0]]


@pytest.fixture
def researcher(client_for, alice):
    return client_for(alice)


def address(campaign, person=None) -> str:
    page = f"/p/alpha/campaigns/{campaign.pk}/quality/"
    return page + (f"people/{person.pk}/" if person else "")


def test_a_campaign_without_votes_says_so(researcher, campaign):
    page = researcher.get(address(campaign)).content.decode()
    assert "No votes yet" in page
    assert "Agreement, skill and bias appear here" in page


def test_one_persons_votes_have_no_agreement_and_the_page_says_why(researcher, campaign, bob):
    for comparison in campaign.comparisons.all():
        crowd.vote(bob, comparison, FIRST)
    page = researcher.get(address(campaign)).content.decode()
    assert "Undefined." in page
    assert "Nobody has judged the same comparison as somebody else yet." in page
    assert "No known comparison answered yet." in page


def test_figures_come_with_their_intervals(researcher, project, bob, carol):
    campaign = open_campaign(project, comparisons=40, overlap=2)
    crowd.busy(campaign, [bob, carol], overlap=2, seed=3)
    response = researcher.get(address(campaign))
    figures = response.context["figures"]
    assert figures.agreement.has_interval
    page = response.content.decode()
    assert f'aria-label="Agreement of two people: {100 * figures.agreement.value:.0f} %' in page
    assert "95 % interval" in page
    assert "Cohen’s kappa" in page
    for person in (bob, carol):
        assert address(campaign, person) in page


def test_a_person_has_a_page_with_what_a_rule_says(researcher, campaign, bob):
    for number in range(6):
        crowd.vote(bob, crowd.gold(campaign, number), SECOND)
    page = researcher.get(address(campaign, bob)).content.decode()
    assert "fails known ones" in page
    assert "0 of 6 answered as expected" in page
    assert 'value="Fails too many known comparisons."' in page


def test_pausing_takes_a_reason_and_resuming_none(researcher, campaign, bob):
    crowd.vote(bob, campaign.comparisons.first(), FIRST)
    act = address(campaign, bob) + "place/"
    page = researcher.post(act, {"do": "pause", "reason": " "}, follow=True).content.decode()
    assert "Say why" in page
    page = researcher.post(act, {"do": "pause", "reason": "Let us talk."}, follow=True)
    assert "Let us talk." in page.content.decode()
    place = Enrolment.objects.get(user=bob)
    assert place.paused_at is not None
    researcher.post(act, {"do": "resume"})
    place.refresh_from_db()
    assert place.paused_at is None


def test_excluding_sets_votes_aside_and_including_counts_them_again(researcher, campaign, bob):
    crowd.vote(bob, campaign.comparisons.first(), FIRST)
    act = address(campaign, bob) + "place/"
    page = researcher.post(act, {"do": "exclude", "reason": "Guesses."}, follow=True)
    assert "1 votes are asked of others" in page.content.decode()
    assert "excluded" in researcher.get(address(campaign)).content.decode()
    researcher.post(act, {"do": "include"})
    assert Enrolment.objects.get(user=bob).excluded_at is None


def test_a_button_plants_known_comparisons(researcher, project, bob):
    campaign = open_campaign(project, comparisons=6)
    crowd.vote(bob, campaign.comparisons.first(), FIRST)
    plant = address(campaign) + "plant/"
    page = researcher.post(plant, {"count": "4"}, follow=True).content.decode()
    assert "4 known comparisons are planted." in page
    assert Comparison.objects.filter(campaign=campaign, kind="gold").count() == 4
    for count in ("0", "1000", "many", ""):
        page = researcher.post(plant, {"count": count}, follow=True).content.decode()
        assert "Plant between 1 and 100" in page


def test_somebody_without_a_place_here_has_no_page(researcher, campaign, bob, charlie):
    for person in (bob, charlie):
        assert researcher.get(address(campaign, person)).status_code == 404
        assert researcher.post(address(campaign, person) + "place/").status_code == 404


def test_an_excluded_person_is_still_listed_with_their_own_figures(researcher, project, bob, carol):
    campaign = open_campaign(project, comparisons=6, overlap=2)
    crowd.busy(campaign, [bob, carol], overlap=2)
    people.exclude(campaign, bob, "Guesses.")
    found = researcher.get(address(campaign)).context
    assert found["figures"].votes == 6
    assert {user.username for user, _, _ in found["people"]} == {"bob", "carol"}


def test_the_campaign_page_leads_researchers_to_quality_and_annotators_not(
    researcher, campaign, bob, client_for
):
    page = f"/p/alpha/campaigns/{campaign.pk}/"
    assert f"{page}manage/" in researcher.get(page).content.decode()
    assert address(campaign) in researcher.get(f"{page}manage/").content.decode()
    assert f"{page}manage/" not in client_for(bob).get(page).content.decode()
