"""Who is in a campaign, the links that bring people to it, and the page such a link opens."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Count, F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from plumbline.accounts import guesses, visits
from plumbline.accounts.forms import JoinForm
from plumbline.accounts.models import User
from plumbline.accounts.views import too_many
from plumbline.collect import campaigns, enrolment, queue, votes
from plumbline.collect.models import Ballot, Campaign, CampaignInvitation
from plumbline.collect.queue import training
from plumbline.permissions import PlumblineRequest

A_PAGE = 50


def people(request: PlumblineRequest, campaign: int) -> HttpResponse:
    return _people(request, campaigns.find(request, campaign))


@never_cache
def invite(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """A new link; it is on this answer and nowhere else."""
    row = campaigns.find(request, campaign)
    if row.closed_at is not None:
        messages.error(request, "This campaign is closed; reopen it before inviting people.")
        return redirect("campaign-people", request.project.slug, row.pk)
    try:
        guesses.inviting(request.user.pk)
    except guesses.TooMany:
        return too_many(request)
    _, token = enrolment.invite(row, request.user)
    link = request.build_absolute_uri(reverse("campaign-invitation", args=[token]))
    return _people(request, row, link=link)


def change(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Enrol a member, leave somebody out, or take a link back."""
    row = campaigns.find(request, campaign)
    given = request.POST.get("which", "")
    which = int(given) if given.isdecimal() else 0
    try:
        match request.POST.get("do"):
            case "enrol":
                user = get_object_or_404(User, pk=which)
                enrolment.enrol(row, user)
                messages.success(request, f"{user} is in.")
            case "remove":
                user = get_object_or_404(User, enrolments__campaign=row, pk=which)
                enrolment.remove(row, user)
                messages.success(request, f"{user} is out. What they said stays.")
            case "trained":
                user = get_object_or_404(User, enrolments__campaign=row, pk=which)
                queue.let_in(user, row)
                messages.success(request, f"{user} may go on without the training.")
            case "withdraw" if enrolment.withdraw(row, which):
                messages.success(request, "The link no longer works.")
            case _:
                messages.error(request, "That is no longer here.")
    except ValueError as error:
        messages.error(request, str(error))
    return redirect("campaign-people", request.project.slug, row.pk)


@never_cache
@sensitive_post_parameters("password1", "password2")
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Join a campaign: as who is signed in, or as a new person."""
    if guesses.too_many_links(request):
        return too_many(request)
    invited = enrolment.find(token)
    if invited is None:
        guesses.wrong_link(request)
        return render(request, "accounts/link_expired.html", {"invitation": True}, status=404)
    context: dict[str, Any] = {"invited": invited, "campaign": invited.campaign}
    if isinstance(request.user, User):
        if request.method != "POST":
            return render(request, "collect/campaigns/invitation.html", context)
        return _join(request, invited, request.user)
    form = JoinForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                user = form.save()
                enrolment.accept(invited, user)
        except (ValueError, IntegrityError):  # somebody was faster with the link, or with the name
            return redirect(request.path)
        visits.begin(request, user)
        return redirect("campaign", invited.campaign.project.slug, invited.campaign_id)
    context["form"] = form
    status = 422 if form.errors else 200
    return render(request, "collect/campaigns/invitation.html", context, status=status)


def _join(request: HttpRequest, invited: CampaignInvitation, user: User) -> HttpResponse:
    try:
        enrolment.accept(invited, user)
    except ValueError as refused:
        messages.warning(request, str(refused))
        return redirect("home")
    return redirect("campaign", invited.campaign.project.slug, invited.campaign_id)


def _people(request: PlumblineRequest, row: Campaign, link: str = "") -> HttpResponse:
    places = row.enrolments.select_related("user").order_by(
        F("left_at").asc(nulls_first=True), "user__username"
    )
    page = Paginator(places, A_PAGE).get_page(request.GET.get("page"))
    here = [place.user_id for place in page.object_list]
    cast = Ballot.objects.filter(
        comparison__campaign=row, annotator__in=here, outcome__in=votes.VOTES, seat__isnull=False
    )
    counted = cast.order_by().values("annotator").annotate(n=Count("pk"))
    said = {one["annotator"]: one["n"] for one in counted}
    inside = row.enrolments.filter(left_at=None).values("user")
    members = User.objects.filter(membership__project=row.project_id, kind=User.Kind.PERSON)
    context = {
        **campaigns.frame(row, "people"),
        "page": page,
        "places": [(place, said.get(place.user_id, 0)) for place in page.object_list],
        "others": members.exclude(pk__in=inside).order_by("username")[:500],
        "links": enrolment.open_links(row),
        "link": link,
        "training": training.of_campaign(row).exists(),
    }
    return render(request, "collect/campaigns/people.html", context)
