"""URLs of a project's collection pages."""

from __future__ import annotations

from django.urls import path

from plumbline.collect import views

urlpatterns = [
    path("", views.project, name="project"),
    path("campaigns/<int:campaign>/", views.campaign, name="campaign"),
    path("campaigns/<int:campaign>/claim/", views.claim, name="claim"),
    path("campaigns/<int:campaign>/undo/", views.undo, name="ballot-undo"),
    path("ballots/<uuid:ballot>/", views.ballot, name="ballot"),
    path("ballots/<uuid:ballot>/skip/", views.skip, name="ballot-skip"),
]
