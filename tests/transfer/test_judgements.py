"""The rules by which votes become rows of training data."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from plumbline.collect.models import Ballot
from plumbline.transfer import judgements
from plumbline.transfer.options import Options

TEXTS = {slot: str(slot) for slot in range(4)}


def ranked(*ranking: list[int], **fields: Any) -> Ballot:
    return Ballot(outcome="ranked", ranking=list(ranking), **fields)


def all_bad(**fields: Any) -> Ballot:
    return Ballot(outcome="all_bad", **fields)


def pairs(*ballots: Ballot, texts: dict[int, str] = TEXTS, **options: Any) -> list[Any]:
    found = judgements.pairs(ballots, texts, Options(**options), Counter())
    return [(named(one.chosen), named(one.rejected), pytest.approx(one.weight)) for one in found]


def named(text: str) -> int | str:
    """An answer by its slot."""
    return int(text) if text.isdigit() else text


def singles(*ballots: Ballot, slots: int = 2, **options: Any) -> list[Any]:
    found = judgements.singles(ballots, range(slots), Options(**options), Counter())
    return [(one.slot, one.good) for one in found]


def why(*ballots: Ballot, rule: Any = judgements.pairs, **options: Any) -> list[str]:
    """Why these votes give no row."""
    left: Counter[str] = Counter()
    known = TEXTS if rule is judgements.pairs else [0, 1]
    assert not list(rule(ballots, known, Options(**options), left))
    return list(left)


def test_a_vote_on_a_pair_is_one_row():
    assert pairs(ranked([1], [0])) == [(1, 0, 1.0)]


def test_a_ranking_with_ties_gives_every_strict_pair_and_they_weigh_one_together():
    assert pairs(ranked([2], [0, 3], [1])) == [
        (0, 1, 1 / 5),
        (2, 0, 1 / 5),
        (2, 1, 1 / 5),
        (3, 1, 1 / 5),
        (2, 3, 1 / 5),
    ]


def test_a_tie_is_left_out_and_counted():
    assert why(ranked([0, 1])) == ["votes that are ties"]


def test_a_tie_at_half_the_weight_is_both_orders():
    assert pairs(ranked([0, 1]), ties="half") == [(0, 1, 0.5), (1, 0, 0.5)]
    found = pairs(ranked([0, 1], [2]), ties="half")
    assert found == [(0, 1, 1 / 6), (1, 0, 1 / 6), (0, 2, 1 / 3), (1, 2, 1 / 3)]


def test_all_bad_is_no_preference_and_no_tie():
    for ties in ("skip", "half"):
        assert why(all_bad(), ties=ties) == ["votes that call every answer bad: no preference"]


def test_ratings_without_an_order_are_no_preference():
    assert why(Ballot(outcome="absolute", ratings={"0": {"q": 1}})) == ["votes that do not compare"]


def test_two_answers_with_the_same_text_are_no_pair():
    same = {0: "yes", 1: "yes", 2: "no"}
    assert pairs(ranked([0], [1], [2]), texts=same) == [("yes", "no", 0.5), ("yes", "no", 0.5)]


def test_several_votes_are_a_row_each_or_the_majoritys():
    three = ranked([0], [1]), ranked([0], [1]), ranked([1], [0])
    assert pairs(*three) == [(0, 1, 1.0), (0, 1, 1.0), (1, 0, 1.0)]
    assert pairs(*three, votes="majority") == [(0, 1, 1.0)]


def test_votes_that_balance_are_a_tie_of_the_majority():
    two = ranked([0], [1]), ranked([1], [0])
    assert why(*two, votes="majority") == ["comparisons that are ties"]
    assert pairs(*two, votes="majority", ties="half") == [(0, 1, 0.5), (1, 0, 0.5)]


def test_a_majority_that_calls_all_bad_prefers_nothing():
    said = why(all_bad(), all_bad(), ranked([0], [1]), votes="majority")
    assert said == ["comparisons whose answers most call bad: no preference"]


def test_a_correction_is_better_than_what_it_corrects_where_that_is_asked_for():
    corrected = ranked([1], [0], corrections={"0": "right"})
    assert pairs(corrected) == [(1, 0, 1.0)]
    assert pairs(corrected, corrections=True) == [(1, 0, 0.5), ("right", 0, 0.5)]
    alone = Ballot(outcome="absolute", corrections={"1": "right"})
    assert pairs(alone, corrections=True) == [("right", 1, 1.0)]
    assert pairs(all_bad(corrections={"1": "right"}), corrections=True) == [("right", 1, 1.0)]
    # Nobody votes on a correction, so no majority overrules it.
    two = corrected, ranked([1], [0])
    found = pairs(*two, votes="majority", corrections=True)
    assert found == [(1, 0, 1.0), ("right", 0, 1.0)]


def test_a_correction_that_changes_nothing_is_no_pair():
    assert pairs(ranked([0], [1], corrections={"0": "0"}), corrections=True) == [(0, 1, 1.0)]


def test_all_bad_makes_each_answer_bad():
    assert singles(all_bad()) == [(0, False), (1, False)]


@pytest.mark.parametrize(
    ("mark", "labels"), [(3, [(1, True)]), (2, []), (1, [(0, False), (1, False)])]
)
def test_a_mark_is_of_the_best_answer(mark, labels):
    assert sorted(singles(ranked([1], [0], mark=mark))) == labels
    assert sorted(singles(ranked([1], [0], mark=mark), pairs=True)) == labels


def test_a_mark_of_answers_that_tie_is_of_both():
    assert singles(ranked([0, 1], mark=3)) == [(0, True), (1, True)]


def test_an_order_alone_labels_nothing_unless_that_is_asked_for():
    said = why(ranked([1], [0]), rule=judgements.singles)
    assert said == ["votes without an absolute mark"]
    assert singles(ranked([1], [0]), pairs=True) == [(1, True), (0, False)]
    # What lies between the best and the worst is neither.
    assert singles(ranked([2], [0, 3], [1]), slots=4, pairs=True) == [(2, True), (1, False)]


def test_a_tie_makes_both_true_where_that_is_asked_for():
    assert singles(ranked([0, 1]), ties="both") == [(0, True), (1, True)]
    assert why(ranked([0, 1]), rule=judgements.singles, pairs=True) == ["votes that are ties"]


def test_marks_of_several_people_are_rows_each_or_the_majoritys():
    three = ranked([0], [1], mark=3), all_bad(), ranked([0], [1], mark=3)
    assert singles(*three) == [(0, True), (0, False), (1, False), (0, True)]
    assert singles(*three, votes="majority") == [(0, True), (1, False)]
    assert singles(ranked([0], [1], mark=3), all_bad(), votes="majority") == [(1, False)]
