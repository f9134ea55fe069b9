"""The pool of a session, drawn from a real engine, and what happens while there is none."""

from __future__ import annotations

import pytest

from plumbline.collect.models import Completion
from plumbline.evolve import advance
from plumbline.evolve.models import Evolution, Stage
from plumbline.policies import serving
from tests.loop.conftest import run_jobs
from tests.ports import free_port

pytestmark = pytest.mark.django_db


@pytest.mark.sqlite
def test_the_pool_is_drawn_once_and_frozen(evolution_of, project, engine, settings):
    settings.ENGINE_URL = f"http://127.0.0.1:{free_port()}"
    evolution = evolution_of(
        pooled=False, policy=serving.base_policy(project), pool_size=3, max_tokens=16
    )
    advance.tick()
    generation = evolution.generations.get()
    assert (generation.stage, evolution.panel.count()) == (Stage.POOL, 13)
    assert generation.error, "the engine is away, which is said and waited for"
    settings.ENGINE_URL = engine.url
    advance.tick()
    run_jobs()
    panel = set(evolution.panel.values_list("prompt_id", flat=True))
    for _ in range(2):
        Evolution.objects.get(pk=evolution.pk)
        advance.sample_pool(generation)
    drawn = Completion.objects.all()
    assert drawn.count() == 13 * 3
    assert set(drawn.values_list("prompt_id", flat=True)) == panel
    advance.tick()
    generation.refresh_from_db()
    assert generation.stage == Stage.WRITE
