"""The backend's class, where Django looks for it."""

from __future__ import annotations

import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def is_usable(self) -> bool:
        """Whether the server still holds its end of an idle connection. A server that closes says
        so, and one that says anything else is left as well: it has nothing to say."""
        if self.connection is None or self.connection.closed:
            return False
        said, _, _ = select.select([self.connection.fileno()], [], [], 0)
        return not said
