"""Where texts come from that no policy of ours wrote, as far as it decides what may be done with
them. An import names its own."""

from __future__ import annotations

# Sent by a client app: nothing learns from such a text but people's votes on it.
CLIENT_TEXT = "a client app"
