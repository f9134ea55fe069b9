"""URLs of the researcher's dashboard: experiments and their rounds, policies, jobs."""

from __future__ import annotations

from django.urls import path

from plumbline.lab import (
    answers,
    curve_files,
    experiments,
    jobs,
    my_work,
    policies,
    reward_models,
    rounds,
    workers,
)

ROUND = "experiments/<int:experiment>/rounds/<int:number>/"

urlpatterns = [
    path("experiments/", experiments.experiments, name="experiments"),
    path("experiments/new/", experiments.new, name="experiment-new"),
    path("experiments/<int:pk>/", experiments.experiment, name="experiment"),
    path("experiments/<int:pk>/pause/", experiments.pause, name="experiment-pause"),
    path(ROUND, rounds.round_page, name="round"),
    path(ROUND + "curves/", rounds.curves, name="round-curves"),
    path(ROUND + "curves.csv", curve_files.of_round, name="round-curves-csv"),
    path(ROUND + "close-labels/", rounds.close_labels, name="round-close-labels"),
    path(ROUND + "cancel/", rounds.cancel, name="round-cancel"),
    path(ROUND + "retry/", rounds.retry, name="round-retry"),
    path("answers/", answers.answers, name="answers"),
    path("answers/read/", answers.read, name="answers-read"),
    path("answers/check/", answers.check, name="answers-check"),
    path("policies/", policies.policies, name="policies"),
    path("policies/roll-back/", policies.roll_back, name="policy-rollback"),
    path("policies/<uuid:pk>/promote/", policies.promote, name="policy-promote"),
    path("policies/<uuid:pk>/reject/", policies.reject, name="policy-reject"),
    path("reward-models/<uuid:pk>/", reward_models.reward_model, name="reward-model"),
    path("my-work/", my_work.my_work, name="my-work"),
    path("workers/", workers.workers, name="workers"),
    path("workers/engines/", workers.engine_state, name="workers-engines"),
    path("jobs/<uuid:pk>/log/", jobs.log, name="job-log"),
    path("jobs/", jobs.jobs, name="jobs"),
    path("jobs/<uuid:pk>/", jobs.job, name="job"),
    path("jobs/<uuid:pk>/curves/", jobs.curves, name="job-curves"),
    path("jobs/<uuid:pk>/curves.csv", curve_files.of_job, name="job-curves-csv"),
    path("jobs/<uuid:pk>/cancel/", jobs.cancel, name="job-cancel"),
]
