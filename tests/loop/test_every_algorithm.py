"""One round of every algorithm there is, from its own draws to a measured policy."""

from __future__ import annotations

import sys

import pytest

from align import algorithms, discovery
from plumbline.collect.models import Completion
from plumbline.fleet.models import Metric
from plumbline.loop import rounds
from plumbline.loop.models import Stage
from tests.loop.conftest import SMALL, run_round

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]

TINY = {
    **{"prompts_per_round": 4, "heldout_prompts": 2, "max_tokens": 96, "samples_per_prompt": 4},
    "reward_optimiser": {**SMALL, "learning_rate": 1e-2},  # scores lie apart after a few steps
}


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


DROPPED = '''"""Hold: margins of at least a knob (arXiv:0000.00000)."""

from dataclasses import dataclass

from align.algorithm import Algorithm, Loss, knob


@dataclass(frozen=True, kw_only=True)
class Hold(Algorithm):
    title = "Hold"
    reach: float = knob(2.0, "The gap to reach, in nats.", above=0)

    def loss(self, logps, labels):
        gap = logps.gap("policy") - logps.gap("reference")
        return Loss((gap - self.reach) ** 2, {"gap": gap})
'''


def test_a_file_dropped_in_the_folder_is_trained_and_evaluated(
    experiment_of, rater, tmp_path, monkeypatch
):
    """Found by this process and by the children that jobs run in, with nothing else touched."""
    folder = tmp_path / "algorithms"
    folder.mkdir()
    (folder / "hold.py").write_text(DROPPED)
    (tmp_path / "sitecustomize.py").write_text(
        f"import align.algorithms\nalign.algorithms.__path__.append({str(folder)!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(algorithms, "__path__", [*algorithms.__path__, str(folder)])
    discovery._discover.cache_clear()
    try:
        experiment = experiment_of(algorithm="hold", knobs={"reach": 1.5}, **TINY)
        round = run_round(rounds.begin(experiment), rater)
    finally:
        sys.modules.pop("align.algorithms.hold", None)
        discovery._discover.cache_clear()
    assert round.stage == Stage.DONE, round.error
    assert round.policy_out.algorithm == "hold"
    assert round.evaluations.exists()
    trained = round.jobs.get(purpose="train").job
    assert Metric.objects.filter(job=trained, name="gap").exists()
