"""Readings of an ensemble, and ensembles of heads, adapters and probes on the tiny model."""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from align import ensemble, jobs
from align.ensemble import Ensemble
from align.gpu import data, model, reward, score
from align.gpu.panel import Panel
from align.gpu.resample import times
from align.jobs import RewardJob, ScoreJob
from tests.align.conftest import do, response
from tests.align.test_reward import comparisons, reward_job

Rundir = Callable[..., Path]
READINGS = ("mean", "worst", "uncertainty", "nominal")


def read(scores: torch.Tensor, doubt: list[float] | None = None, **how: Any) -> torch.Tensor:
    members = Ensemble(members=scores.shape[1], **how)
    return ensemble.read(members, scores, torch.tensor(doubt or [0.0] * scores.shape[1]))


def drawn(members: int = 5) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(20, members, dtype=torch.float64)


def test_the_worst_member_is_never_above_the_mean():
    scores = drawn()
    assert (read(scores, reading="worst") <= read(scores)).all()
    assert torch.equal(read(scores, reading="worst"), scores.min(1).values)


def test_the_penalty_takes_the_variance_over_n_minus_1_off_the_mean():
    scores = drawn()
    free = read(scores, reading="uncertainty", penalty=0.0)
    assert torch.allclose(free, read(scores))
    found = [read(scores, reading="uncertainty", penalty=x) for x in (0.1, 0.5, 2.0)]
    assert all((a >= b).all() for a, b in zip(found, found[1:], strict=False))
    by_hand = [sum((x - 2.0) ** 2 for x in (1.0, 2.0, 3.0)) / 2]
    one = torch.tensor([[1.0, 2.0, 3.0]])
    assert read(one, reading="uncertainty", penalty=0.5).tolist() == [2.0 - 0.5 * by_hand[0]]


def test_nominal_and_minimum_are_the_ends_of_their_mixture():
    scores, doubt = drawn(), [0.5, 0.2, 0.9, 0.4, 0.3]
    nominal = read(scores, doubt, reading="nominal", nominal_share=1.0)
    least = read(scores, doubt, reading="nominal", nominal_share=0.0)
    assert torch.equal(nominal, scores[:, 1])
    assert torch.equal(least, scores.min(1).values)
    mixed = read(scores, doubt, reading="nominal", nominal_share=0.6)
    assert torch.allclose(mixed, 0.6 * nominal + 0.4 * least)
    assert (mixed <= nominal).all()


@pytest.mark.parametrize("reading", READINGS)
def test_one_member_reads_alike_and_order_does_not_matter(reading: Any):
    assert torch.allclose(read(drawn(1), reading=reading), drawn(1)[:, 0])
    scores, doubt = drawn(), [0.5, 0.2, 0.9, 0.4, 0.3]
    other = read(scores[:, [4, 2, 0, 1, 3]], [0.3, 0.9, 0.5, 0.2, 0.4], reading=reading)
    assert torch.allclose(read(scores, doubt, reading=reading), other)


@pytest.mark.parametrize("reading", READINGS)
def test_a_members_own_scale_makes_no_difference(reading: Any):
    """Members that say the same on scales of their own are one member, once they are centred."""
    torch.manual_seed(1)
    r = torch.randn(50, 1, dtype=torch.float64)
    scores = torch.cat([r, 10 * r + 3, 0.1 * r - 5], 1)
    how = Ensemble(members=3, reading=reading)
    spread, centre = scores.std(0, correction=0), scores.mean(0)
    panel = Panel(how, tuple(centre.tolist()), tuple(spread.tolist()), (0.0,) * 3)
    marks = panel(scores)
    assert marks.members.std(1).max() < 1e-9
    standard = (r[:, 0] - r.mean()) / r.std(correction=0)
    assert torch.allclose(marks.reward, standard * spread.mean())
    assert panel == Panel.of(panel.asdict())


def test_agreement_and_certainty_by_hand():
    assert ensemble.share([1, 2, 3, 4, 5], [0, 1, 4, 3, 5]) == pytest.approx(3.5 / 5)
    assert ensemble.certainty([1.0, -1.0], [-1.0, 1.0]) == pytest.approx(0)  # they cancel out
    assert ensemble.certainty([50.0, 50.0], [0.0, 0.0]) == pytest.approx(1)
    at_two = ensemble.certainty([3.0, 2.0], [1.0, 0.0], 2.0)  # both are sigmoid(1) sure
    assert at_two == pytest.approx(2 / (1 + math.exp(-1)) - 1)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"members": 0}, "1 to 16 members"),
        ({"reading": "best"}, "no reading 'best'"),
        ({"penalty": -1.0}, "0 or more"),
        ({"nominal_share": 2.0}, "between 0 and 1"),
        ({"sharing": "nothing"}, "heads or adapters"),
    ],
)
def test_an_ensemble_that_cannot_work_gets_a_sentence(wrong: Any, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        ensemble.check(Ensemble(**wrong))


def test_resampled_counts_are_poisson_with_mean_one():
    found = torch.tensor([times((n,), 0, 0) for n in range(4000)], dtype=torch.float64)
    assert found.mean().item() == pytest.approx(1, abs=0.06)  # 4 standard errors
    assert found.var().item() == pytest.approx(1, abs=0.12)
    assert times((1, 2), 3, 4) == times((1, 2), 3, 4)
    assert [times((n,), 1, 0) for n in range(30)] != found[:30].tolist()


def several(base: Path, form: Any = "tuned", **how: Any) -> RewardJob:
    job = reward_job(base, epochs=2)
    return dataclasses.replace(job, form=form, ensemble=Ensemble(members=3, **how))


@pytest.mark.parametrize(
    ("form", "sharing"), [("tuned", "heads"), ("tuned", "adapters"), ("probe", "heads")]
)
def test_members_come_out_beside_their_reading(
    rundir: Rundir, tiny_base: Path, form: str, sharing: Any
) -> None:
    job = several(tiny_base, form, sharing=sharing, reading="worst")
    folder = rundir(job, "train", comparisons=comparisons(24))
    found = do(reward.work, folder)
    assert found["accuracy"] > 0.6
    asks = [{"role": "user", "content": "another question"}]
    texts = ["goodbcd", "yuckbcd"]
    items = [{"id": text, "messages": asks, "response": response(text)} for text in texts]
    at = rundir(ScoreJob(reward_model=str(folder / "weights")), "score", items=items)
    do(score.work, at)
    rows = list(jobs.read_rows(at / jobs.SCORES))
    for row in rows:
        assert len(row["members"]) == 3
        assert row["reward"] == pytest.approx(min(row["members"]), abs=1e-5)
        mean = sum(row["members"]) / 3
        variance = sum((one - mean) ** 2 for one in row["members"]) / 2
        assert row["spread"] == pytest.approx(variance**0.5)
        assert row["spread"] > 0


def test_members_that_are_adapters_share_one_base_in_memory(
    rundir: Rundir, tiny_base: Path
) -> None:
    """As many of the base's tensors as one model has, and each member says what it says alone."""
    folder = rundir(several(tiny_base, sharing="adapters"), comparisons=comparisons(12))
    do(reward.work, folder)
    whole = reward.load(folder / "weights")
    alone = [reward.load(folder / "weights" / f"member-{member}") for member in range(3)]

    def base(judges: list[Any]) -> list[int]:
        named = {p.data_ptr(): n for j in judges for n, p in j.policy.model.named_parameters()}
        return [at for at, name in named.items() if "lora_" not in name]

    assert len(base(whole.judges)) == len(base(alone[:1]))
    assert len(base(alone)) == 3 * len(base(alone[:1]))
    encoder = data.Encoder(whole.policy.tokenizer)
    asks = [{"role": "user", "content": "another question"}]
    rows = encoder.example(asks, [response("goodbcd"), response("yuckbcd")], 100)
    assert rows is not None
    with torch.no_grad():
        for _ in range(2):  # whichever was read last
            together = [judge.scores(rows).tolist() for judge in whole.judges]
            assert together == [judge.scores(rows).tolist() for judge in alone]
    assert len({tuple(one) for one in together}) == 3
    assert not whole.policy.parameters()


def test_one_member_is_in_memory_at_a_time_while_they_are_trained(
    rundir: Rundir, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen, alive = model.start, [], []

    def counted(*args: Any) -> model.Policy:
        alive.append(sum(one() is not None for one in seen))
        policy = real(*args)
        seen.append(weakref.ref(policy.causal.get_input_embeddings().weight))
        return policy

    monkeypatch.setattr(model, "start", counted)
    job = several(tiny_base, sharing="adapters")
    do(reward.work, rundir(job, comparisons=comparisons(12)))
    assert alive == [0, 0, 0]


def test_members_trained_apart_go_on_after_a_kill(
    rundir: Rundir, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished member is not trained again, and the whole ends with the same bytes."""
    job = several(tiny_base, sharing="adapters")
    whole = do(reward.work, rundir(job, "whole", comparisons=comparisons(12)))
    folder = rundir(job, "killed", comparisons=comparisons(12))
    from align.gpu import members

    real, done = members._member, []

    def dies(*args: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args[-1])
        return real(*args)

    monkeypatch.setattr(members, "_member", dies)
    with pytest.raises(KeyboardInterrupt):
        do(reward.work, folder)
    monkeypatch.setattr(members, "_member", real)
    kept = (folder / "members" / "0" / jobs.RESULT).read_bytes()
    assert do(reward.work, folder)["sha256"] == whole["sha256"]
    assert (folder / "members" / "0" / jobs.RESULT).read_bytes() == kept


def test_a_generative_model_has_no_heads_to_share(
    rundir: Rundir, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = dataclasses.replace(several(tiny_base), objective="pairwise_generative")
    with pytest.raises(SystemExit):
        do(reward.work, rundir(job, comparisons=comparisons(4)))
    assert "let members be adapters" in capsys.readouterr().err


def test_information_is_what_a_vote_tells_of_which_member_is_right():
    assert ensemble.information([5.0, 5.0], [0.0, 0.0]) == 0
    assert ensemble.information([0.0, 0.0], [0.0, 0.0]) == 0  # a toss-up to all is no dispute
    assert ensemble.information([60.0, -60.0], [0.0, 0.0]) == pytest.approx(math.log(2))
    mild = ensemble.information([1.0, -1.0], [0.0, 0.0])
    p = 1 / (1 + math.exp(-1))
    by_hand = math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p)
    assert mild == pytest.approx(by_hand)
    assert ensemble.information([2.0, -2.0], [0.0, 0.0], temperature=2.0) == pytest.approx(mild)
