"""Votes that no person casts: a policy's stated confidence, and several judges pooled into one."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render

from plumbline.collect.models import Completion, PromptSet
from plumbline.fleet.models import Job
from plumbline.judges import factored, judges
from plumbline.judges.models import Judge
from plumbline.loop import confidence as stating
from plumbline.permissions import PlumblineRequest
from plumbline.policies import serving
from plumbline.policies.models import Policy

MOST_ASKED, MOST_ANSWERS = 1000, 16


def confidence(request: PlumblineRequest) -> HttpResponse:
    """What was asked so far, and the form that asks a policy how sure it is."""
    posted = request.POST if request.method == "POST" else QueryDict()
    sets = list(PromptSet.objects.filter(project=request.project).order_by("name"))
    policies = [
        serving.base_policy(request.project),
        *Policy.objects.filter(project=request.project).exclude(parent=None)[:50],
    ]
    problem = ""
    if request.method == "POST":
        policy = next((one for one in policies if str(one.pk) == posted.get("policy")), None)
        source = next((one for one in sets if str(one.pk) == posted.get("source")), None)
        try:
            if policy is None or source is None:
                raise ValueError("Choose a policy and a prompt set.")
            job = stating.begin(
                policy,
                source,
                posted.get("truth", ""),
                n=_whole(posted.get("n", ""), "Answers", MOST_ANSWERS),
                limit=_whole(posted.get("limit", ""), "Prompts", MOST_ASKED),
            )
        except ValueError as error:
            problem = str(error)
        else:
            messages.success(request, f"{job.title}: under way.")
            return redirect("confidence", request.project.slug)
    context = {
        "problem": problem,
        "sets": sets,
        "policies": policies,
        "truths": _truths(request),
        "said": {name: posted.get(name, "") for name in ("policy", "source", "truth")},
        "n": posted.get("n", "5"),
        "limit": posted.get("limit", "200"),
        "asked": stating.asked(request.project),
    }
    return render(request, "lab/confidence.html", context, status=422 if problem else 200)


def gather(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """Make the pairs of a finished job, as far as it is known what is right."""
    job = get_object_or_404(
        Job, project=request.project, kind="sample", title__startswith=stating.TITLE, pk=pk
    )
    try:
        made = stating.gather(job)
    except ValueError as error:
        messages.error(request, str(error))
    else:
        classes = ", ".join(f"{count} {name}" for name, count in made.classes.items())
        untold = f" Of {made.untold} answers nobody says whether they are right." * bool(
            made.untold
        )
        messages.success(request, f"{made.new} new pairs, {made.pairs} in all: {classes}.{untold}")
    return redirect("confidence", request.project.slug)


def pool(request: PlumblineRequest) -> HttpResponse:
    """The form that pools judges of the project into one."""
    posted = request.POST if request.method == "POST" else QueryDict()
    offered = [
        (judges.current(one), str(one.pk) in posted.getlist("judge"))
        for one in Judge.objects.filter(project=request.project, retired_at=None)
    ]
    problem = ""
    if request.method == "POST":
        settings = {"members": [version.pk for version, chosen in offered if chosen]}
        try:
            version = judges.make(
                request.project, posted.get("name", ""), "pool", settings, by=request.user
            )
        except ValueError as error:
            problem = str(error)
        else:
            messages.success(request, f"{version.judge} can judge now.")
            return redirect("pool-new", request.project.slug)
    context = {"problem": problem, "offered": offered, "name": posted.get("name", "")}
    return render(request, "lab/pool.html", context, status=422 if problem else 200)


def _truths(request: PlumblineRequest) -> list[tuple[str, str]]:
    """What may say whether an answer is right: imported answers, and criteria people rate by."""
    imported = Completion.objects.filter(prompt__set__project=request.project, policy=None)
    origins = sorted(set(imported.exclude(origin="").values_list("origin", flat=True)))
    rated = [one for one in factored.offered(request.project) if one.startswith(factored.RATING)]
    return [
        *((one, f"Imported answers of {one}") for one in origins),
        *((one, factored.title(one)) for one in rated),
    ]


def _whole(said: str, what: str, most: int) -> int:
    if not said.isdecimal() or not 1 <= int(said) <= most:
        raise ValueError(f"{what}: a whole number from 1 to {most}.")
    return int(said)
