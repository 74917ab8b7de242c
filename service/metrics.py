"""The metrics that Prometheus reads at /metrics; each application has its own registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from store.statuses import JobStatus

_FRESH_SECONDS = 5.0  # jobs are counted at most this often, however many scrapers there are
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

Count = Callable[[], tuple[Mapping[JobStatus, int], Mapping[str, int]]]


class Metrics:
    """Counters of one API process, and gauges that are read from the database when scraped."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "intff_http_requests_total", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._latency = Histogram(
            "intff_http_request_seconds",
            "Seconds from a request's arrival to the end of its answer",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._predictions = Counter("intff_predictions_total", "Images classified", registry=self.registry)
        self._reconciled = Counter(
            "intff_reconciled_jobs_total", "Jobs that the reconciler acted on", ["action"], registry=self.registry
        )
        self._kinds: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._jobs = _Jobs()
        self.registry.register(self._jobs)
        self.event_streams = Gauge("intff_event_streams", "Event streams that are open", registry=self.registry)

    def saw_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the template, so that ids do not become labels."""
        method = method if method in _METHODS else "other"  # clients may invent any number of methods
        counter, histogram = self._of(method, route, status)
        counter.inc()
        histogram.observe(seconds)

    def _of(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        """The counter and histogram of one kind of request, cached: a lookup by label takes longer than counting."""
        found = self._kinds.get((method, route, status))
        if found is None:
            found = self._requests.labels(method, route, str(status)), self._latency.labels(method, route)
            self._kinds[method, route, status] = found
        return found

    def saw_predictions(self, images: int) -> None:
        """Count classified images."""
        self._predictions.inc(images)

    def saw_reconciled(self, action: str, jobs: int) -> None:
        """Count what one sweep did."""
        self._reconciled.labels(action).inc(jobs)

    def watch_jobs(self, count: Count) -> None:
        """Set the function that counts jobs by status, and waiting jobs by queue, when scraped."""
        self._jobs.count = count

    def page(self) -> bytes:
        """The text that a scraper reads."""
        return generate_latest(self.registry)


class _Jobs(Collector):
    def __init__(self) -> None:
        self.count: Count | None = None
        self._counted: list[Metric] = []
        self._until = 0.0

    def describe(self) -> list[Metric]:
        """Describe nothing, so that registering this collector does not count jobs."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The counts, at most `_FRESH_SECONDS` old."""
        if self.count is not None and monotonic() >= self._until:
            by_status, waiting = self.count()
            self._counted = [
                _gauge("intff_jobs", "Jobs by status", "status", by_status.items()),
                _gauge("intff_queue_depth", "Jobs waiting for a worker, by queue", "queue", waiting.items()),
            ]
            self._until = monotonic() + _FRESH_SECONDS
        yield from self._counted


def _gauge(name: str, says: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    family = GaugeMetricFamily(name, says, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family
