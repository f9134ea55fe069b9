"""A researcher signed in to a project."""

from __future__ import annotations

import pytest


@pytest.fixture
def researcher(alice, project, client_for):
    """A client of somebody who may use the dashboard of `project`."""
    return client_for(alice)
