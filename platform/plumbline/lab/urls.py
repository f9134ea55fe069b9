"""URLs of the researcher's dashboard: experiments and their rounds, policies, jobs."""

from __future__ import annotations

from django.urls import path

from plumbline.lab import (
    compare,
    experiments,
    jobs,
    my_work,
    policies,
    reward_model_list,
    reward_models,
    rounds,
    runs,
)

ROUND = "experiments/<int:experiment>/rounds/<int:number>/"

urlpatterns = [
    path("experiments/", experiments.experiments, name="experiments"),
    path("experiments/new/", experiments.new, name="experiment-new"),
    path("experiments/<int:pk>/", experiments.experiment, name="experiment"),
    path("experiments/<int:pk>/pause/", experiments.pause, name="experiment-pause"),
    path(ROUND, rounds.round_page, name="round"),
    path(ROUND + "curves/", rounds.curves, name="round-curves"),
    path(ROUND + "close-labels/", rounds.close_labels, name="round-close-labels"),
    path(ROUND + "cancel/", rounds.cancel, name="round-cancel"),
    path(ROUND + "retry/", rounds.retry, name="round-retry"),
    path("policies/", policies.policies, name="policies"),
    path("policies/roll-back/", policies.roll_back, name="policy-rollback"),
    path("policies/<uuid:pk>/promote/", policies.promote, name="policy-promote"),
    path("policies/<uuid:pk>/reject/", policies.reject, name="policy-reject"),
    path("reward-models/<uuid:pk>/", reward_models.reward_model, name="reward-model"),
    path("reward-models/", reward_model_list.reward_models, name="reward-models"),
    path("reward-models/csv/", reward_model_list.download, name="reward-models-download"),
    path("reward-models/<uuid:pk>/disputes/", reward_model_list.disputes, name="disputes"),
    path("rounds/", runs.runs, name="runs"),
    path("rounds/csv/", runs.download, name="runs-download"),
    path("rounds/differences/", runs.differ, name="runs-diff"),
    path("rounds/views/", runs.save_view, name="runs-view"),
    path("rounds/views/<int:pk>/forget/", runs.drop_view, name="runs-view-drop"),
    path(ROUND + "settings.json", runs.settings, name="round-settings"),
    path("compare/", compare.compare, name="compare"),
    path("compare/<slug:part>.csv", compare.download, name="compare-download"),
    path("my-work/", my_work.my_work, name="my-work"),
    path("jobs/", jobs.jobs, name="jobs"),
    path("jobs/<uuid:pk>/", jobs.job, name="job"),
    path("jobs/<uuid:pk>/curves/", jobs.curves, name="job-curves"),
    path("jobs/<uuid:pk>/cancel/", jobs.cancel, name="job-cancel"),
]
