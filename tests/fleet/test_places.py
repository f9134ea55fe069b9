"""Several experiments' jobs wait in one line, and each knows its place."""

from __future__ import annotations

import pytest

from plumbline.fleet import claims, places
from plumbline.lab.templatetags.places import queue_place
from plumbline.loop.models import Stage
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


def test_jobs_of_several_experiments_wait_in_one_line_and_are_taken_in_it(
    project, alice, client_for
):
    waiting = [
        lab.train_job(lab.round_at(lab.experiment(project), Stage.TRAIN), "queued")
        for _ in range(3)
    ]
    assert [places.place(job) for job in waiting] == [1, 2, 3]
    assert queue_place(waiting[0]) == "next in the queue"
    taken = claims.claim("gpu", "worker-1")
    assert taken == waiting[0]
    assert places.place(taken) is None
    assert queue_place(waiting[1]) == "next in the queue, behind 1 running job"
    assert queue_place(waiting[2]) == "number 2 in the queue, behind 1 running job"
    asked = waiting[2].asked_by.round
    page = client_for(alice).get(f"/p/alpha/lab/experiments/{asked.experiment_id}/rounds/1/")
    assert "number 2 in the queue, behind 1 running job" in page.content.decode()
    assert claims.claim("gpu", "worker-2") == waiting[1]
    assert queue_place(None) == ""
