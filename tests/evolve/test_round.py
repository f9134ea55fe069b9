"""A winner that judges labels a round of its own, with real jobs and a real engine."""

from __future__ import annotations

import pytest

from align import seeded_writer
from align.programs import to_json
from plumbline.collect.models import Ballot
from plumbline.evolve import promoting
from plumbline.evolve.models import Program
from plumbline.judges import judges
from plumbline.loop import rounds
from plumbline.loop.models import Experiment
from plumbline.policies import serving
from tests.loop.conftest import SMALL, run_round

pytestmark = pytest.mark.django_db


@pytest.mark.sqlite
def test_a_program_alone_labels_a_short_round(evolution_of, project, engine, settings, alice):
    settings.ENGINE_URL = engine.url
    evolution = evolution_of(max_tokens=24, policy=serving.base_policy(project))
    made = seeded_writer.build({"brevity": 1.5, "variety": 0.5}, {})
    version = judges.make(
        project, "Brief", "program", {"temperature": 0.1}, program=to_json(made), by=alice
    )
    program = Program.objects.create(
        generation=evolution.generations.get(), arm=0, attempt=0, emphasis="concise",
        program=to_json(made), sha256=made.sha256, status="active", judge=version,
    )  # fmt: skip
    experiment = promoting.try_out(program, alice)
    Experiment.objects.filter(pk=experiment.pk).update(
        prompts_per_round=6, samples_per_prompt=2, heldout_prompts=4,
        weights={"mode": "lora", "rank": 4, "alpha": 8}, optimiser=SMALL,
    )  # fmt: skip
    experiment.refresh_from_db()
    round = run_round(rounds.begin(experiment), None)
    assert round.error == ""
    assert round.examples.count() > 0, round.stage
    assert {one.annotator for one in round.ballots.all()} == {version.judge.account}
    assert Ballot.objects.filter(annotator__kind="person").count() == 0
    assert round.stage == "evaluate", "and people are asked which policy is better"
    assert round.evaluation_campaign.closed_at is None
