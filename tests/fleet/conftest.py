"""The fixtures of `tests.fleet.house`."""

from tests.fleet.house import ended, fleet, redis

__all__ = ["ended", "fleet", "redis"]
