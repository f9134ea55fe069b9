"""A blend of policies goes through the loop as any round: made, answered for, judged, gated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plumbline.loop import advance, blending, lineage, rebuilding, rounds
from plumbline.loop.models import Experiment, Stage
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Policy
from tests.lab import laboratory as lab
from tests.loop.conftest import run_jobs, run_round

pytestmark = pytest.mark.django_db


def rows_of(project: Any, tmp_path: Path, ranks: list[int], **fields: Any) -> list[Policy]:
    made = []
    for number, rank in enumerate(ranks):
        folder = tmp_path / f"adapter-{number}"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
        found = {"weights": "lora", "path": str(folder), "base_model": "/base", **fields}
        made.append(Policy.objects.create(project=project, name=f"p{number}", **found))
    return made


def test_points_are_told_by_what_was_asked(project: Any, tmp_path: Path) -> None:
    one, other = rows_of(project, tmp_path, [16, 16])
    (half,) = blending.points("soup", [one, other], [[30, 10]], 0.0)
    assert (half.asked, half.parts) == ("75% : 25%", {str(one.pk): 0.75, str(other.pk): 0.25})
    (beyond,) = blending.points("bone", [one, other], [[1, 0]], 0.6)
    assert beyond.parts == pytest.approx({str(one.pk): 1.5, str(other.pk): -0.5})
    (added,) = blending.points("vector", [one, other, one], [[0.5]], 0.0)
    assert added.parts == pytest.approx({str(one.pk): 0.5, str(other.pk): 0.5})


def test_the_bare_base_alone_is_no_point(project: Any, tmp_path: Path) -> None:
    (one,) = rows_of(project, tmp_path, [16])
    base = Policy.objects.create(project=project, name="b", weights="base", base_model="/base")
    found = blending.points("soup", [one, base], [[1, 0], [0.5, 0.5], [0, 1]], 0.0)
    assert [point.asked for point in found] == ["100% : 0%", "50% : 50%"]


def test_what_no_engine_could_hold_is_refused(project: Any, tmp_path: Path) -> None:
    policies = rows_of(project, tmp_path, [32, 32, 16])
    assert blending.refusal(policies[:2]) is None
    assert "ranks sum to 80" in (blending.refusal(policies) or "")
    assert blending.refusal([policies[0], policies[2], policies[0]]) is None  # counted once
    policies[1].base_model = "/other"
    assert "different base models" in (blending.refusal(policies[:2]) or "")


@pytest.mark.sqlite
def test_a_blend_is_made_measured_gated_and_can_be_promoted(
    experiment_of: Any, rater: Any, project: Any, engine: Any, settings: Any
) -> None:
    settings.ENGINE_URL = engine.url
    experiment = experiment_of()
    base = experiment.start
    serving.promote(project, base, actor=None, reason="the first policy", evidence={})
    first = run_round(rounds.begin(experiment), rater)
    assert first.stage == Stage.DONE, first.error
    trained, judge = first.policy_out, first.reward_model
    found = blending.points("soup", [trained, base], [[1, 0], [0.5, 0.5], [0, 1]], 0.0)
    blend = blending.launch(
        project, rater, name="Between", method="soup", found=found, judge=judge,
        prompt_set=experiment.prompt_set, objectives=[judge], heldout_prompts=6, max_tokens=24,
        gate_win_rate=-1.0,
    )  # fmt: skip
    for number in (1, 2):
        round = run_round(blend.rounds.get(number=number), None)
        assert round.stage == Stage.DONE, round.error
        stages = list(round.stages.values_list("stage", flat=True))
        assert stages == [Stage.PROMPTS, Stage.TRAIN, Stage.CHOOSE, Stage.EVALUATE, Stage.GATE]
        advance.tick()
    whole, half = (one.policy_out for one in blend.rounds.order_by("number"))
    blend.refresh_from_db()
    assert blend.state == Experiment.State.FINISHED
    assert half.knobs["blend"] == {trained.name: 0.5, base.name: 0.5}
    assert half.state == Policy.State.CANDIDATE
    names = [check["name"] for check in round.gate["checks"]]
    assert names == ["win rate", "kl", "length", "reward hacking"]  # too few prompts for the last
    assert round.gate["passed"]
    assert blending.scores(round, half).keys() == {judge.pk}
    kls = [one.evaluations.get(against="base").kl for one in blend.rounds.order_by("number")]
    assert kls[0] != pytest.approx(kls[1])
    serving.promote(project, half, actor=rater, reason="between the two", evidence={})
    assert Deployment.objects.get(project=project, alias="current").policy == half
    assert run_jobs() == 0


def test_what_went_into_a_blend_is_in_its_line_of_descent(project: Any, tmp_path: Path) -> None:
    trained = lab.finished_round(lab.experiment(project))
    (other,) = rows_of(project, tmp_path, [16], parent=trained.policy_in)
    found = blending.points("soup", [trained.policy_out, other], [[1, 1], [0, 1]], 0.0)
    blend = blending.launch(
        project, None, name="Between", method="soup", found=found, judge=None,
        prompt_set=trained.experiment.prompt_set, objectives=[],
    )  # fmt: skip
    first = blend.rounds.get()
    assert lineage.graph(project).onto[first.pk] == {trained.pk: lineage.BLENDS}
    assert [one.pk for one in lineage.graph(project).downstream([trained.pk])] == [
        trained.pk,
        first.pk,
    ]
    with pytest.raises(ValueError, match="rebuild what made those"):
        rebuilding.begin(blend, actor=None, reason="a vote was retracted")
