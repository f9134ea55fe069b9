"""One round: its timeline, live curves, evaluation and samples; and what a person may do to it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.gzip import gzip_page

from plumbline.accounts.models import User
from plumbline.fleet.models import Job
from plumbline.lab import asked as asking
from plumbline.lab import curves as drawing
from plumbline.lab import decided, reproducing, round_judges, timeline
from plumbline.lab.jobs import curves_response
from plumbline.lab.samples import samples
from plumbline.loop import forecast, resuming, rounds
from plumbline.loop.models import Round, RoundJob, RoundStage, Stage
from plumbline.permissions import PlumblineRequest
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Policy


def round_page(request: PlumblineRequest, experiment: int, number: int) -> HttpResponse:
    """The page; for htmx what is live on it, and all that a new stage changes when it is new."""
    found = _find(request, experiment, number)
    asked = _asked(found)
    context = _live(found, asked)
    context["changed"] = request.GET.get("seen") != found.stage
    if request.htmx and not context["changed"]:
        return render(request, "lab/round.html#live", context)
    context |= _results(found, asked, request)
    if request.htmx:
        return render(request, "lab/round.html#update", context)
    context["charts"] = drawing.charts(_drawn(asked))
    context["again"] = reproducing.context(found, asked)
    return render(request, "lab/round.html", context)


@gzip_page
def curves(request: PlumblineRequest, experiment: int, number: int) -> HttpResponse:
    """The round's curves as JSON; a poll is told to stop once the round is over."""
    found = _find(request, experiment, number)
    return curves_response(request, _drawn(_asked(found)), found.over)


def close_labels(request: PlumblineRequest, experiment: int, number: int) -> HttpResponse:
    found = _find(request, experiment, number)
    if found.over:
        messages.info(request, "This round is over.")
    else:
        rounds.close_labels(found)
        messages.success(request, "Labelling is closed; the round goes on with the votes it has.")
    return _back(request, found)


def cancel(request: PlumblineRequest, experiment: int, number: int) -> HttpResponse:
    found = _find(request, experiment, number)
    if found.over:
        messages.info(request, "This round is over.")
    else:
        rounds.cancel(found, request.user)
        messages.success(request, "The round is cancelled. What it collected stays.")
    return _back(request, found)


def retry(request: PlumblineRequest, experiment: int, number: int) -> HttpResponse:
    """Take a failed round up again where it failed."""
    found = _find(request, experiment, number)
    goes_on = resuming.told(found)
    try:
        rounds.retry(found)
    except ValueError as error:
        messages.error(request, str(error))
    else:
        said = ["The round goes on from the stage that failed.", *goes_on]
        messages.success(request, " ".join(said))
    return _back(request, found)


def _find(request: PlumblineRequest, experiment: int, number: int) -> Round:
    return get_object_or_404(
        Round.objects.select_related(
            "experiment__prompt_set",
            "policy_in",
            "policy_out",
            "campaign",
            "evaluation_campaign",
            "reward_model",
        ),
        experiment__project=request.project,
        experiment=experiment,
        number=number,
    )


def _asked(found: Round) -> list[RoundJob]:
    return list(found.jobs.select_related("job").order_by("pk"))


def _drawn(asked: list[RoundJob]) -> list[tuple[str, Job]]:
    """Jobs whose curves are drawn, the policy's training first."""
    return sorted(((one.purpose, one.job) for one in asked), key=lambda one: one[0] != "train")


def _raters(found: Round) -> list[dict[str, Any]]:
    """How reliable each rater was estimated to be for the round's reward model, and what that did
    to the votes, the least reliable first."""
    told = found.reward_model.metrics.get("labels", {}) if found.reward_model else {}
    by_id = told.get("raters", {})
    names = dict(User.objects.filter(pk__in=by_id).values_list("pk", "username"))
    turned = told.get("turned_by_rater", {})
    rows = [
        {**one, "name": names.get(int(pk), "somebody"), "flipped": turned.get(pk, 0)}
        for pk, one in by_id.items()
    ]
    return sorted(rows, key=lambda one: one["reliability"])


def _back(request: PlumblineRequest, found: Round) -> HttpResponse:
    return redirect("round", request.project.slug, found.experiment_id, found.number)


def _live(found: Round, asked: list[RoundJob]) -> dict[str, Any]:
    """What may change from one second to the next."""
    stages = list(found.stages.order_by("started_at", "pk"))
    return {
        "round": found,
        "experiment": found.experiment,
        **_times(found, stages, asked),
        "under_way": timeline.under_way(found, asked),
        "judged": round_judges.panel(found),
        "asked": asked,
        "errors": [o.job for o in asked if o.job.error and o.job.state != Job.State.SUCCEEDED],
    }


def _times(found: Round, stages: list[RoundStage], asked: list[RoundJob]) -> dict[str, Any]:
    """The stages, each with what it will still take, and that in all."""
    ahead = forecast.forecast(found, stages, asked)
    timed = [(one, ahead.by_stage.get(one.stage)) for one in timeline.steps(found, stages)]
    return {"ahead": ahead, "timed": timed, "halted": forecast.paused(found)}


def _results(found: Round, asked: list[RoundJob], request: PlumblineRequest) -> dict[str, Any]:
    """What changes only when the round enters another stage."""
    deployed = (
        Deployment.objects.filter(project=request.project, alias=serving.CURRENT)
        .select_related("policy", "previous")
        .first()
    )
    out = found.policy_out
    return {
        "why": asking.why(found),
        "deployed": deployed,
        "is_current": deployed is not None and out is not None and deployed.policy == out,
        "may_promote": out is not None and (deployed is None or deployed.policy != out),
        "may_reject": out is not None and out.state == Policy.State.CANDIDATE,
        "may_close": found.stage in (Stage.LABEL, Stage.EVALUATE)
        and any(
            one is not None and one.closed_at is None
            for one in (found.campaign, found.evaluation_campaign)
        ),
        "may_retry": found.stage == Stage.FAILED,
        "evaluations": list(found.evaluations.select_related("opponent").order_by("pk")),
        "ballots_used": found.ballots.count(),
        "examples": found.examples.count(),
        "samples": samples(found, asked, request.GET.get("page")),
        "raters": _raters(found),
        **decided.about(found),
    }
