"""Who labels what: pure decisions."""

from __future__ import annotations

from plumbline.judges import triage
from plumbline.judges.triage import Sent, Word


def test_the_slice_is_drawn_by_what_is_compared_and_the_rounds_seed_alone() -> None:
    names = [triage.name(f"{n:064x}", [f"one {n}", f"two {n}"]) for n in range(4000)]
    drawn = [triage.in_slice("7:1", one, 10) for one in names]
    assert 0.08 < sum(drawn) / 4000 < 0.12
    assert drawn == [triage.in_slice("7:1", one, 10) for one in names]
    assert drawn != [triage.in_slice("7:2", one, 10) for one in names]
    assert triage.name("d", ["a", "b"]) == triage.name("d", ["b", "a"])
    assert not any(triage.in_slice("7:1", one, 0) for one in names)
    assert all(triage.in_slice("7:1", one, 100) for one in names)
    more = [triage.in_slice("7:1", one, 20) for one in names]
    assert all(wide for wide, narrow in zip(more, drawn, strict=True) if narrow)


WORDS = {
    1: Word(0.98, True),
    2: Word(0.7, True),
    3: Word(0.02, True),
    4: Word(0.95, False),
    5: Word(None, False),
    6: Word(0.5, True),
}


def test_the_judge_gets_what_it_is_sure_of_and_people_the_rest() -> None:
    found = triage.triage(WORDS, above=0.4)
    assert found == {
        1: Sent("judge", "sure"),
        2: Sent("people", "unsure"),
        3: Sent("judge", "sure"),
        4: Sent("people", "inconsistent"),
        5: Sent("people", "silent"),
        6: Sent("people", "unsure"),
    }
    assert all(sent.to == "people" for sent in triage.triage(WORDS, above=None).values())


def test_few_votes_go_to_the_most_uncertain_first() -> None:
    found = triage.triage(WORDS, above=0.4, budget=3)
    assert [pk for pk, sent in found.items() if sent.to == "people"] == [4, 5, 6]
    assert found[2] == Sent("nobody", "left out")
    assert found[1].to == "judge"
    order = sorted(WORDS, key=lambda pk: -triage.priority(WORDS[pk]))
    assert order[-1] in (1, 3)
    assert triage.priority(None) > max(triage.priority(word) for word in WORDS.values())


def test_a_judge_of_everything_leaves_people_what_it_is_silent_on() -> None:
    found = triage.by_judge(WORDS)
    assert {pk for pk, sent in found.items() if sent.to == "judge"} == {1, 2, 3, 6}
    assert found[4] == Sent("nobody", "inconsistent")
    assert found[5] == Sent("people", "silent")
