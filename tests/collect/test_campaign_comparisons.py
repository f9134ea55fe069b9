"""The browser of a campaign's comparisons, one comparison's page, and flags to resolve."""

from __future__ import annotations

import pytest

from plumbline.collect import disputes
from plumbline.collect.comparisons import filtered
from plumbline.collect.models import Flag
from plumbline.collect.queue import seats
from tests.collect import crowd
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db


@pytest.fixture
def mixed(project, bob, carol):
    """Full and agreed, disputed, skipped, flagged, untouched; a gold one beside them."""
    campaign = open_campaign(project, comparisons=5, overlap=2)
    agreed, disputed, skipped, flagged, _ = campaign.comparisons.order_by("pk")
    for user in (bob, carol):
        crowd.vote(user, agreed, [[0], [1]])
    crowd.vote(bob, disputed, [[0], [1]])
    crowd.vote(carol, disputed, [[1], [0]])
    crowd.skip(bob, skipped, reason="I do not know this topic")
    ballot = crowd.vote(bob, flagged, outcome="flagged", seat=None, reason="Harmful")
    Flag.objects.create(ballot=ballot, reason="Harmful", words="It says how to hurt people.")
    crowd.gold(campaign)
    seats.settle(campaign)
    return campaign


def numbers(campaign, show: str) -> list[int]:
    """Which of the campaign's comparisons a filter shows, counted from 0."""
    every = list(campaign.comparisons.order_by("pk").values_list("pk", flat=True))
    found = filtered(campaign, show).order_by("pk").values_list("pk", flat=True)
    return [every.index(pk) for pk in found]


@pytest.mark.parametrize(
    ("show", "found"),
    [
        ("all", [0, 1, 2, 3, 4, 5]),
        ("open", [2, 3, 4]),
        ("full", [0, 1]),
        ("skipped", [2]),
        ("flagged", [3]),
        ("disputed", [1]),
    ],
)
def test_filters_show_what_they_say(mixed, show, found):
    assert numbers(mixed, show) == found


def test_a_changed_mind_is_no_dispute(project, bob):
    campaign = open_campaign(project, comparisons=1)
    one = campaign.comparisons.get()
    crowd.vote(bob, one, [[0], [1]])
    crowd.vote(bob, one, [[1], [0]])
    assert numbers(campaign, "disputed") == []


def test_the_list_filters_by_kind_and_names_empty_results(client_for, alice, mixed):
    page = f"/p/alpha/campaigns/{mixed.pk}/comparisons/"
    client = client_for(alice)
    text = client.get(page, {"kind": "gold"}).content.decode()
    assert "Known question 0?" in text
    assert "Question 1?" not in text
    assert "None of these" in client.get(page, {"kind": "live"}).content.decode()
    assert client.get(page, {"show": "nonsense", "kind": "nonsense"}).status_code == 200


def test_many_comparisons_come_in_pages_with_few_questions(
    client_for, alice, project, django_assert_max_num_queries
):
    campaign = open_campaign(project, comparisons=60)
    client, page = client_for(alice), f"/p/alpha/campaigns/{campaign.pk}/comparisons/"
    client.get(page)  # the first look settles which comparisons are full
    with django_assert_max_num_queries(15):
        text = client.get(page, {"page": 2}).content.decode()
    assert "Page 2 of 3" in text
    assert "show=all" in text, "the filter stays on the next page"


def test_one_comparison_shows_who_wrote_and_who_said_what(client_for, alice, mixed):
    one = mixed.comparisons.order_by("pk")[1]
    text = client_for(alice).get(f"/p/alpha/campaigns/{mixed.pk}/comparisons/{one.pk}/")
    text = text.content.decode()
    assert "A better than B" in text
    assert "B better than A" in text
    assert "a test" in text
    assert "with probability 1" in text


def test_texts_of_a_comparison_are_harmless(client_for, alice, mixed):
    one = mixed.comparisons.order_by("pk").first()
    slot = one.slots.first()
    slot.completion.text = "<script>alert(1)</script> ![x](http://remote/x.png)"
    slot.completion.save()
    text = client_for(alice).get(f"/p/alpha/campaigns/{mixed.pk}/comparisons/{one.pk}/")
    assert "<script>alert" not in text.content.decode()
    assert "<img" not in text.content.decode()


def test_a_comparison_is_asked_no_more_and_again(client_for, alice, mixed):
    one = mixed.comparisons.order_by("pk").last()
    page = f"/p/alpha/campaigns/{mixed.pk}/comparisons/{one.pk}/retire/"
    client = client_for(alice)
    client.post(page, {"do": "retire"})
    one.refresh_from_db()
    assert one.retired_at is not None
    client.post(page, {"do": "return"})
    one.refresh_from_db()
    assert one.retired_at is None


def test_a_flag_waits_until_somebody_decides(client_for, alice, mixed):
    client, page = client_for(alice), f"/p/alpha/campaigns/{mixed.pk}/flags/"
    flag = Flag.objects.get()
    text = client.get(page).content.decode()
    assert "It says how to hurt people." in text
    assert '<span class="count">1</span>' in text
    client.post(f"{page}{flag.pk}/", {"do": "retire", "resolution": "Unsafe prompt."})
    flag.refresh_from_db()
    assert (flag.resolved_by, flag.resolution) == (alice, "Unsafe prompt.")
    assert flag.ballot.comparison.retired_at is not None
    client.post(f"{page}{flag.pk}/", {"do": "keep", "resolution": "On second thought."})
    flag.refresh_from_db()
    assert flag.resolution == "Unsafe prompt.", "what was decided stays"


def test_a_flag_is_not_resolved_without_a_word(client_for, alice, mixed):
    page = f"/p/alpha/campaigns/{mixed.pk}/flags/{Flag.objects.get().pk}/"
    text = client_for(alice).post(page, {"do": "keep", "resolution": " "}, follow=True)
    assert "Resolution: say in a few words" in text.content.decode()
    assert Flag.objects.get().resolved_at is None


def test_a_campaign_without_flags_says_what_would_come(client_for, alice, campaign):
    text = client_for(alice).get(f"/p/alpha/campaigns/{campaign.pk}/flags/").content.decode()
    assert "No flags" in text


def test_another_projects_comparisons_do_not_exist(client_for, charlie, mixed):
    one = mixed.comparisons.first()
    for path in ("", f"{one.pk}/"):
        here = f"/p/beta/campaigns/{mixed.pk}/comparisons/{path}"
        assert client_for(charlie).get(here).status_code == 404


def test_a_dispute_is_people_contradicting_each_other_not_two_strengths(project, bob, carol):
    campaign = open_campaign(project, comparisons=7, overlap=2)
    one, two, three, four, five, six, seven = campaign.comparisons.order_by("pk")
    said = [
        (one, ([[0], [1]], 1), ([[0], [1]], 3)),  # the same, more and less
        (two, ([[0], [1]], 1), ([[0, 1]], None)),  # close to a tie
        (three, ([[0], [1]], 1), ([[1], [0]], 1)),
        (four, ([[0], [1]], 3), ([[1], [0]], 2)),
        (five, ([[1], [0]], 2), ([[0, 1]], None)),
        (six, ([[0, 1]], None), ([[1, 0]], None)),  # one tie, written in two ways
        (seven, ([[0], [1]], 2), ((), None)),  # all bad
    ]
    for comparison, *words in said:
        for user, (ranking, strength) in zip((bob, carol), words, strict=True):
            crowd.vote(user, comparison, ranking, strength=strength)
    found = list(filtered(campaign, "disputed"))
    assert found == [four, three, five, seven], "furthest apart first"
    assert [disputes.told(comparison) for comparison in found] == [
        "A much better; B clearly better",
        "A slightly better; B slightly better",
        "A tie; B clearly better",
        "A clearly better; All bad",
    ]
    assert [comparison.apart for comparison in found] == [5, 2, 2, 0]


def test_rankings_dispute_which_answer_is_best(project, bob, carol):
    campaign = open_campaign(project, comparisons=3, answers=3, overlap=2)
    same, other, rated = campaign.comparisons.order_by("pk")
    crowd.vote(bob, same, [[0], [1], [2]])
    crowd.vote(carol, same, [[0], [2], [1]])
    crowd.vote(bob, other, [[0], [1], [2]])
    crowd.vote(carol, other, [[1], [0], [2]])
    crowd.vote(bob, rated, outcome="absolute")
    crowd.vote(carol, rated, [[1], [0], [2]])
    found = list(filtered(campaign, "disputed"))
    assert found == [other]
    assert disputes.told(other) == ""
    assert disputes.told(found[0]) == "Different answers are best"


def test_why_it_is_asked_is_told_in_figures_that_can_be_read(client_for, alice, project):
    why = {"part": "informed", "chance": 0.4823947, "reranked by": "try-2-reward", "rank": 3}
    campaign = open_campaign(project, comparisons=1)
    one = campaign.comparisons.get()
    one.strategy, one.why = "mixed", why
    one.save()
    page = f"/p/alpha/campaigns/{campaign.pk}/comparisons/{one.pk}/"
    shown = client_for(alice).get(page).content.decode()
    assert "<dt>Chance</dt><dd>0.482</dd>" in shown
    assert "<dt>Reranked by</dt><dd>try-2-reward</dd>" in shown
