"""XPO: pairs across two policies, DPO on them, and alpha on the first policy's answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from align.algorithm import Example, Labels, LogProbs
from align.algorithms.dpo import DPO
from align.algorithms.xpo import XPO
from align.pairing import Answer, Judged, Vote
from tests.align.games import row

MIXED = ("policy", "policy", "reference", "reference")


def logps(chosen: float, rejected: float) -> LogProbs:
    policy = {"chosen": row(chosen), "rejected": row(rejected)}
    for leaf in policy.values():
        leaf.requires_grad_(True)
    return LogProbs({"policy": policy, "reference": {"chosen": row(-11.0), "rejected": row(-12.0)}})


def labels(side: str, p: float = 1.0) -> Labels:
    facts = {f"explored.{role}": row(float(role == side)) for role in ("chosen", "rejected")}
    return Labels(p=row(p), facts=facts)


def slopes(values: LogProbs) -> dict[str, float]:
    found = {}
    for role in ("chosen", "rejected"):
        slope = values.of("policy", role).grad
        assert slope is not None
        found[role] = slope.item()
    return found


def judged(
    scores: Sequence[float | None],
    sources: Sequence[str] = MIXED,
    votes: Sequence[Vote] = (),
    texts: Sequence[str] = (),
) -> Judged:
    answers = tuple(
        Answer(str(k), texts[k] if texts else f"text {k}", 10, False, score, source)
        for k, (score, source) in enumerate(zip(scores, sources, strict=True))
    )
    return Judged("p", answers, tuple(votes))


def sides(examples: Sequence[Example]) -> set[tuple[int, int]]:
    return {(e.answers["chosen"], e.answers["rejected"]) for e in examples}


def test_a_loss_worked_by_hand() -> None:
    # Margin 0.1 * (4 - 1) = 0.3; the explored answer's log-probability counts 0.01 a nat.
    plain = math.log(1 + math.exp(-0.3))
    for side, explored in (("chosen", -10.0), ("rejected", -14.0)):
        found = XPO(beta=0.1, alpha=0.01).loss(logps(-10, -14), labels(side))
        assert found.metrics["loss/preference"].item() == pytest.approx(plain)
        assert found.metrics["loss/explore"].item() == pytest.approx(0.01 * explored)
        assert found.losses.item() == pytest.approx(plain + 0.01 * explored)


def test_without_alpha_it_is_dpo_bit_for_bit() -> None:
    ours, theirs = logps(-10, -14), logps(-10, -14)
    mine = XPO(alpha=0).loss(ours, labels("chosen", 0.7))
    other = DPO().loss(theirs, labels("chosen", 0.7))
    assert torch.equal(mine.losses, other.losses)
    mine.losses.sum().backward()
    other.losses.sum().backward()
    assert slopes(ours) == slopes(theirs)


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_the_explored_answer_gets_exactly_alpha_on_top_of_dpo(side: str) -> None:
    with_term, without = logps(-10, -14), logps(-10, -14)
    XPO(alpha=0.01).loss(with_term, labels(side)).losses.sum().backward()
    XPO(alpha=0).loss(without, labels(side)).losses.sum().backward()
    found, plain = slopes(with_term), slopes(without)
    other = "rejected" if side == "chosen" else "chosen"
    assert found[side] - plain[side] == pytest.approx(0.01, abs=1e-15)
    assert found[other] == plain[other]


@pytest.mark.parametrize(("pushed", "total"), [(0.0, 0.6771), (50.0, -0.5071), (500.0, -5.0139)])
def test_the_loss_has_no_lower_bound(pushed: float, total: float) -> None:
    """Of arms (0.5, 0.3, 0.2) the third, explored, lost to the first; pushed down by x nats it has
    log-probability log 0.2 - x - log(0.8 + 0.2 e^-x), while the preference's loss only fades."""
    reference = row(0.5, 0.3, 0.2).log()
    mine = (reference - row(0, 0, pushed)).log_softmax(0)
    arms = {"chosen": [0], "rejected": [2]}
    models = {"policy": mine, "reference": reference}
    values = {n: {role: model[k] for role, k in arms.items()} for n, model in models.items()}
    found = XPO(beta=0.1, alpha=0.01).loss(LogProbs(values), labels("rejected"))
    assert found.losses.item() == pytest.approx(total, abs=1e-4)


def test_the_term_is_the_value_that_centred_rewards_promise() -> None:
    """V(r) = beta log E_ref[exp(r / beta)] = -beta E_ref[log pi - log pi_ref] once E_ref[r] = 0,
    with pi the policy that r makes; so lowering E_ref[log pi] raises V."""
    beta, reference = 0.4, row(0.5, 0.3, 0.2)
    reward: Tensor = row(0.3, -0.7, 1.1)
    reward = reward - (reference * reward).sum()
    value = beta * torch.logsumexp(reference.log() + reward / beta, 0)
    policy = (reference.log() + reward / beta).log_softmax(0)
    spread = (reference * (policy - reference.log())).sum()
    assert value.item() == pytest.approx(-beta * spread.item())
    assert value.item() > 0


def test_half_of_the_answers_come_from_the_first_policy() -> None:
    for wanted, mine, other in ((2, 1, 1), (5, 3, 2), (8, 4, 4), (1, 1, 1)):
        policy, first = XPO().draws(wanted, 0.9)
        assert (policy.n, policy.source, policy.model) == (mine, "policy", "round_start")
        assert (first.n, first.source, first.model) == (other, "reference", "initial")
        assert policy.temperature == first.temperature == 0.9


def test_every_pair_holds_one_answer_of_each_policy() -> None:
    found = XPO().examples(judged([0.0, 3.0, 1.0, 2.0]), "all_pairs", 0)
    assert sides(found) == {(2, 0), (3, 0), (1, 2), (1, 3)}
    assert [e.weight for e in found] == [0.25] * 4
    for example in found:
        explored = {role: example.facts[f"explored.{role}"] for role in ("chosen", "rejected")}
        assert explored == {role: float(k >= 2) for role, k in example.answers.items()}
    assert found[0].p == pytest.approx(1 / (1 + math.exp(-1.0)))


@pytest.mark.parametrize("rule", ["random", "max_min", "tournament"])
def test_by_other_rules_each_answer_meets_one_of_the_other_policy(rule: str) -> None:
    found = XPO().examples(judged([0.0, 3.0, 1.0, 2.0]), rule, 0)
    assert sides(found) == {(2, 0), (1, 3)}
    assert [e.weight for e in found] == [1.0, 1.0]


def test_votes_within_one_policy_are_left_out() -> None:
    votes = [Vote(0, 1, 1.0, 1.0), Vote(0, 2, 0.25, 2.0), Vote(2, 3, 1.0, 1.0)]
    (found,) = XPO().examples(judged([None] * 4, votes=votes), "voted", 0)
    assert dict(found.answers) == {"chosen": 2, "rejected": 0}
    assert (found.p, found.weight) == (0.75, 2.0)
    assert (found.facts["explored.chosen"], found.facts["explored.rejected"]) == (1.0, 0.0)


def test_a_teachers_answers_are_nobodys_draw() -> None:
    data = judged([1.0, 2.0], ("policy", "teacher"), [Vote(0, 1, 1.0, 1.0)])
    assert XPO().examples(data, "voted", 0) == []
    assert XPO().examples(data, "all_pairs", 0) == []


def test_ties_and_equal_texts_make_no_pair_by_score() -> None:
    assert XPO().examples(judged([1.0, 1.0], ("policy", "reference")), "random", 0) == []
    same = judged([1.0, 2.0], ("policy", "reference"), texts=("a", "a"))
    assert XPO().examples(same, "all_pairs", 0) == []


def test_alpha_is_never_negative() -> None:
    with pytest.raises(ValueError, match="alpha must be at least 0"):
        XPO(alpha=-1e-5)
