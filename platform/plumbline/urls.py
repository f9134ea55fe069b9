"""All pages, grouped by what they are about. Access is decided in `plumbline.permissions`."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("", include("plumbline.accounts.urls")),
    path("p/<slug:project>/", include("plumbline.collect.urls")),
    path("p/<slug:project>/lab/", include("plumbline.lab.urls")),
]
