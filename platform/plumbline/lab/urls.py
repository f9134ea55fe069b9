"""URLs of the researcher's dashboard: experiments and their rounds, policies, jobs."""

from __future__ import annotations

from django.urls import path

from plumbline.lab import (
    blends,
    decided,
    experiments,
    jobs,
    launching,
    my_work,
    piloting,
    policies,
    policy,
    reproducing,
    retracting,
    reward_models,
    rounds,
    tree,
    votes,
)

ROUND = "experiments/<int:experiment>/rounds/<int:number>/"

urlpatterns = [
    path("experiments/", experiments.experiments, name="experiments"),
    path("experiments/new/", launching.new, name="experiment-new"),
    path("experiments/new/estimate/", launching.estimate, name="experiment-estimate"),
    path("experiments/<int:pk>/", experiments.experiment, name="experiment"),
    path("experiments/<int:pk>/pause/", experiments.pause, name="experiment-pause"),
    path("experiments/<int:pk>/autopilot/", piloting.pilot, name="experiment-autopilot"),
    path("experiments/<int:pk>/next-round/", piloting.next_round, name="experiment-next"),
    path(ROUND, rounds.round_page, name="round"),
    path(ROUND + "curves/", rounds.curves, name="round-curves"),
    path(ROUND + "settings.json", reproducing.settings_file, name="round-settings"),
    path(ROUND + "close-labels/", rounds.close_labels, name="round-close-labels"),
    path(ROUND + "cancel/", rounds.cancel, name="round-cancel"),
    path(ROUND + "folder/", decided.export, name="round-folder"),
    path(ROUND + "retry/", rounds.retry, name="round-retry"),
    path("experiments/<int:pk>/blend.csv", blends.download, name="blend-csv"),
    path("blends/new/", blends.new, name="blend-new"),
    path("policies/", policies.policies, name="policies"),
    path("policies/lineage/", tree.tree, name="lineage"),
    path("policies/roll-back/", policies.roll_back, name="policy-rollback"),
    path("policies/<uuid:pk>/promote/", policies.promote, name="policy-promote"),
    path("policies/<uuid:pk>/reject/", policies.reject, name="policy-reject"),
    path("policies/<uuid:pk>/", policy.policy, name="policy"),
    path("policies/<uuid:pk>/hold/", policy.hold, name="policy-hold"),
    path("policies/<uuid:pk>/votes/", votes.policy_votes, name="policy-votes"),
    path("votes/<uuid:pk>/", votes.vote, name="vote"),
    path("retractions/", retracting.retracted, name="retractions"),
    path("retractions/<int:pk>/undo/", retracting.undo, name="retraction-undo"),
    path("experiments/<int:pk>/rebuild/", retracting.rebuild, name="experiment-rebuild"),
    path("reward-models/<uuid:pk>/", reward_models.reward_model, name="reward-model"),
    path("my-work/", my_work.my_work, name="my-work"),
    path("jobs/", jobs.jobs, name="jobs"),
    path("jobs/<uuid:pk>/", jobs.job, name="job"),
    path("jobs/<uuid:pk>/curves/", jobs.curves, name="job-curves"),
    path("jobs/<uuid:pk>/cancel/", jobs.cancel, name="job-cancel"),
]
