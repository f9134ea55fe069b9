"""Limits of keys and of projects, shared by all gateways: token buckets and budgets in Redis.

Admission takes what a request may use at most, in one atomic script under Redis's clock; its end
gives back what it did not use. So parallel requests never pass a limit together. Redis is a memory
only: while it is away requests pass and the log says so once, and what a budget has already spent
comes from the database, so losing Redis forgives nobody a month.
"""

from __future__ import annotations

import asyncio
import calendar
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from plumbline.accounts.models import ApiKey, Project
from plumbline.gateway import usage
from plumbline.gateway.wire import ApiError

log = logging.getLogger(__name__)

PATIENCE = 1.0  # seconds for one answer of Redis
PAUSE = 5.0  # seconds without asking after Redis failed to answer
AT_ONCE = 64  # connections; more requests wait for one of them, which no time limit ends
LINK_PER_MINUTE = 10

# Levels refill by Redis's own clock, so gateways with different clocks agree. There is a bucket for
# each of KEYS, and a request is taken from all of them or, when one refuses it, from none: what is
# refused changes nothing.
ADMIT = """
local cost, day, month = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local found, refused = {}, false
for i, key in ipairs(KEYS) do
  local at = 3 + (i - 1) * 6
  local rpm, tpm, per_day, per_month = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]),
    tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local held = redis.call('HMGET', key, 'at', 'requests', 'tokens', 'day', 'in_day', 'month',
    'in_month')
  local passed = math.max(0, now - (tonumber(held[1]) or now))
  local function level(limit, left)
    return math.min(limit, (tonumber(left) or limit) + limit * passed / 60000)
  end
  local requests, tokens = level(rpm, held[2]), level(tpm, held[3])
  local in_day = math.max(held[4] == day and tonumber(held[5]) or 0, tonumber(ARGV[at + 5]))
  local in_month = math.max(held[6] == month and tonumber(held[7]) or 0, tonumber(ARGV[at + 6]))
  local verdict, wait = 0, 0
  if rpm > 0 and requests < 1 then
    verdict, wait = 1, (1 - requests) / rpm * 60000
  elseif tpm > 0 and tokens < cost then
    verdict, wait = 2, (cost - tokens) / tpm * 60000
  elseif per_day > 0 and in_day + cost > per_day then
    verdict = 3
  elseif per_month > 0 and in_month + cost > per_month then
    verdict = 4
  end
  refused = refused or verdict > 0
  found[i] = {verdict, wait, requests, tokens, in_day, in_month, rpm, tpm,
    (per_day > 0 or per_month > 0) and 2764800 or 120}
end
local said = {}
for i, one in ipairs(found) do
  if not refused then
    one[3], one[4], one[5], one[6] = one[3] - 1, one[4] - cost, one[5] + cost, one[6] + cost
    redis.call('HSET', KEYS[i], 'at', now,
      'requests', one[7] > 0 and one[3] or '', 'tokens', one[8] > 0 and one[4] or '',
      'day', day, 'in_day', one[5], 'month', month, 'in_month', one[6])
    redis.call('EXPIRE', KEYS[i], one[9])
  end
  said[i] = {one[1], math.floor(one[2]), math.floor(one[3]), math.floor(one[4]), one[5], one[6]}
end
return said
"""
SETTLE = """
for _, key in ipairs(KEYS) do
  local held = redis.call('HMGET', key, 'tokens', 'day', 'month')
  local tokens = tonumber(held[1])
  if tokens then redis.call('HSET', key, 'tokens', tokens + ARGV[1]) end
  if held[2] == ARGV[2] then redis.call('HINCRBY', key, 'in_day', -ARGV[1]) end
  if held[3] == ARGV[3] then redis.call('HINCRBY', key, 'in_month', -ARGV[1]) end
end
"""
REQUESTS, TOKENS, DAY, MONTH = 1, 2, 3, 4
NAMES = {REQUESTS: "requests", TOKENS: "tokens", DAY: "day", MONTH: "month"}


@dataclass(frozen=True)
class Limits:
    """Of one key; 0 is none. What finished requests had used of the budgets on the day `seen`.
    `bucket` tells a key's several buckets apart, and `doing` says what they count; `who` is who may
    do it, with limits of `whose`. `within`: limits that all who share them keep together."""

    key: int
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    tokens_per_day: int = 0
    tokens_per_month: int = 0
    spent_in_day: int = 0
    spent_in_month: int = 0
    seen: date | None = None
    bucket: str = ""
    doing: str = "make {limit} requests a minute"
    who: str = "This key"
    whose: str = "This key's"
    within: Limits | None = None

    def spent(self, now: date) -> tuple[int, int]:
        """(in the day, in the month) of `now`: what was seen before midnight is no longer so."""
        if self.seen == now:
            return self.spent_in_day, self.spent_in_month
        same_month = self.seen is not None and self.seen.replace(day=1) == now.replace(day=1)
        return 0, self.spent_in_month if same_month else 0

    def __bool__(self) -> bool:
        return bool(self.each)

    @property
    def each(self) -> list[Limits]:
        """Those of these and of `within` that limit anything."""
        own = (
            *(self.requests_per_minute, self.tokens_per_minute),
            *(self.tokens_per_day, self.tokens_per_month),
        )
        return [*([self] if any(own) else []), *(self.within.each if self.within else [])]


def of(key: ApiKey) -> Limits:
    """A key's own limits, the settings' where it has none. Reads the budgets' state."""

    def own(name: str) -> int:
        value = getattr(key, name)
        return int(getattr(settings, f"KEY_{name.upper()}") if value is None else value)

    limits = Limits(
        key.pk,
        own("requests_per_minute"),
        own("tokens_per_minute"),
        own("tokens_per_day"),
        own("tokens_per_month"),
        within=of_project(key.project),
    )
    return _with_spent(limits, lambda since: usage.spent(key, since))


def of_project(project: Project) -> Limits | None:
    """What a project's keys, and its members on the chat page, may use together; None for no limit.
    Reads the budgets' state."""
    limits = Limits(
        project.pk,
        project.requests_per_minute or 0,
        project.tokens_per_minute or 0,
        project.tokens_per_day or 0,
        project.tokens_per_month or 0,
        bucket=":project",
        doing="make {limit} requests a minute with all its keys",
        who="This project",
        whose="This project's",
    )
    if not limits:
        return None
    return _with_spent(limits, lambda since: usage.spent_by_project(project.pk, since))


def _with_spent(limits: Limits, spent: Callable[[date], int]) -> Limits:
    today = datetime.now(UTC).date()
    if limits.tokens_per_day:
        limits = replace(limits, spent_in_day=spent(today), seen=today)
    if limits.tokens_per_month:
        limits = replace(limits, spent_in_month=spent(today.replace(day=1)), seen=today)
    return limits


def of_feedback(limits: Limits) -> Limits:
    """A key's requests a minute hold for what it says of answers as well, counted by themselves."""
    doing = "send {limit} requests about feedback a minute"
    rate = limits.requests_per_minute
    return Limits(limits.key, requests_per_minute=rate, bucket=":feedback", doing=doing)


def of_link(key: int, name: str) -> Limits:
    """A link is good for one feedback; whoever has it may repeat it now and then."""
    doing = "be used for {limit} requests a minute through one link"
    return Limits(key, requests_per_minute=LINK_PER_MINUTE, bucket=f":{name}", doing=doing)


def of_member(project: int, user: int) -> Limits:
    """Of a member's answers on the chat page, in one project. Reads the budget's state."""
    limits = Limits(
        user,
        requests_per_minute=settings.CHAT_REQUESTS_PER_MINUTE,
        tokens_per_day=settings.CHAT_TOKENS_PER_DAY,
        bucket=f":chat:{project}",
        doing="ask for {limit} answers a minute here",
        who="You",
        whose="Your",
        within=of_project(Project.objects.get(pk=project)),
    )
    return _with_spent(limits, lambda since: usage.spent_by_member(project, user, since))


@dataclass(frozen=True)
class Admission:
    """What was taken for a request, to be settled when it ends."""

    limits: Limits
    cost: int
    day: str
    month: str


class Limited(ApiError):
    """A request beyond a limit: which one, and what the client may read of it."""

    def __init__(self, limit: int, message: str, wait: float | None, **shape: str) -> None:
        after = None if wait is None else max(1, math.ceil(wait))
        super().__init__(429, message, retry_after=after, **shape)
        self.limit = NAMES[limit]


class Limiter:
    def __init__(self, url: str) -> None:
        self._redis: Redis = Redis.from_url(
            url.replace("redis+socket://", "unix://"),
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 1),
        )
        self._admit = self._redis.register_script(ADMIT)
        self._settle = self._redis.register_script(SETTLE)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._silent_until = 0.0
        self._away = False
        self._settling: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        await asyncio.gather(*self._settling)
        await self._redis.aclose()

    async def answers(self) -> bool:
        try:
            await self._redis.ping()
        except (RedisError, OSError):
            return False
        return True

    async def admit(self, limits: Limits, cost: int, headers: dict[str, str]) -> Admission | None:
        """Take a request's share, and tell in `headers` what is left. None: nothing limits it.

        Raises Limited when it is beyond a limit; then it has taken nothing.
        """
        if not limits:
            return None
        now = datetime.now(UTC)
        admission = Admission(limits, cost, f"{now:%Y-%m-%d}", f"{now:%Y-%m}")
        arguments: list[Any] = [cost, admission.day, admission.month]
        for one in limits.each:
            arguments += [one.requests_per_minute, one.tokens_per_minute]
            arguments += [one.tokens_per_day, one.tokens_per_month, *one.spent(now.date())]
        found = await self._run(self._admit, limits, arguments)
        if found is None:
            return None
        told = list(zip(limits.each, found, strict=True))
        # What refuses is told, else what is nearest to who asks.
        one, (verdict, wait, *left) = next((pair for pair in told if pair[1][0]), told[0])
        headers.update(_headers(one, *left, now=now))
        if verdict:
            refusal = _refusal(verdict, one, cost, wait / 1000, now)
            if refusal.retry_after is None or verdict in (DAY, MONTH):
                headers["x-should-retry"] = "false"  # which OpenAI's clients obey
            raise refusal
        return admission

    def settle(self, admission: Admission | None, used: int) -> None:
        """Give back what an admitted request did not use, behind its answer."""
        if admission is None or used == admission.cost:
            return
        arguments = [admission.cost - used, admission.day, admission.month]
        task = asyncio.create_task(self._give_back(admission.limits, arguments))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _give_back(self, limits: Limits, arguments: list[Any]) -> None:
        await self._run(self._settle, limits, arguments)

    async def _run(self, script: Any, limits: Limits, arguments: list[Any]) -> Any:
        if time.monotonic() < self._silent_until:
            return None
        async with self._turns:
            try:
                names = [f"plumbline:limits:{one.key}{one.bucket}" for one in limits.each]
                found = await script(keys=names, args=arguments)
            except (RedisError, OSError) as error:
                self._silent_until = time.monotonic() + PAUSE
                if not self._away:
                    log.error("Redis does not answer, so the limits of keys do not hold: %s", error)
                self._away = True
                return None
        if self._away:
            self._away = False
            log.warning("Redis answers again, and the limits of keys hold.")
        return found


def _headers(
    limits: Limits, requests: int, tokens: int, in_day: int, in_month: int, *, now: datetime
) -> dict[str, str]:
    """OpenAI's; those of tokens tell the shortest of the key's token limits."""
    said: dict[str, str] = {}

    def say(kind: str, limit: int, left: int, seconds: float) -> None:
        said[f"x-ratelimit-limit-{kind}"] = str(limit)
        said[f"x-ratelimit-remaining-{kind}"] = str(max(0, left))
        said[f"x-ratelimit-reset-{kind}"] = duration(seconds)

    if limit := limits.requests_per_minute:
        say("requests", limit, requests, 60 * (limit - requests) / limit)
    if limit := limits.tokens_per_minute:
        say("tokens", limit, tokens, 60 * (limit - tokens) / limit)
    elif limit := limits.tokens_per_day:
        say("tokens", limit, limit - in_day, _left(DAY, now))
    elif limit := limits.tokens_per_month:
        say("tokens", limit, limit - in_month, _left(MONTH, now))
    return said


def _refusal(verdict: int, limits: Limits, cost: int, wait: float, now: datetime) -> Limited:
    if verdict == REQUESTS:
        said = f"{limits.who} may {limits.doing.format(limit=limits.requests_per_minute)}."
        return Limited(verdict, said, wait, code="rate_limit_exceeded", kind="requests")
    if verdict == TOKENS:
        limit = limits.tokens_per_minute
        said = f"{limits.who} may use {limit} tokens a minute, and this request may use {cost}."
        after = None if cost > limit else wait  # it would never fit
        return Limited(verdict, said, after, code="rate_limit_exceeded", kind="tokens")
    period = "day" if verdict == DAY else "month"
    limit = limits.tokens_per_day if verdict == DAY else limits.tokens_per_month
    said = (
        f"{limits.whose} budget of {limit} tokens a {period} does not hold the {cost} tokens that "
        "this request may use."
    )
    shape = "insufficient_quota"
    return Limited(verdict, said, _left(verdict, now), code=shape, kind=shape)


def _left(period: int, now: datetime) -> float:
    """Seconds until the day or the month ends, in UTC."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    days = 1
    if period == MONTH:
        days = calendar.monthrange(now.year, now.month)[1] - now.day + 1
    return (midnight + timedelta(days=days) - now).total_seconds()


def duration(seconds: float) -> str:
    """As OpenAI writes it: 20ms, 1s, 6m0s, 1h2m3s."""
    milliseconds = max(0, math.ceil(1000 * seconds))
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    total = math.ceil(milliseconds / 1000)
    hours, minutes = divmod(total // 60, 60)
    said = f"{hours}h" if hours else ""
    said += f"{minutes}m" if total >= 60 else ""
    return f"{said}{total % 60}s"
