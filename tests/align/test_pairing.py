"""Rules that make pairs: who is chosen, with what label, and who is left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from align.algorithms.dpo import DPO
from align.pairing import RULES, Answer, Judged, PairChoice, Vote, preference, win_rate


def judged(
    scores: Sequence[float | None],
    votes: Sequence[Vote] = (),
    *,
    truncated: Sequence[int] = (),
    texts: Sequence[str] | None = None,
    tokens: Sequence[int] | None = None,
    prompt: str = "p",
    **fields: float,
) -> Judged:
    answers = tuple(
        Answer(
            id=str(k),
            text=texts[k] if texts else f"text {k}",
            tokens=tokens[k] if tokens else 10,
            truncated=k in truncated,
            score=score,
        )
        for k, score in enumerate(scores)
    )
    return Judged(prompt, answers, tuple(votes), **fields)


def sides(pairs: Sequence[PairChoice]) -> list[tuple[int, int]]:
    return [(pair.chosen, pair.rejected) for pair in pairs]


def test_votes_become_pairs_with_their_share_as_label() -> None:
    found = RULES["voted"](judged([None] * 3, [Vote(0, 1, 0.25, 4.0), Vote(1, 2, 1.0, 1.0)]), 0)
    assert found == [PairChoice(1, 0, 0.75, 4.0), PairChoice(1, 2, 1.0, 1.0)]


def test_a_split_vote_is_kept_as_a_tie() -> None:
    assert RULES["voted"](judged([None] * 2, [Vote(0, 1, 0.5, 2.0)]), 0)[0].p == 0.5


def test_max_min_pairs_best_with_worst() -> None:
    found = RULES["max_min"](judged([0.1, 2.0, -1.0]), 0)
    assert sides(found) == [(1, 2)]
    assert found[0].p == pytest.approx(1 / (1 + math.exp(-3.0)))


def test_max_max_pairs_best_with_second_best() -> None:
    assert sides(RULES["max_max"](judged([0.1, 2.0, -1.0]), 0)) == [(1, 0)]


def test_max_random_meets_every_other_answer() -> None:
    rule = RULES["max_random"]
    met = {sides(rule(judged([0.1, 2.0, -1.0, 0.5]), seed))[0] for seed in range(40)}
    assert met == {(1, 0), (1, 2), (1, 3)}


def test_random_pairs_do_not_look_at_scores() -> None:
    rule = RULES["random"]
    met = {frozenset(sides(rule(judged([0.1, 2.0, -1.0]), seed))[0]) for seed in range(40)}
    assert met == {frozenset({0, 1}), frozenset({0, 2}), frozenset({1, 2})}


def test_all_pairs_weigh_as_one_together() -> None:
    found = RULES["all_pairs"](judged([0.1, 2.0, -1.0]), 0)
    assert set(sides(found)) == {(1, 0), (1, 2), (0, 2)}
    assert sum(pair.weight for pair in found) == pytest.approx(1)


def test_pairs_within_the_margin_are_dropped() -> None:
    assert sides(RULES["all_pairs"](judged([0.0, 0.5, 2.0], margin=1.0), 0)) == [(2, 1), (2, 0)]


@pytest.mark.parametrize("rule", ["max_min", "max_max", "max_random", "random", "all_pairs"])
def test_equal_scores_never_become_a_win(rule: str) -> None:
    assert RULES[rule](judged([1.0, 1.0, 1.0]), 0) == []


@pytest.mark.parametrize("rule", list(RULES))
def test_one_answer_or_one_text_makes_no_pair(rule: str) -> None:
    same = judged([1.0, 2.0], [Vote(0, 1, 1.0, 1.0)], texts=["a", "a"])
    assert RULES[rule](same, 0) == []
    assert RULES[rule](judged([1.0]), 0) == []


@pytest.mark.parametrize("rule", list(RULES))
def test_an_answer_that_was_cut_off_is_never_chosen(rule: str) -> None:
    cut = judged([2.0, 1.0], [Vote(0, 1, 1.0, 1.0)], truncated=[0])
    assert RULES[rule](cut, 0) == []
    assert RULES[rule](judged([2.0, 1.0], [Vote(0, 1, 1.0, 1.0)], truncated=[1]), 0)


@pytest.mark.parametrize("rule", list(RULES))
def test_the_same_seed_gives_the_same_pairs(rule: str) -> None:
    data = judged([0.3, 2.0, -1.0, 0.3, 0.9], [Vote(0, 1, 0.2, 1.0)])
    assert RULES[rule](data, 7) == RULES[rule](data, 7)


def test_the_length_penalty_moves_selection_and_nothing_else() -> None:
    data = judged([2.0, 1.5, 0.0], tokens=[1000, 10, 10], length_penalty=0.001)
    assert sides(RULES["max_min"](data, 0)) == [(1, 2)]


def test_what_people_said_of_a_pair_beats_the_scores() -> None:
    data = judged([2.0, 0.0], [Vote(1, 0, 0.9, 3.0)])
    assert preference(data, 0, 1) == pytest.approx(0.1)
    assert sides(RULES["max_min"](data, 0)) == [(1, 0)]


def test_several_votes_on_a_pair_are_one_by_their_weights() -> None:
    # Three of four for the first, and once more, written the other way round, one of one.
    votes = [Vote(0, 1, 0.75, 4.0), Vote(1, 0, 0.0, 1.0, 0.0), Vote(0, 1, 0.5, 1.0, 0.6)]
    data = judged([None] * 3, [*votes, Vote(1, 2, 1.0, 1.0)])
    assert preference(data, 0, 1) == pytest.approx(4.5 / 6)
    assert preference(data, 1, 0) == pytest.approx(1.5 / 6)
    first, second = RULES["voted"](data, 0)
    assert sides([first, second]) == [(0, 1), (1, 2)]
    assert (first.p, first.weight, first.tie) == pytest.approx((0.75, 6.0, 0.1))
    # Whom an answer met most often does not decide alone what it is worth.
    assert win_rate(data, 1) == pytest.approx((0.25 + 1) / 2)
    assert sides(RULES["max_min"](data, 0)) == [(0, 2)]


def test_a_vote_of_no_weight_says_nothing() -> None:
    data = judged([2.0, 0.0], [Vote(1, 0, 1.0, 0.0)])
    assert preference(data, 0, 1) == pytest.approx(1 / (1 + math.exp(-2.0)))
    assert RULES["voted"](data, 0) == []


def test_a_temperature_softens_probabilities_and_neither_order_nor_margin() -> None:
    plain = judged([2.0, 0.0, -1.0])
    warm = replace(plain, temperature=4.0)
    assert preference(warm, 0, 1) == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert win_rate(warm, 0) < win_rate(plain, 0)
    for rule in ("max_min", "max_max", "all_pairs"):
        for margin in (0.0, 2.5):
            first, second = (
                [
                    (pair.chosen, pair.rejected)
                    for pair in RULES[rule](replace(one, margin=margin), 0)
                ]
                for one in (plain, warm)
            )
            assert first == second
    voted = replace(warm, votes=(Vote(0, 1, 0.9, 1.0),))
    assert preference(voted, 0, 1) == 0.9  # people's word is a share already


def test_scores_that_are_worlds_apart_are_a_certain_preference() -> None:
    assert preference(judged([1e4, -1e4]), 0, 1) == 1
    assert preference(judged([1e4, -1e4]), 1, 0) == 0


def test_a_tournament_keeps_its_pair_only_if_the_winner_beats_the_loser() -> None:
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert sides(RULES["tournament"](judged(scores), 3)) == [(7, 0)]
    upset = judged(scores, [Vote(0, 7, 0.9, 1.0)])
    for seed in range(10):
        assert (7, 0) not in sides(RULES["tournament"](upset, seed))


def test_without_a_model_the_votes_rank_the_answers() -> None:
    votes = [Vote(0, 1, 1.0, 1.0), Vote(2, 1, 0.0, 1.0), Vote(0, 2, 1.0, 1.0)]
    assert sides(RULES["max_min"](judged([None] * 3, votes), 0)) == [(0, 2)]


def test_an_algorithm_uses_the_rule_it_is_told() -> None:
    found = DPO().examples(judged([0.1, 2.0, -1.0]), "max_max", 0)
    assert [example.answers for example in found] == [{"chosen": 1, "rejected": 0}]
