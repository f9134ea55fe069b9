"""Hidden tests among ordinary comparisons: how often, which, to whom, and how they are shown."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from plumbline.accounts.models import User
from plumbline.collect import queue
from plumbline.collect.models import Comparison, Enrolment
from plumbline.collect.quality import mixing, settings
from plumbline.collect.quality.settings import Quality
from plumbline.collect.queue import figures, history
from tests.collect import crowd
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db

ALWAYS_GOLD = {"gold_start": 0.5, "gold_end": 0.5, "repeat_share": 0.0}


@pytest.fixture
def fate(monkeypatch):
    """`fate(draw)`: what every draw comes out as, so that a test can ask for a kind."""

    def decide(draw: float) -> None:
        true_draw = mixing._uniform
        monkeypatch.setattr(
            mixing, "_uniform", lambda what: true_draw(what) if ":" in what else draw
        )

    return decide


@pytest.mark.parametrize("quality", [Quality(), Quality(gold_start=0.3, gold_end=0.1)])
def test_the_share_of_tests_is_as_set_within_three_sigma(quality):
    draw = random.Random(11)
    for answered, wanted in (
        (0, quality.gold_start),
        (100, (quality.gold_start + quality.gold_end) / 2),
        (200, quality.gold_end),
        (5000, quality.gold_end),
    ):
        n = 20_000
        found = Counter(mixing.choose(quality, answered, draw.random()) for _ in range(n))
        repeats = quality.repeat_share if answered > quality.repeat_gap else 0.0
        for kind, share in (("gold", wanted), ("repeat", repeats)):
            assert abs(found[kind] - share * n) <= 3 * math.sqrt(n * share * (1 - share))


def test_draws_are_spread_evenly_and_cannot_be_told_without_the_secret(settings):
    draws = [mixing._uniform(f"ballot {n}") for n in range(10_000)]
    inside = sum(draw < 0.1 for draw in draws)
    assert abs(inside - 1000) <= 3 * math.sqrt(10_000 * 0.1 * 0.9)
    assert draws[:5] == [mixing._uniform(f"ballot {n}") for n in range(5)]
    settings.SECRET_KEY = "another"
    assert draws[:5] != [mixing._uniform(f"ballot {n}") for n in range(5)]


def test_the_first_comparison_is_an_ordinary_one(project, bob, fate):
    campaign = open_campaign(project, quality=ALWAYS_GOLD)
    crowd.gold(campaign)
    fate(0.0)
    assert mixing.special(bob, campaign) is None


def test_asking_again_gives_the_same_and_each_gold_comes_once(project, bob, fate):
    campaign = open_campaign(project, quality=ALWAYS_GOLD)
    golds = {crowd.gold(campaign, n).pk for n in range(4)}
    crowd.vote(bob, campaign.comparisons.first(), [[0], [1]])
    fate(0.0)
    seen = set()
    for _ in golds:
        comparison = mixing.special(bob, campaign)
        assert mixing.special(bob, campaign) == comparison
        assert comparison.pk in golds - seen
        seen.add(comparison.pk)
        crowd.vote(bob, comparison, [[0], [1]])
    assert mixing.special(bob, campaign) is None


def test_people_meet_the_gold_in_orders_of_their_own(project, fate):
    campaign = open_campaign(project, quality=ALWAYS_GOLD)
    for n in range(6):
        crowd.gold(campaign, n)
    first = campaign.comparisons.first()
    fate(0.0)
    met = set()
    for n in range(12):
        person = User.objects.create_user(username=f"person-{n}")
        crowd.vote(person, first, [[0], [1]])
        met.add(mixing.special(person, campaign).pk)
    assert len(met) >= 3


def test_a_skipped_or_retired_gold_is_not_asked(project, bob, fate):
    campaign = open_campaign(project, quality=ALWAYS_GOLD)
    skipped, retired = crowd.gold(campaign, 0), crowd.gold(campaign, 1, retired_at=crowd.EVENING)
    crowd.skip(bob, skipped)
    fate(0.0)
    assert mixing.special(bob, campaign) is None
    retired.retired_at = None
    retired.save()
    assert mixing.special(bob, campaign) == retired


def repeating(project, votes: int, **quality):
    """A campaign in which bob has given so many votes, oldest first; the draw is for a repeat."""
    settings = {"gold_start": 0.0, "gold_end": 0.0, "repeat_share": 0.5, **quality}
    campaign = open_campaign(project, comparisons=votes, quality=settings)
    return campaign, list(campaign.comparisons.order_by("pk"))


def test_a_repeat_comes_ten_answers_later_with_the_sides_swapped(project, bob, fate):
    campaign, comparisons = repeating(project, 11)
    fate(0.0)
    for n, comparison in enumerate(comparisons[:10]):
        shown = [1, 0] if n == 0 else [0, 1]
        crowd.vote(bob, comparison, [[0], [1]], shown=shown)
        assert mixing.special(bob, campaign) is None
    crowd.vote(bob, comparisons[10], [[0], [1]])
    repeat = mixing.special(bob, campaign)
    assert (repeat.kind, repeat.repeats, repeat.only_for) == ("repeat", comparisons[0], bob)
    assert mixing.order(repeat) == [0, 1]  # shown as [1, 0] the first time
    texts = [slot.completion_id for slot in repeat.slots.all()]
    assert texts == [slot.completion_id for slot in comparisons[0].slots.all()]
    assert mixing.order(comparisons[0]) is None


def test_a_repeat_waits_until_it_is_answered_and_no_vote_is_repeated_twice(project, bob, fate):
    campaign, comparisons = repeating(project, 12)
    for comparison in comparisons:
        crowd.vote(bob, comparison, [[0], [1]])
    fate(0.0)
    repeat = mixing.special(bob, campaign)
    assert mixing.special(bob, campaign) == repeat
    crowd.vote(bob, repeat, [[0], [1]])
    second = mixing.special(bob, campaign)
    crowd.vote(bob, second, [[0], [1]])
    assert {repeat.repeats, second.repeats} <= set(comparisons[:3])
    assert repeat.repeats != second.repeats
    assert Comparison.objects.filter(kind="repeat").count() == 2


def test_ratings_are_asked_again_where_people_only_rate(project, bob, fate):
    campaign, comparisons = repeating(project, 12)
    campaign.asks, campaign.criteria = ["rate"], [{"name": "helpful"}]
    campaign.save()
    given = {"0": {"helpful": 4}, "1": {"helpful": 2}}
    crowd.vote(bob, comparisons[0], outcome="absolute", corrections={"0": "So."})
    for comparison in comparisons[1:]:
        crowd.vote(bob, comparison, outcome="absolute", ratings=given)
    fate(0.0)
    repeat = mixing.special(bob, campaign)
    assert repeat.repeats == comparisons[1], "a correction alone says nothing twice"
    assert mixing.order(repeat) == [1, 0]


def test_only_ranked_ordinary_votes_that_stand_are_repeated(project, bob, carol, fate):
    campaign, comparisons = repeating(project, 15)
    crowd.skip(bob, comparisons[0])
    crowd.vote(bob, comparisons[1])  # all bad
    crowd.vote(bob, crowd.gold(campaign), [[0], [1]])
    crowd.vote(carol, comparisons[2], [[0], [1]])
    crowd.vote(bob, comparisons[3], [[0], [1]])
    for comparison in comparisons[4:14]:
        crowd.vote(bob, comparison, [[0], [1]])
    crowd.vote(bob, comparisons[4], [[1], [0]])  # answered anew: recent again
    fate(0.0)
    assert mixing.special(bob, campaign).repeats == comparisons[3]
    assert mixing.special(carol, campaign) is None


def test_nine_times_in_ten_the_decision_takes_one_query(
    project, bob, fate, django_assert_num_queries
):
    campaign = open_campaign(project)
    crowd.vote(bob, campaign.comparisons.first(), [[0], [1]])
    fate(0.5)
    with django_assert_num_queries(1):
        assert mixing.special(bob, campaign) is None


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"gold_start": 0.9}, "between 0 and a half"),
        ({"gold_start": 0.02}, "cannot end above its start"),
        ({"repeat_gap": 0}, "at least 1"),
        ({"gold_over": 2.5}, "whole number"),
        ({"pause": 1}, "not what is asked"),
        ({"gold_start": True}, "not what is asked"),
        ({"gold_start": float("nan")}, "between 0 and a half"),
        ({"seconds_least": -1.0}, "cannot be negative"),
        ({"pause_accuracy": 1.0}, "between 0 and 1"),
        ({"golden": 1}, "no quality setting called golden"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_sentence(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        settings.read(values)


def test_an_empty_campaign_has_the_defaults_and_whole_numbers_serve_as_shares(campaign):
    assert settings.of(campaign) == Quality()
    assert settings.read({"seconds_least": 3}).seconds_least == 3


def test_a_working_day_has_its_share_of_tests_none_twice_and_repeats_that_are_due(project, bob):
    """Bob answers whatever comes, 400 times: a test where one is due, else an ordinary one."""
    campaign = open_campaign(project, comparisons=400)
    golds = [crowd.gold(campaign, n) for n in range(60)]
    quality = settings.of(campaign)
    ordinary = iter(campaign.comparisons.filter(kind="ordinary").order_by("pk"))
    draw, answered, shares, chance = random.Random(7), [], Counter(), 0.0
    for n in range(400):
        chance += mixing.gold_share(quality, n) + quality.repeat_share * (n > quality.repeat_gap)
        comparison = mixing.special(bob, campaign) or next(ordinary)
        shown = mixing.order(comparison) or draw.sample([0, 1], 2)
        crowd.vote(bob, comparison, [[0], [1]], shown=shown)
        shares[comparison.kind] += 1
        answered.append((comparison, shown))
    tests = shares["gold"] + shares["repeat"]
    assert abs(tests - chance) <= 3 * math.sqrt(chance * (1 - chance / 400))
    assert len({comparison.pk for comparison, _ in answered}) == 400
    assert 0 < shares["gold"] < len(golds)
    places = {comparison.pk: (n, shown) for n, (comparison, shown) in enumerate(answered)}
    repeats = [one for one, _ in answered if one.kind == "repeat"]
    assert len({one.repeats_id for one in repeats}) == len(repeats) > 0
    for one in repeats:
        (then, first), (now, again) = places[one.repeats_id], places[one.pk]
        assert now - then > quality.repeat_gap
        assert again == first[::-1]


@pytest.mark.parametrize("small", [figures.SMALL, 1])
def test_no_count_that_a_person_sees_tells_a_hidden_test_from_a_vote(
    small, project, bob, prefer, client_for, monkeypatch
):
    monkeypatch.setattr(figures, "SMALL", small)
    often = {"gold_start": 0.5, "gold_end": 0.5, "repeat_share": 0.5, "repeat_gap": 2}
    campaign = open_campaign(project, comparisons=24, quality=often)
    for number in range(6):
        crowd.gold(campaign, number)
    client, kinds = client_for(bob), set()
    for answered in range(1, 21):
        ballot = prefer(queue.claim_next(bob, campaign))
        kinds.add(ballot.comparison.kind)
        seen = queue.seen(bob, campaign)
        assert seen.answered == answered, "it counts like any other"
        assert seen.left % 5 == seen.share % 5 == 0, "and what is left is told roughly"
        page = client.get("/p/alpha/lab/my-work/").content.decode()
        assert f">{answered}</a>" in page
        assert client.get("/p/alpha/lab/my-work/").context["repeats"].n == 0, "not on the same day"
    assert kinds == {"ordinary", "gold", "repeat"}
    for answered in range(19, 13, -1):
        queue.undo(bob, campaign)
        assert queue.seen(bob, campaign).answered == answered
    Enrolment.objects.update(votes=None, tests=None)
    assert queue.seen(bob, campaign).answered == 14, "counted anew it is the same"
    history.count_votes(Enrolment.objects.all())
    assert queue.seen(bob, campaign).answered == 14


def test_settings_that_were_read_before_are_still_checked(project):
    campaign = open_campaign(project, quality={"pause": True, "gold_over": 2})
    assert settings.of(campaign).gold_over == settings.of(campaign).gold_over == 2
    campaign.quality = {"pause": 1, "gold_over": 2}
    with pytest.raises(ValueError, match="not what is asked"):
        settings.of(campaign)
    campaign.quality = {"pause": True, "gold_over": 3}
    assert settings.of(campaign).gold_over == 3
