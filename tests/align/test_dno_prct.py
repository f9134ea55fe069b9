"""DNO-Prct: which answers may win against which, and DPO against the round's start."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from align.algorithm import Example, Labels, LogProbs
from align.algorithms.dno_prct import DNOPrct, repeated_share
from align.algorithms.dpo import DPO
from align.pairing import Answer, Judged, Vote

RUBRIC = DNOPrct(threshold=5, margin=2, student_margin=1)
LOOP = "so it goes " * 20


def judged(
    scores: Sequence[float | None],
    votes: Sequence[Vote] = (),
    *,
    teacher: Sequence[int] = (),
    looping: Sequence[int] = (),
    truncated: Sequence[int] = (),
) -> Judged:
    answers = tuple(
        Answer(
            id=str(k),
            text=LOOP + str(k) if k in looping else f"answer {k}",
            tokens=10,
            truncated=k in truncated,
            score=score,
            source="teacher" if k in teacher else "policy",
        )
        for k, score in enumerate(scores)
    )
    return Judged("p", answers, tuple(votes))


def sides(examples: Sequence[Example]) -> set[tuple[int, int]]:
    return {(e.answers["chosen"], e.answers["rejected"]) for e in examples}


def values(*names: str, seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: {
            role: -40 * torch.rand(5, generator=generator, dtype=torch.float64)
            for role in ("chosen", "rejected")
        }
        for name in names
    }


def test_it_is_dpo_against_the_rounds_start() -> None:
    models = values("policy", "round_start")
    p = Labels(p=torch.ones(5, dtype=torch.float64))
    mine = DNOPrct(beta=0.05).loss(LogProbs(models), p)
    renamed = {"policy": models["policy"], "reference": models["round_start"]}
    theirs = DPO(beta=0.05).loss(LogProbs(renamed), p)
    assert torch.equal(mine.losses, theirs.losses)
    assert all(torch.equal(mine.metrics[name], theirs.metrics[name]) for name in theirs.metrics)


def test_a_loss_worked_by_hand() -> None:
    # gap 4 under the policy and 1 under the start: -log sigmoid(0.1 * 3) = log(1 + e^-0.3).
    def row(value: float) -> torch.Tensor:
        return torch.tensor([value], dtype=torch.float64)

    models = {
        "policy": {"chosen": row(-10), "rejected": row(-14)},
        "round_start": {"chosen": row(-11), "rejected": row(-12)},
    }
    found = DNOPrct(beta=0.1).loss(LogProbs(models), Labels(p=row(1.0)))
    assert found.losses.item() == pytest.approx(math.log(1 + math.exp(-0.3)), abs=1e-12)


def test_positives_reach_the_threshold_and_negatives_lie_a_margin_below() -> None:
    # 0 (5 points) needs 1 point less, the teacher's 3 (6 points) needs 2; 4 points never win.
    found = RUBRIC.examples(judged([5, 4, 3, 6], teacher=[3]), "all_pairs", 0)
    assert sides(found) == {(0, 1), (0, 2), (3, 1), (3, 2)}
    assert {e.p for e in found} == {1.0}
    assert [e.weight for e in found] == [0.25] * 4


def test_a_student_may_beat_its_teacher() -> None:
    assert sides(RUBRIC.examples(judged([6, 5], teacher=[1]), "all_pairs", 0)) == {(0, 1)}
    assert RUBRIC.examples(judged([5, 6], teacher=[1]), "all_pairs", 0) == []


def test_nobody_wins_below_the_threshold() -> None:
    assert RUBRIC.examples(judged([4.9, 0], teacher=[0]), "all_pairs", 0) == []


def test_an_answer_that_loops_can_only_lose() -> None:
    assert sides(RUBRIC.examples(judged([5, 6], looping=[1]), "all_pairs", 0)) == {(0, 1)}
    assert sides(RUBRIC.examples(judged([5, 6], looping=[1]), "max_min", 0)) == {(0, 1)}
    assert RUBRIC.examples(judged([5, 6], looping=[0, 1]), "all_pairs", 0) == []
    teacher = judged([6, 6], teacher=[0], looping=[1])
    assert sides(RUBRIC.examples(teacher, "all_pairs", 0)) == {(0, 1)}


def test_without_any_margin_a_loop_still_loses() -> None:
    bare = DNOPrct(threshold=0, margin=0, student_margin=0)
    assert sides(bare.examples(judged([1, 9], looping=[1]), "all_pairs", 0)) == {(0, 1)}


def test_the_detector_can_be_turned_off() -> None:
    off = DNOPrct(threshold=5, margin=2, student_margin=1, repeat_share=1)
    assert sides(off.examples(judged([5, 6], looping=[1]), "all_pairs", 0)) == {(1, 0)}


def test_a_rule_of_extremes_is_held_to_the_same_margins() -> None:
    assert sides(RUBRIC.examples(judged([5, 4, 3]), "max_min", 0)) == {(0, 2)}
    assert RUBRIC.examples(judged([5, 4.5]), "max_min", 0) == []


def test_scores_decide_even_against_a_vote() -> None:
    data = judged([6, 3], [Vote(1, 0, 1.0, 1.0)])
    assert sides(RUBRIC.examples(data, "all_pairs", 0)) == {(0, 1)}


def test_answers_without_a_score_take_no_part_beside_those_with_one() -> None:
    found = RUBRIC.examples(judged([None, 6, 3]), "all_pairs", 0)
    assert sides(found) == {(1, 2)}


@pytest.mark.parametrize("rule", ["voted", "all_pairs"])
def test_votes_are_certain_and_never_turned_around(rule: str) -> None:
    votes = [Vote(0, 1, 0.25, 2.0), Vote(0, 2, 0.5, 1.0), Vote(3, 1, 1.0, 1.0)]
    found = RUBRIC.examples(judged([None] * 4, votes, looping=[3]), rule, 0)
    assert sides(found) == {(1, 0)}
    assert (found[0].p, found[0].weight) == (1.0, 2.0)


def test_an_answer_that_was_cut_off_is_never_a_positive() -> None:
    assert RUBRIC.examples(judged([6, 3], truncated=[0]), "all_pairs", 0) == []


def test_no_answers_make_no_examples() -> None:
    assert RUBRIC.examples(judged([]), "all_pairs", 0) == []


def test_the_share_of_repeated_runs_counted_by_hand() -> None:
    # Runs of two: ab ba ab ba ab, of which three came before.
    assert repeated_share("a b A b a b", 2) == pytest.approx(3 / 5)
    assert repeated_share("every word is new here", 2) == 0
    assert repeated_share("too short", 4) == 0
    assert repeated_share("", 1) == 0
    assert repeated_share(LOOP, 4) > 0.9


def test_ordinary_prose_does_not_count_as_a_loop() -> None:
    text = "the cat sat on the mat and the dog sat on the rug while the cat slept on the bed"
    assert repeated_share(text, 4) < 0.1


def test_draws_come_from_the_wanted_nucleus() -> None:
    (draws,) = DNOPrct(top_p=0.95).draws(5, 0.7)
    assert (draws.n, draws.temperature, draws.top_p) == (5, 0.7, 0.95)


def test_the_published_round_fades_old_pairs_out() -> None:
    preset = DNOPrct.presets["published"]
    assert preset.round["replay"] == "decay"
    assert DNOPrct.build(preset.knobs).threshold == 5
    assert DNOPrct.teacher


def test_the_students_margin_only_relaxes() -> None:
    with pytest.raises(ValueError, match="student_margin relaxes the margin"):
        DNOPrct(margin=1, student_margin=2)
    with pytest.raises(ValueError, match="repeat_share must be at most 1"):
        DNOPrct(repeat_share=1.5)
