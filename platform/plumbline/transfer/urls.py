"""URLs of a project's data: votes out, files checked, votes in."""

from __future__ import annotations

from django.urls import path

from plumbline.transfer import import_views, views

urlpatterns = [
    path("export/", views.export, name="export"),
    path("export/download/", views.download, name="export-download"),
    path("export/check/", views.check, name="export-check"),
    path("import/", import_views.imports, name="imports"),
    path("import/<uuid:pk>/", import_views.file, name="import-file"),
    path("import/<int:pk>/undo/", import_views.undo, name="import-undo"),
]
