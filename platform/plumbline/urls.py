"""All pages, grouped by what they are about. Access is decided in `plumbline.permissions`."""

from __future__ import annotations

from django.urls import include, path

from plumbline.collect import campaign_people
from plumbline.gateway import review_pages
from plumbline.operations.urls import member_urls, person_urls

urlpatterns = [
    path("", include("plumbline.accounts.urls")),
    path("accounts/data/", include(person_urls)),
    path("campaign/<str:token>/", campaign_people.invitation, name="campaign-invitation"),
    path("p/<slug:project>/", include("plumbline.collect.urls")),
    path(
        "p/<slug:project>/campaigns/<int:campaign>/feedback/",
        review_pages.fill,
        name="campaign-feedback",
    ),
    path("p/<slug:project>/data/", include("plumbline.transfer.urls")),
    path("p/<slug:project>/lab/", include("plumbline.lab.urls")),
    path("p/<slug:project>/evolve/", include("plumbline.evolve.urls")),
    path("p/<slug:project>/routing/", include("plumbline.gateway.routing_urls")),
    path("p/<slug:project>/chat/", include("plumbline.gateway.chat_urls")),
    path("p/<slug:project>/members/", include(member_urls)),
    path("p/<slug:project>/health/", include("plumbline.operations.urls")),
    path("p/<slug:project>/usage/", include("plumbline.gateway.urls")),
]

handler400 = "plumbline.accounts.views.bad_request"
handler403 = "plumbline.accounts.views.forbidden"
handler404 = "plumbline.accounts.views.not_found"
handler500 = "plumbline.accounts.views.server_error"
