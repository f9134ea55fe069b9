"""From a click on the screen to who beat whom, through the order that was shown."""

from __future__ import annotations

from itertools import permutations

import pytest

from plumbline.collect import screen
from plumbline.collect.kinds import pair, rank
from plumbline.collect.models import Ballot
from plumbline.collect.queue import Verdict
from plumbline.collect.votes import preferences


def stored(verdict, shown) -> Ballot:
    """The ballot a verdict becomes."""
    return Ballot(
        shown=list(shown),
        outcome=verdict.outcome,
        ranking=verdict.ranking,
        strength=verdict.strength,
    )


@pytest.mark.parametrize("shown", [[0, 1], [1, 0]])
@pytest.mark.parametrize("choice", [value for value, _ in pair.choices()])
def test_what_is_clicked_is_what_is_stored_and_said_back(choice, shown):
    ballot = stored(Verdict(**pair.read(choice, shown)), shown)
    assert pair.write(ballot) == choice
    said = screen.sentence(ballot)
    if choice == "bad":
        assert (said, preferences([ballot])) == ("Both bad", [])
    elif choice == "tie":
        assert (said, preferences([ballot])) == ("A and B tie", [(0, 1, 0.5, 1.0)])
    else:
        winner = shown["AB".index(choice[0])]
        assert preferences([ballot]) == [(0, 1, 1.0 if winner == 0 else 0.0, 1.0)]
        assert said.startswith(choice[0])
        assert ballot.strength == int(choice[1])


@pytest.mark.parametrize("shown", list(permutations(range(3))))
def test_places_become_tie_groups_of_slots(shown):
    ranking = rank.read([2, 1, 2], list(shown))
    ballot = stored(Verdict(Ballot.Outcome.RANKED, ranking=ranking), shown)
    assert ballot.ranking == [[shown[1]], sorted([shown[0], shown[2]])]
    assert screen.sentence(ballot) == "B > A = C"
    for i, j, p, weight in preferences([ballot]):
        if shown[1] in (i, j):
            assert p == (1.0 if i == shown[1] else 0.0)
        else:
            assert p == 0.5
        assert weight == 1.0


def test_votes_of_several_people_average():
    votes = [
        Ballot(outcome="ranked", ranking=ranking, shown=[0, 1])
        for ranking in ([[0], [1]], [[0], [1]], [[1], [0]], [[0, 1]])
    ]
    votes.append(Ballot(outcome="all_bad", ranking=[], shown=[0, 1]))
    assert preferences(votes) == [(0, 1, 2.5 / 4, 4.0)]


def test_an_imported_judge_s_certainty_is_the_soft_label():
    sure = Ballot(outcome="ranked", ranking=[[1], [0]], shown=[0, 1], probability=0.2)
    assert preferences([sure]) == [(0, 1, 0.2, 1.0)]
