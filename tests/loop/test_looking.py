"""Reading answers by token, with a real job on the demo base."""

from __future__ import annotations

import pytest

from align import jobs
from plumbline.collect.models import Completion
from plumbline.loop import advance, inspection
from plumbline.loop.models import TokenRewards
from plumbline.policies import serving
from plumbline.policies.models import Policy
from tests.loop.conftest import run_jobs

pytestmark = pytest.mark.django_db


def test_answers_are_read_by_token_under_their_policy_and_the_reference(
    project, prompt_set, commit_weights, settings, tmp_path
):
    settings.RUNS_DIR = tmp_path
    base = serving.base_policy(project)
    weights = commit_weights(1)
    policy = Policy.objects.create(
        project=project, name="changed", weights="lora", base_model=base.base_model, parent=base,
        path=str(weights.path), sha256=weights.sha256,
    )  # fmt: skip
    prompt = prompt_set.prompts.filter(split="heldout").first()
    answers = [
        Completion.objects.create(prompt=prompt, policy=policy, text="Paris is a café. ☕"),
        Completion.objects.create(prompt=prompt, policy=base, text="It is Paris."),
    ]
    asked = inspection.ask(project, answers, base, None, None)
    assert asked is not None
    advance.tick()
    assert inspection.under_way(project) == [asked]
    assert run_jobs() == 1
    advance.tick()
    assert inspection.under_way(project) == []
    asked.refresh_from_db()
    assert asked.error == ""
    mine, theirs = (TokenRewards.objects.get(completion=one) for one in answers)
    assert "".join(mine.pieces).startswith("Paris is a café. ☕")
    assert len(mine.pieces) == len(mine.logps) == len(mine.reference_logps)
    assert max(mine.logps) <= 0
    assert any(a != b for a, b in zip(mine.logps, mine.reference_logps, strict=True))
    assert theirs.logps == pytest.approx(theirs.reference_logps, abs=1e-4)
    scored = {row["id"]: row for row in jobs.read_rows(asked.job.folder / jobs.SCORES)}
    assert sum(mine.logps) == pytest.approx(
        scored[str(answers[0].pk)]["logps"][str(policy.pk)], abs=1e-3
    )
