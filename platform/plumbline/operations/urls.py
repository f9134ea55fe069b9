"""URLs of operating: the health page and its part about engines."""

from __future__ import annotations

from django.urls import path

from plumbline.operations import pages

urlpatterns = [
    path("", pages.health, name="health-page"),
    path("engines/", pages.engines, name="health-engines"),
]
