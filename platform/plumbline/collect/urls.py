"""URLs of a project's collection pages."""

from __future__ import annotations

from django.urls import path

from plumbline.collect import ballots, preferences, views
from plumbline.collect.quality import pages as quality

PERSON = "campaigns/<int:campaign>/quality/people/<int:person>/"

urlpatterns = [
    path("", views.project, name="project"),
    path("campaigns/<int:campaign>/", views.campaign, name="campaign"),
    path("campaigns/<int:campaign>/claim/", ballots.claim, name="claim"),
    path("campaigns/<int:campaign>/undo/", ballots.undo, name="ballot-undo"),
    path("campaigns/<int:campaign>/quality/", quality.campaign_page, name="quality"),
    path("campaigns/<int:campaign>/quality/plant/", quality.plant, name="quality-plant"),
    path(PERSON, quality.person_page, name="quality-person"),
    path(PERSON + "place/", quality.place, name="quality-place"),
    path("ballots/<uuid:ballot>/", ballots.ballot, name="ballot"),
    path("ballots/<uuid:ballot>/draft/", ballots.draft, name="ballot-draft"),
    path("ballots/<uuid:ballot>/changes/", ballots.changes, name="ballot-changes"),
    path("ballots/<uuid:ballot>/difference/", ballots.difference, name="ballot-difference"),
    path("ballots/<uuid:ballot>/skip/", ballots.skip, name="ballot-skip"),
    path("ballots/<uuid:ballot>/flag/", ballots.flag, name="ballot-flag"),
    path("ballots/<uuid:ballot>/reopen/", ballots.reopen, name="ballot-reopen"),
    path("my-keys/", preferences.my_keys, name="my-keys"),
]
