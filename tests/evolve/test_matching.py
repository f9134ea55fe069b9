"""Cards of like length: when they are shown, how alike they are, and what the page says of it."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from align import seeded_writer
from plumbline.collect.models import Completion
from plumbline.evolve import asking, checking, matching, ranking
from tests.evolve import laboratory
from tests.evolve.conftest import rank_everything

pytestmark = pytest.mark.django_db
HOME = "/p/alpha/evolve/"


def of_lengths(*lengths):
    return [SimpleNamespace(token_ids=[0] * one, text="") for one in lengths]


def test_the_fullest_window_of_lengths_is_taken_and_the_shortest_of_equals() -> None:
    kept = matching.alike(of_lengths(1, 10, 11, 12, 30, 33, 90), 1.25)
    assert [len(one.token_ids) for one in kept] == [10, 11, 12]
    assert len(matching.alike(of_lengths(4, 5, 40, 50), 1.25)[0].token_ids) == 4
    assert len(matching.alike(of_lengths(0, 0), 1.25)) == 2
    assert matching.alike([], 1.25) == []
    draw = random.Random(1)
    for _ in range(50):
        kept = matching.alike(of_lengths(*(draw.randint(1, 60) for _ in range(12))), 1.25)
        lengths = [len(one.token_ids) for one in kept]
        assert max(lengths) <= 1.25 * min(lengths)


def long_winded(evolution):
    """A generation with two programs that go by length, either way, and two that do not."""
    generation = evolution.generations.get()
    for arm, weights in enumerate(
        ({"brevity": 5.0}, {"brevity": -5.0}, {"politeness": 2.0}, {"certainty": 2.0})
    ):
        laboratory.add(generation, arm, seeded_writer.build(weights, {}))
    return generation


def ratios(generation):
    """The longest card of each comparison over its shortest, in tokens."""
    found = []
    for comparison in generation.campaign.comparisons.all():
        slots = comparison.slots.all()
        lengths = [max(1, checking.tokens(slot.completion)) for slot in slots]
        found.append(max(lengths) / min(lengths))
    return found


def test_a_program_that_goes_by_length_makes_cards_of_like_length(
    evolution_of, rater, alice, client_for
):
    evolution = evolution_of(matching="auto", pool_size=16, temperature=1.0)
    generation = long_winded(evolution)
    asking.opened(generation)
    told = generation.figures["matching"]
    assert told["wanted"] is True
    assert max(abs(one) for one in told["spearman"].values() if one is not None) > 0.6
    assert generation.length_ratio == matching.RATIO, told
    assert max(ratios(generation)) <= matching.RATIO
    programs = {one.pk for one in checking.contenders(generation)}
    for card in asking.cards(generation).values():
        assert {pk for some in card.values() for pk in some} == programs
    rank_everything(rater, evolution, lambda text: len(text.split()))
    generation.refresh_from_db()
    ranking.settle(generation, ranking.standing(generation))
    shown = generation.figures["cards"]
    assert 1 <= shown["ratio"] <= shown["most"] <= matching.RATIO
    assert generation.figures["matching"] == told, "what was logged stays"
    assert generation.good.report["total"]["rankings"] > 0
    said = client_for(alice).get(f"{HOME}{evolution.pk}/").content.decode()
    assert "of like length: the longest" in said
    assert "people’s order goes with length by" in said


def test_without_matching_the_tau_of_length_tells_that_people_ranked_length(evolution_of, rater):
    evolution = evolution_of(matching="never")
    generation = long_winded(evolution)
    asking.opened(generation)
    assert generation.length_ratio is None
    assert max(ratios(generation)) > matching.RATIO
    rank_everything(rater, evolution, lambda text: -len(text.split()))
    generation.refresh_from_db()
    ranking.settle(generation, ranking.standing(generation))
    assert generation.figures["cards"]["tau"] == pytest.approx(-1.0)


def test_programs_that_do_not_go_by_length_are_not_matched_unless_it_is_asked(evolution_of):
    calm = evolution_of(name="Calm", matching="auto")
    generation = calm.generations.get()
    for arm, name in enumerate(("politeness", "certainty", "questions")):
        laboratory.add(generation, arm, seeded_writer.build({name: 2.0}, {}))
    spearman = matching.correlations(generation)
    matching.decide(generation)
    far = any(abs(one or 0) > 0.6 for one in spearman.values())
    assert generation.figures["matching"]["wanted"] is far
    calm.matching = "always"
    matching.decide(generation)
    assert generation.figures["matching"]["wanted"] is True


def test_where_too_few_prompts_are_left_cards_are_of_any_length_and_it_is_said(evolution_of):
    evolution = evolution_of(matching="always", pool_size=4)
    for one in Completion.objects.all():  # each twice as long as the one before
        one.token_ids = [0] * 2**one.draw
        one.save(update_fields=["token_ids"])
    generation = long_winded(evolution)
    matching.decide(generation)
    assert generation.length_ratio is None
    assert "have different cards of like length" in generation.figures["matching"]["why_not"]
