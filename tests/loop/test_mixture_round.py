"""A round trains a mixture by its name, and its page says what is known of raters; a round of DPA
trains on directions."""

from __future__ import annotations

import pytest

from align import directions, jobs
from plumbline.loop import rewarding, rounds, tastes
from plumbline.loop.models import Experiment, Stage
from tests.loop.conftest import run_round

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]


@pytest.fixture
def served(engine, settings):
    settings.ENGINE_URL = engine.url


def test_a_round_trains_a_mixture_and_directions_follow_its_scores(experiment_of, rater, served):
    experiment = experiment_of(
        algorithm="dpa",
        knobs={"directions": 2},
        reward_objective="mixture",
        pairs_from=Experiment.Pairs.REWARD_MODEL,
        pair_rule="max_min",
        samples_per_prompt=3,
    )
    round = run_round(rounds.begin(experiment), rater)
    assert round.stage == Stage.DONE, round.error
    model = round.reward_model
    assert model.objective == "mixture"
    assert sum(model.metrics["shares"]) == pytest.approx(1)
    (weights,) = model.metrics["routes"].values()
    assert sum(weights) == pytest.approx(1)
    known = tastes.of(model)
    assert not known.differ  # one rater differs from nobody
    assert [one.name for one in known.raters] == ["clara"]
    job = round.jobs.get(purpose="train").job
    lines = [row["messages"][0]["content"] for row in jobs.read_rows(job.folder / jobs.EXAMPLES)]
    assert lines
    for line in lines:
        v = directions.read(line)
        assert v["quality"] >= 0.7
    assert rewarding.spec(round).tastes == {}


def test_a_mixture_with_flips_is_refused_before_it_begins():
    from align.objectives.mixture import Mixture

    data = {"reward_members": 1, "label_flip": 0.1, "agreement": Experiment.Agreement.NONE}
    (refused,) = rewarding.refusals(Mixture, data)
    assert refused[0] == "label_flip"
