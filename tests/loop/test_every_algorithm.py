"""One round of every algorithm there is, from its own draws to a measured policy."""

from __future__ import annotations

import pytest

from align import algorithms
from plumbline.collect.models import Completion
from plumbline.loop import rounds
from plumbline.loop.models import Stage
from tests.loop.conftest import run_round

pytestmark = pytest.mark.django_db

TINY = {"prompts_per_round": 4, "heldout_prompts": 2, "max_tokens": 96, "samples_per_prompt": 4}


@pytest.fixture(autouse=True)
def _engine(engine, settings):
    settings.ENGINE_URL = engine.url


# Those that want draws, answers or models which the others do not.
DEMANDING = ("dno_prct", "kto", "nash_md", "xpo")
EVERY = [
    pytest.param(name, marks=[] if name in DEMANDING else pytest.mark.nightly)
    for name in sorted(algorithms.discover())
]


@pytest.mark.parametrize("name", EVERY)
def test_an_algorithm_goes_through_a_round(name, experiment_of, rater, prompt_set):
    algorithm = algorithms.get(name)
    if algorithm.teacher:
        for prompt in prompt_set.prompts.all():
            Completion.objects.create(prompt=prompt, text="Of course.", origin="teacher")
    preset = algorithm.presets["published"]
    settings = {"pair_rule": algorithm.pair_rule}
    wanted = ("pairs_from", "pair_rule", "reference", "replay")
    settings |= {field: value for field, value in preset.round.items() if field in wanted}
    experiment = experiment_of(algorithm=name, **TINY, **settings)
    round = run_round(rounds.begin(experiment), rater)
    assert round.stage == Stage.DONE, round.error
    assert round.examples.exists()
    assert round.policy_out is not None
    assert round.evaluations.exists()
