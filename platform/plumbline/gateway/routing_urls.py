"""URLs of the routing page."""

from __future__ import annotations

from django.urls import path

from plumbline.gateway import routing_pages

urlpatterns = [
    path("", routing_pages.routing, name="routing"),
    path("objectives/", routing_pages.objective, name="objective"),
    path("objectives/<slug:name>/end/", routing_pages.objective_end, name="objective-end"),
    path("<slug:alias>/canary/", routing_pages.canary, name="canary"),
    path("<slug:alias>/canary/end/", routing_pages.canary_end, name="canary-end"),
    path("<slug:alias>/shadow/", routing_pages.shadow, name="shadow"),
    path("<slug:alias>/shadow/end/", routing_pages.shadow_end, name="shadow-end"),
]
