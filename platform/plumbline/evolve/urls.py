"""URLs of sessions of ICPL, below /p/<project>/evolve/."""

from __future__ import annotations

from django.urls import path

from plumbline.evolve import pages, program_pages

SESSION = "<int:pk>/"
PROGRAM = "<int:pk>/programs/<int:program>/"

urlpatterns = [
    path("", pages.sessions_list, name="evolutions"),
    path("new/", pages.new, name="evolution-new"),
    path(SESSION, pages.session, name="evolution"),
    path(SESSION + "step/", pages.step, name="evolution-step"),
    path(SESSION + "compare/", program_pages.compare, name="evolution-compare"),
    path(SESSION + "lineage/", pages.lineage, name="evolution-lineage"),
    path(SESSION + "generations/<int:number>/", pages.generation, name="evolution-generation"),
    path(SESSION + "programs.csv", program_pages.download, name="evolution-csv"),
    path(PROGRAM, program_pages.program, name="evolution-program"),
    path(PROGRAM + "step/", program_pages.step, name="evolution-program-step"),
]
