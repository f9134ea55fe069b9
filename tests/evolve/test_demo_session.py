"""The demo's own session: made once, ranked by the simulated raters through the usual queue."""

from __future__ import annotations

import pytest

from plumbline.demo import raters, seed
from plumbline.evolve import asking, panel
from plumbline.evolve.models import Evolution
from tests.evolve import laboratory
from tests.evolve.conftest import fill_pool

pytestmark = pytest.mark.django_db


@pytest.mark.sqlite
def test_the_demos_session_is_made_once_and_its_raters_rank_it(settings, tmp_path):
    settings.RUNS_DIR = tmp_path / "runs"
    demo = seed.project()
    questions = seed.prompt_set(demo)
    made = seed.evolution(demo, questions)
    assert seed.evolution(demo, questions) == made
    assert Evolution.objects.count() == 1
    fill_pool(made)
    assert made.panel.count() == sum(panel.wanted(made).values())
    generation = made.generations.get()
    for arm, emphasis in enumerate(("concise", "tone", "structure")):
        laboratory.add(generation, arm, laboratory.seeded_writer.write(arm, emphasis))
    asking.opened(generation)
    while raters.vote_once():
        pass
    assert asking.ranked(generation)
    ballots = [one for row in generation.campaign.comparisons.all() for one in row.ballots.all()]
    assert len(ballots) == 3 * generation.campaign.comparisons.count()
    assert {one.annotator.kind for one in ballots} == {"simulated"}
