"""URLs of operating: the health page and its part about engines; a person's own data and their wish
to be forgotten; and who carries that out."""

from __future__ import annotations

from django.urls import path

from plumbline.operations import farewell_pages, pages

urlpatterns = [
    path("", pages.health, name="health-page"),
    path("engines/", pages.engines, name="health-engines"),
]
person_urls = [
    path("", farewell_pages.own, name="own-data"),
    path("download/", farewell_pages.download, name="own-data-download"),
    path("forget/", farewell_pages.forget_me, name="forget-me"),
    path("stay/", farewell_pages.stay, name="forget-me-not"),
]
member_urls = [
    path("forget/", farewell_pages.wishes, name="wishes"),
    path("<int:user>/forget/", farewell_pages.forget, name="member-forget"),
]
