"""The list of jobs and one job's page."""

from __future__ import annotations

from html import unescape

import pytest

from align.jobs import STDERR
from plumbline.fleet.models import Job
from plumbline.lab.jobs import tail
from plumbline.loop.models import Stage
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
URL = "/p/alpha/lab/jobs/"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def round(project):
    return lab.round_at(lab.experiment(project, name="Warmer answers"), Stage.TRAIN)


def text(response) -> str:
    return unescape(response.content.decode())


def test_no_jobs_yet_is_said(researcher):
    assert "No jobs yet" in text(researcher.get(URL))


def test_jobs_can_be_filtered_by_state(researcher, round):
    lab.job(round, "sample", lab.jobs.SampleJob(engine_url="http://engine", model="m", n=2))
    lab.train_job(round, "failed")
    page = text(researcher.get(URL, {"state": "failed"}))
    assert "Warmer answers round 1: train" in page
    assert "Warmer answers round 1: sample" not in page
    assert "No jobs in this state" in text(researcher.get(URL, {"state": "queued"}))


def test_a_long_list_has_pages_that_keep_the_filter(
    researcher, project, django_assert_max_num_queries
):
    for number in range(51):
        Job.objects.create(
            project=project, kind="train", queue="gpu", title=f"Job {number}", spec={},
            state="failed",
        )  # fmt: skip
    with django_assert_max_num_queries(8):
        page = text(researcher.get(URL, {"state": "failed"}))
    assert "?state=failed&page=2" in page
    assert "Job 0<" in text(researcher.get(URL, {"state": "failed", "page": 2}))


def test_the_list_is_polled_while_a_job_is_under_way(researcher, round):
    job = lab.train_job(round, "running")
    assert "every 2s" in text(researcher.get(URL, headers=HTMX))
    Job.objects.filter(pk=job.pk).update(state="succeeded")
    assert "every 2s" not in text(researcher.get(URL, headers=HTMX))


def test_a_job_says_how_to_run_it_from_a_shell(researcher, round):
    job = lab.train_job(round)
    page = text(researcher.get(f"{URL}{job.pk}/"))
    assert f"python -m align.gpu.train {job.folder}" in page
    assert '"beta": 0.1' in page
    assert "claimed by worker-1" in page
    assert "Warmer answers, round 1" in page


def test_a_running_job_shows_its_last_words_and_is_polled(researcher, round):
    job = lab.train_job(round, "running", progress={"done": 5, "total": 10, "unit": "steps"})
    job.folder.mkdir(parents=True)
    (job.folder / STDERR).write_text("\n".join(f"line {number}" for number in range(300)))
    live = researcher.get(f"{URL}{job.pk}/log/", headers=HTMX)
    assert live.status_code == 200
    assert "line 100\n" in text(live)
    assert "line 99\n" not in text(live)
    part = text(researcher.get(f"{URL}{job.pk}/", headers=HTMX))
    assert "5 of 10 steps" in part
    assert "every 2s" in part
    assert "line 100\n" in text(researcher.get(f"{URL}{job.pk}/"))


def test_the_log_of_a_job_that_is_over_is_no_longer_asked_for(researcher, round):
    job = lab.train_job(round)
    assert researcher.get(f"{URL}{job.pk}/log/", headers=HTMX).status_code == 286
    assert researcher.get(f"{URL}{job.pk}/log/").status_code == 200


def test_a_job_that_is_over_is_not_polled(researcher, round):
    page = text(researcher.get(f"{URL}{lab.train_job(round).pk}/"))
    assert "every 2s" not in page
    assert "The child has written nothing" in page


def test_the_end_of_a_huge_log_is_read_without_the_rest(tmp_path):
    log = tmp_path / "stderr.log"
    log.write_bytes(b"x" * 5_000_000 + b"\n" + b"the end\n")
    assert tail(log).endswith("the end")
    assert len(tail(log)) < 40_000
    assert tail(tmp_path / "missing.log") == ""


def test_a_job_can_be_cancelled(researcher, round):
    queued = lab.train_job(round, "queued")
    running = lab.job(
        round, "sample", lab.jobs.SampleJob(engine_url="http://e", model="m", n=2), "running"
    )
    for job in (queued, running):
        response = researcher.post(f"{URL}{job.pk}/cancel/", follow=True)
        assert "The job was told to stop." in text(response)
        job.refresh_from_db()
    assert queued.state == "cancelled"
    assert running.cancel_requested
    assert "This job was over already." in text(
        researcher.post(f"{URL}{queued.pk}/cancel/", follow=True)
    )


def test_a_jobs_own_curves_stop_when_it_is_over(researcher, round):
    job = lab.train_job(round)
    lab.log_training(job, 3)
    response = researcher.get(f"{URL}{job.pk}/curves/", headers=HTMX)
    assert response.status_code == 286
    assert response.json()["charts"][0]["steps"] == [1, 2, 3]


def test_another_projects_job_is_not_found(researcher, charlie):
    theirs = lab.train_job(lab.round_at(lab.experiment(charlie.projects.get()), Stage.TRAIN))
    assert researcher.get(f"{URL}{theirs.pk}/").status_code == 404
    assert researcher.get(f"{URL}{theirs.pk}/curves/").status_code == 404
    assert researcher.post(f"{URL}{theirs.pk}/cancel/").status_code == 404


def test_an_annotator_may_not_see_jobs(bob, round, client_for):
    job = lab.train_job(round)
    for path in (URL, f"{URL}{job.pk}/", f"{URL}{job.pk}/curves/", f"{URL}{job.pk}/log/"):
        assert client_for(bob).get(path).status_code == 403
    assert client_for(bob).post(f"{URL}{job.pk}/cancel/").status_code == 403
