"""URLs of a project's collection pages."""

from __future__ import annotations

from django.urls import path

from plumbline.collect import campaign_people as people
from plumbline.collect import campaigns, comparisons, views
from plumbline.collect import training_pages as training
from plumbline.collect.quality import pages as quality

CAMPAIGN = "campaigns/<int:campaign>/"
COMPARISON = CAMPAIGN + "comparisons/<int:pk>/"
PERSON = "campaigns/<int:campaign>/quality/people/<int:person>/"

urlpatterns = [
    path("", views.project, name="project"),
    path("campaigns/", campaigns.campaigns, name="campaigns"),
    path("campaigns/new/", campaigns.new, name="campaign-new"),
    path("campaigns/preview/", campaigns.preview, name="campaign-preview"),
    path(CAMPAIGN + "manage/", campaigns.manage, name="campaign-manage"),
    path(CAMPAIGN + "edit/", campaigns.edit, name="campaign-edit"),
    path(CAMPAIGN + "step/", campaigns.step, name="campaign-step"),
    path(CAMPAIGN + "versions/", campaigns.history, name="campaign-versions"),
    path(CAMPAIGN + "fill/", campaigns.fill, name="campaign-fill"),
    path(CAMPAIGN + "people/", people.people, name="campaign-people"),
    path(CAMPAIGN + "people/invite/", people.invite, name="campaign-invite"),
    path(CAMPAIGN + "people/change/", people.change, name="campaign-people-change"),
    path(CAMPAIGN + "comparisons/", comparisons.comparisons, name="comparisons"),
    path(COMPARISON, comparisons.comparison, name="comparison"),
    path(COMPARISON + "overlap/", comparisons.set_overlap, name="comparison-overlap"),
    path(COMPARISON + "teach/", comparisons.teach, name="comparison-teach"),
    path(COMPARISON + "retire/", comparisons.retire, name="comparison-retire"),
    path(CAMPAIGN + "flags/", comparisons.flags, name="campaign-flags"),
    path(CAMPAIGN + "flags/<int:pk>/", comparisons.resolve, name="flag-resolve"),
    path(CAMPAIGN + "training/", training.page, name="training"),
    path(CAMPAIGN + "training/next/", training.go_on, name="training-next"),
    path("ballots/<uuid:ballot>/feedback/", training.feedback, name="training-feedback"),
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
