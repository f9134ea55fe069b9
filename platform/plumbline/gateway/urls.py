"""URLs of the pages about the API. Its own endpoints are in `plumbline.gateway.app`."""

from __future__ import annotations

from django.urls import path

from plumbline.gateway import pages

urlpatterns = [
    path("", pages.usage_page, name="usage"),
    path("charts/", pages.charts, name="usage-charts"),
    path("usage.csv", pages.download, name="usage-download"),
    path("prices/", pages.prices, name="usage-prices"),
]
