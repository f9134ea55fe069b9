"""What Prometheus reads of one gateway process.

Every series of requests carries its project, so that a project's own key can be shown that project
alone. Counting never waits and never fails; what is asked of other machines at a scrape is passed
in by the scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

from plumbline.gateway.balance import Member

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
OWN = ["project", "policy"]


class Metrics:
    """`waiting` and `unrecorded` tell how long the gate's and the journal's lines are."""

    def __init__(self, waiting: Callable[[], int], unrecorded: Callable[[], int]) -> None:
        self.registry = kept = CollectorRegistry()
        self._requests = Counter(
            "plumbline_requests", "Completions, by how they ended.", [*OWN, "status"], registry=kept
        )
        self._refused = Counter(
            "plumbline_refused",
            "Requests refused before a policy, by status.",
            ["status"],
            registry=kept,
        )
        self._limited = Counter(
            "plumbline_rate_limited",
            "Requests beyond a limit.",
            ["project", "limit"],
            registry=kept,
        )
        self._shadows = Counter(
            "plumbline_shadows",
            "Shadow answers, by what became of them.",
            [*OWN, "outcome"],
            registry=kept,
        )
        self._tokens = Counter("plumbline_tokens", "Tokens.", [*OWN, "kind"], registry=kept)
        self._first = Histogram(
            "plumbline_time_to_first_token_seconds",
            "From a stream's request to its first piece of text.",
            OWN,
            buckets=SECONDS,
            registry=kept,
        )
        self._whole = Histogram(
            "plumbline_request_seconds",
            "From request to the end of its answer.",
            OWN,
            buckets=SECONDS,
            registry=kept,
        )
        self.streams = Gauge("plumbline_open_streams", "Streams under way.", registry=kept)
        self.engine = Gauge("plumbline_engine_up", "Whether the engine answers.", registry=kept)
        line = Gauge("plumbline_gate_waiting", "Requests that wait for the engine.", registry=kept)
        line.set_function(waiting)
        behind = Gauge("plumbline_unrecorded", "Exchanges yet to be written.", registry=kept)
        behind.set_function(unrecorded)

    def engines(self, members: Sequence[Member]) -> None:
        """Show how each of them is, at every scrape."""
        shown: dict[str, tuple[str, Callable[[Member], float]]] = {
            "plumbline_engine_healthy": ("Whether requests go to it.", lambda one: not one.away),
            "plumbline_engine_requests": ("Requests under way on it.", lambda one: one.in_flight),
            "plumbline_engine_passed_on": (
                "Requests that it failed before a word, for others to answer.",
                lambda one: one.passed_on,
            ),
        }
        for name, (said, figure) in shown.items():
            gauge = Gauge(name, said, ["engine"], registry=self.registry)
            for member in members:
                gauge.labels(member.url).set_function(partial(figure, member))

    def ended(
        self,
        project: int,
        policy: str,
        status: int,
        tokens: tuple[int, int],
        first: float | None,
        seconds: float,
    ) -> None:
        """A completion; `first` is a stream's time to its first token, in seconds."""
        own = (str(project), policy)
        self._requests.labels(*own, str(status)).inc()
        for kind, count in zip(("prompt", "completion"), tokens, strict=True):
            self._tokens.labels(*own, kind).inc(count)
        self._whole.labels(*own).observe(seconds)
        if first is not None:
            self._first.labels(*own).observe(first)

    def refused(self, status: int) -> None:
        self._refused.labels(str(status)).inc()

    def limited(self, project: int, limit: str) -> None:
        self._limited.labels(str(project), limit).inc()

    def shadowed(self, project: int, policy: str, outcome: str) -> None:
        self._shadows.labels(str(project), policy, outcome).inc()

    def text(self, project: int | None = None) -> bytes:
        """Prometheus' text format; of one project, and of none beside it, where one is given."""
        return generate_latest(_Shown(self.registry, project))


class _Shown(CollectorRegistry):
    """A registry's samples, those of one project alone where one is given, without the times at
    which each series began, which only OpenMetrics knows what to do with."""

    def __init__(self, registry: CollectorRegistry, project: int | None) -> None:
        super().__init__()
        self._registry = registry
        self._project = None if project is None else str(project)

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            shown = Metric(metric.name, metric.documentation, metric.type)
            shown.samples = [
                one
                for one in metric.samples
                if self._project in (None, one.labels.get("project"))
                and not one.name.endswith("_created")
            ]
            if shown.samples:
                yield shown
