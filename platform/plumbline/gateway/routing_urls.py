"""URLs of the routing page."""

from __future__ import annotations

from django.urls import path

from plumbline.gateway import guard_pages, routing_pages

urlpatterns = [
    path("", routing_pages.routing, name="routing"),
    path("objectives/", routing_pages.objective, name="objective"),
    path("objectives/<slug:name>/end/", routing_pages.objective_end, name="objective-end"),
    path("<slug:alias>/guards/", guard_pages.guards, name="guards"),
    path("<slug:alias>/guards/<int:pk>/end/", guard_pages.end, name="guard-end"),
    path("<slug:alias>/canary/", routing_pages.canary, name="canary"),
    path("<slug:alias>/canary/end/", routing_pages.canary_end, name="canary-end"),
    path("<slug:alias>/shadow/", routing_pages.shadow, name="shadow"),
    path("<slug:alias>/shadow/end/", routing_pages.shadow_end, name="shadow-end"),
]
