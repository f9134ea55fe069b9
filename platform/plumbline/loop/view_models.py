"""How somebody likes to look at the table of rounds: an address with a name."""

from __future__ import annotations

from django.db import models

from plumbline.accounts.models import Project, User


class SavedView(models.Model):
    """Columns, order, search and baseline of the table of rounds, as its address has them."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="saved_views")
    owner = models.ForeignKey(User, models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=60)
    query = models.TextField(blank=True)  # the address's query, without the page
    shared = models.BooleanField(default=False)  # with all researchers of the project
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "owner", "name"], name="one_view_name_a_person"
            )
        ]

    def __str__(self) -> str:
        return self.name
