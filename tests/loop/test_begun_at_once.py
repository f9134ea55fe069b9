"""Twenty researchers press the button at the same moment: one round, and the others are told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import IntegrityError, connection

from plumbline.loop import autopilot
from plumbline.loop.models import Experiment, Round
from plumbline.policies.models import Policy

PEOPLE = 20


@pytest.mark.django_db(transaction=True)
def test_twenty_who_begin_a_round_at_once_begin_one(project, prompt_set):
    start = Policy.objects.create(project=project, name="start", weights="base", base_model="/m")
    experiment = Experiment.objects.create(
        project=project, name="Race", algorithm="dpo", start=start, prompt_set=prompt_set
    )
    gate = Barrier(PEOPLE)

    def press(_: int) -> str:
        try:
            gate.wait()
            return f"begun {autopilot.begin_next(experiment).number}"
        except (ValueError, IntegrityError) as told:
            return str(told)
        finally:
            connection.close()

    with ThreadPoolExecutor(PEOPLE) as pool:
        said = list(pool.map(press, range(PEOPLE)))
    assert said.count("begun 1") == 1
    assert all(said)
    assert Round.objects.get().number == 1
