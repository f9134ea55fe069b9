"""URLs of a project's collection pages."""

from __future__ import annotations

from django.urls import path

from plumbline.collect import views
from plumbline.collect.quality import pages as quality

PERSON = "campaigns/<int:campaign>/quality/people/<int:person>/"

urlpatterns = [
    path("", views.project, name="project"),
    path("campaigns/<int:campaign>/", views.campaign, name="campaign"),
    path("campaigns/<int:campaign>/claim/", views.claim, name="claim"),
    path("campaigns/<int:campaign>/undo/", views.undo, name="ballot-undo"),
    path("campaigns/<int:campaign>/quality/", quality.campaign_page, name="quality"),
    path("campaigns/<int:campaign>/quality/plant/", quality.plant, name="quality-plant"),
    path(PERSON, quality.person_page, name="quality-person"),
    path(PERSON + "place/", quality.place, name="quality-place"),
    path("ballots/<uuid:ballot>/", views.ballot, name="ballot"),
    path("ballots/<uuid:ballot>/skip/", views.skip, name="ballot-skip"),
]
