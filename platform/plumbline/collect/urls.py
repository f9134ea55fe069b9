"""URLs of a project's collection pages."""

from __future__ import annotations

from django.urls import path

from plumbline.collect import answers, ballots, campaigns, comparisons, preferences, views
from plumbline.collect import campaign_people as people
from plumbline.collect.live import pages as live
from plumbline.collect.quality import pages as quality
from plumbline.collect.training import page as training

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
    path(CAMPAIGN + "bring-back/", campaigns.bring_back, name="campaign-bring-back"),
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
    path(CAMPAIGN + "training/", training, name="training"),
    path("campaigns/<int:campaign>/", views.campaign, name="campaign"),
    path(CAMPAIGN + "answers/", answers.answers, name="my-answers"),
    path(CAMPAIGN + "leave/", views.leave, name="campaign-leave"),
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
    path("ballots/<uuid:ballot>/news/", live.news, name="ballot-news"),
    path("ballots/<uuid:ballot>/again/", live.again, name="ballot-again"),
    path(CAMPAIGN + "write/", live.write, name="live-write"),
    path("my-keys/", preferences.my_keys, name="my-keys"),
]
