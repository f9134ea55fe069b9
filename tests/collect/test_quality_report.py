"""Figures of votes: whose, of what, and that ten thousand votes take less than a second."""

from __future__ import annotations

from datetime import timedelta

import pytest

from plumbline.accounts.models import User
from plumbline.collect.models import (
    Campaign,
    Candidate,
    Comparison,
    Completion,
    Prompt,
    PromptSet,
)
from plumbline.collect.quality import reading, settings
from plumbline.collect.quality.gold import DISPUTED
from plumbline.collect.quality.report import Material, Report, report
from tests.collect import crowd
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db

FIRST, SECOND, TIE = [[0], [1]], [[1], [0]], [[0, 1]]


def figures(campaign: Campaign, excluded=()) -> Report:
    said = reading.said(campaign)
    characters = reading.characters(said, campaign)
    golds = reading.golds(campaign)
    return report(Material(said, golds, characters, settings.of(campaign)), excluded)


def of(found: Report, user):
    return next(one.figures for one in found.people if one.rater == user.pk)


def test_screen_sides_do_not_touch_agreement(project, bob, carol):
    campaign = open_campaign(project, comparisons=8, overlap=2)
    for comparison in campaign.comparisons.all():
        crowd.vote(bob, comparison, FIRST, shown=[0, 1])
        crowd.vote(carol, comparison, FIRST, shown=[1, 0])
    found = figures(campaign)
    assert found.everybody.agreement.value == 1.0
    assert found.alpha.value == pytest.approx(1.0)
    assert found.cohen.value == pytest.approx(1.0)
    assert of(found, bob).bias.b > 0 > of(found, carol).bias.b
    assert found.shared == 8


def test_the_latest_revision_counts_and_a_withdrawn_answer_does_not(project, bob, carol):
    campaign = open_campaign(project, comparisons=2, overlap=2)
    one, two = campaign.comparisons.order_by("pk")
    crowd.vote(bob, one, FIRST)
    crowd.vote(bob, one, outcome="withdrawn")
    crowd.vote(bob, one, SECOND)
    crowd.vote(carol, one, SECOND)
    crowd.vote(bob, two, FIRST)
    crowd.vote(bob, two, outcome="withdrawn")
    found = figures(campaign)
    assert found.everybody.votes == 2
    assert found.everybody.agreement.value == 1.0


def test_gold_repeats_and_their_outcomes_have_figures_of_their_own(project, bob):
    campaign = open_campaign(project, comparisons=4)
    first, second, third, _ = campaign.comparisons.order_by("pk")
    for comparison in (first, second, third):
        crowd.vote(bob, comparison, FIRST)
    for number, said in enumerate((FIRST, FIRST, SECOND)):
        crowd.vote(bob, crowd.gold(campaign, number), said)
    crowd.vote(bob, crowd.gold(campaign, 3, ranking=[[0, 1]]), TIE)
    crowd.vote(bob, crowd.gold(campaign, 4, why={DISPUTED: [1, 2]}), SECOND)
    crowd.skip(bob, crowd.gold(campaign, 5))
    for before, said in ((first, FIRST), (second, SECOND), (third, [])):
        again = Comparison.objects.create(
            campaign=campaign, prompt=before.prompt, kind="repeat", repeats=before, only_for=bob
        )
        crowd.vote(bob, again, said, shown=[1, 0])
    found = of(figures(campaign), bob)
    assert found.votes == 3
    assert (found.gold.right, found.gold.wrong) == (3, 1)
    assert (found.duplicates.value, found.duplicates.n) == (1.0, 1)
    assert (found.repeats.value, found.repeats.n) == (pytest.approx(1 / 3), 3)
    assert found.skipped == 0  # of ordinary ones


def test_a_vote_too_fast_to_have_read_the_answers_is_flagged_and_counts(project, bob):
    campaign = open_campaign(project, comparisons=4)
    Completion.objects.update(text="x" * 600)  # two answers of a hundred words: ten seconds
    times = (1_999, 9_900, 10_100, None)
    for comparison, active in zip(campaign.comparisons.all(), times, strict=True):
        crowd.vote(bob, comparison, FIRST, active_ms=active)
    found = of(figures(campaign), bob)
    assert (found.fast.value, found.fast.n) == (pytest.approx(2 / 3), 3)
    assert found.votes == 4
    Completion.objects.update(text="short")
    found = of(figures(campaign), bob)
    assert found.fast.value == pytest.approx(1 / 3)  # two seconds at least, however short


def test_slips_are_what_repeats_leave_unexplained(project, bob):
    campaign = open_campaign(project, comparisons=10)
    for number, comparison in enumerate(list(campaign.comparisons.order_by("pk"))):
        crowd.vote(bob, comparison, FIRST)
        again = Comparison.objects.create(
            campaign=campaign, prompt=comparison.prompt, kind="repeat", repeats=comparison,
            only_for=bob,
        )  # fmt: skip
        crowd.vote(bob, again, FIRST if number < 8 else SECOND)
    found = figures(campaign).everybody
    assert found.repeats.value == pytest.approx(0.8)
    slip = found.slips
    assert 2 * slip * (1 - slip) == pytest.approx(0.2)


def test_ratings_asked_again_may_move_by_half_a_step_on_the_average(project, bob):
    campaign = open_campaign(project, comparisons=3, asks=["rate"])
    first = {"0": {"helpful": 4, "honest": 5}, "1": {"helpful": 2, "honest": 1}}
    near = {"0": {"helpful": 3, "honest": 5}, "1": {"helpful": 2, "honest": 2}}
    far = {"0": {"helpful": 2, "honest": 5}, "1": {"helpful": 2, "honest": 2}}
    said = (first, near, far)
    for again, before in zip(said, list(campaign.comparisons.order_by("pk")), strict=True):
        crowd.vote(bob, before, outcome="absolute", ratings=first)
        repeat = Comparison.objects.create(
            campaign=campaign, prompt=before.prompt, kind="repeat", repeats=before, only_for=bob
        )
        crowd.vote(bob, repeat, outcome="absolute", ratings=again)
    found = of(figures(campaign), bob)
    assert (found.repeats.value, found.repeats.n) == (pytest.approx(2 / 3), 3)


def test_weeks_begin_on_monday_and_show_drift(project, bob, carol):
    campaign = open_campaign(project, comparisons=4, overlap=2)
    one, two, three, four = campaign.comparisons.order_by("pk")
    for comparison, at, theirs in (
        (one, crowd.EVENING - timedelta(days=7), FIRST),
        (two, crowd.EVENING - timedelta(days=7), FIRST),
        (three, crowd.EVENING, FIRST),
        (four, crowd.EVENING, SECOND),
    ):
        crowd.vote(bob, comparison, FIRST, at=at)
        crowd.vote(carol, comparison, theirs, at=at)
    crowd.vote(bob, crowd.gold(campaign), SECOND, at=crowd.EVENING)
    weeks = of(figures(campaign), bob).weeks
    assert [str(week.monday) for week in weeks] == ["2026-11-09", "2026-11-16"]
    assert [week.agreement for week in weeks] == [1.0, 0.5]
    assert [week.gold for week in weeks] == [None, 0.0]
    assert [week.votes for week in weeks] == [2, 2]


def test_rankings_of_three_are_compared_pair_by_pair(project, bob, carol):
    campaign = open_campaign(project, comparisons=6, answers=3, overlap=2)
    for comparison in campaign.comparisons.all():
        crowd.vote(bob, comparison, [[0], [1], [2]])
        crowd.vote(carol, comparison, [[0], [2], [1]])
    found = figures(campaign)
    assert found.everybody.agreement.value == pytest.approx(2 / 3)
    assert found.concordance.value == pytest.approx(0.75)  # W = (1 + tau-a's Spearman 0.5) / 2
    assert [one.order.value for one in found.people] == [pytest.approx(1 / 3)] * 2
    assert found.everybody.bias is None
    assert found.alpha.n == 6


def test_one_persons_campaign_says_in_words_that_agreement_is_undefined(project, bob):
    campaign = open_campaign(project)
    for comparison in campaign.comparisons.all():
        crowd.vote(bob, comparison, FIRST)
    found = figures(campaign)
    for estimate in (found.alpha, found.ac1, found.cohen, found.everybody.agreement):
        assert estimate.value is None
        assert estimate.why.endswith(".")
    assert found.everybody.bias.spread is None


def test_nobodys_figures_rest_on_an_excluded_persons_votes(project, bob, carol):
    campaign = open_campaign(project, comparisons=6, overlap=2)
    for comparison in campaign.comparisons.all():
        crowd.vote(bob, comparison, FIRST)
        crowd.vote(carol, comparison, SECOND)
    found = figures(campaign, excluded={carol.pk})
    assert found.everybody.votes == 6
    assert found.shared == 0
    assert of(found, carol).votes == 6


def test_an_empty_campaign_has_a_report(project):
    found = figures(open_campaign(project))
    assert (found.people, found.everybody.votes, found.everybody.weeks) == ([], 0, [])


def test_ten_thousand_votes_are_reported_by_three_queries(project, django_assert_num_queries):
    campaign = Campaign.objects.create(project=project, name="Large", overlap=2)
    prompts = PromptSet.objects.create(project=project, name="Large")
    made = Prompt.objects.bulk_create(
        Prompt(set=prompts, messages=[{"role": "user", "content": f"{n}?"}], digest=str(n))
        for n in range(5000)
    )
    comparisons = Comparison.objects.bulk_create(
        Comparison(campaign=campaign, prompt=prompt) for prompt in made
    )
    answers = Completion.objects.bulk_create(
        (Completion(prompt=prompt, text="word " * 150) for prompt in made for _ in range(2)),
        batch_size=500,
    )
    Candidate.objects.bulk_create(
        (
            Candidate(comparison=comparisons[n // 2], completion=answer, slot=n % 2)
            for n, answer in enumerate(answers)
        ),
        batch_size=500,
    )
    users = [User.objects.create_user(username=f"person-{n}") for n in range(20)]
    assert crowd.busy(campaign, users, overlap=2) == 10_000
    with django_assert_num_queries(3):
        found = figures(campaign)
    assert found.everybody.votes == 10_000
    assert found.alpha.has_interval
    assert len(found.people) == 20
