"""Where texts come from that no policy of ours wrote, as far as it decides what may be done with
them. An import names its own."""

from __future__ import annotations

# Sent by a client app: nothing learns from such a text but people's votes on it.
CLIENT_TEXT = "a client app"

# The strategy of comparisons of what reward programs picked: the best of many by some program, not
# draws from a policy, so what is said of them weighs less where it trains.
ICPL = "icpl"
ICPL_WEIGHT = 0.5


def weight(strategy: str) -> float:
    """What a vote on a comparison counts in training, by how the answers came to be compared."""
    return ICPL_WEIGHT if strategy == ICPL else 1.0
