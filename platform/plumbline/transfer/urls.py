"""URLs of a project's data: votes out, and files checked."""

from __future__ import annotations

from django.urls import path

from plumbline.transfer import views

urlpatterns = [
    path("export/", views.export, name="export"),
    path("export/download/", views.download, name="export-download"),
    path("export/check/", views.check, name="export-check"),
]
