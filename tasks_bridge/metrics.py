"""
Metrics as Prometheus reads them; needs prometheus-client, the extra ``metrics``.

A worker has two collectors: of its own counts, and of the gauges that describe all jobs. A web application has the
second, which tells the same wherever it is asked, so that it doesn't matter which of its processes answers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from tasks_bridge import __version__, series
from tasks_bridge.budget import Budget
from tasks_bridge.errors import SettingsError, StoreError
from tasks_bridge.gate import Gate
from tasks_bridge.measures import label
from tasks_bridge.series import COUNTED, SHARED, SUM, Histogram

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.exposition import CONTENT_TYPE_LATEST
    from prometheus_client.registry import Collector
except ImportError:  # pragma: no cover - tested in a process of its own
    raise SettingsError("Metrics need prometheus-client: pip install 'tasks-bridge[metrics]'") from None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric as Family

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.counts import Counts
    from tasks_bridge.series import Key, Metric
    from tasks_bridge.store import RedisStore

__all__ = ["CONTENT_TYPE_LATEST", "CountsCollector", "SharedCollector", "exposition"]

log = logging.getLogger(__name__)

Sample = tuple[tuple[str, ...], float]
"""The values of the labels, and the value."""

OVERDUE_S: Final = 2.0
"""A job that is due for so long, and that nobody has claimed, is overdue: workers look every ``tick_s``."""


class CountsCollector(Collector):
    """What a worker has counted."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Family]:
        """Prometheus' hook."""
        return _counted(self._counts.snapshot())

    def describe(self) -> Iterator[Family]:
        """Prometheus' hook when it is registered."""
        return _counted({})


class SharedCollector(Collector):
    """
    The gauges that describe all jobs, read from their Redis whenever somebody asks, in a few round trips.

    For a registry of your own, in a process that isn't a worker::

        prometheus_client.REGISTRY.register(SharedCollector(install(app)))
    """

    def __init__(self, bridge: Bridge, open_store: Callable[[], RedisStore] | None = None) -> None:
        """
        Describe the jobs of *bridge*.

        Args:
            bridge: What `install` returned.
            open_store: Gives the connection to use; default: that of *bridge*.
        """
        self._settings = bridge.settings
        self._open_store = open_store or (lambda: bridge.store)

    def collect(self) -> Iterator[Family]:
        """Prometheus' hook."""
        try:
            values: dict[Metric, list[Sample]] = {series.REDIS_UP: [((), 1.0)], **self._read(self._open_store())}
        except StoreError as error:
            log.warning("metrics of jobs are left out: %s", error)
            values = {series.REDIS_UP: [((), 0.0)]}
        values[series.INFO] = [((__version__,), 1.0)]
        for metric in SHARED:
            if metric in values:
                yield _gauge(metric, values[metric])

    def describe(self) -> Iterator[Family]:
        """Prometheus' hook when it is registered."""
        return (_gauge(metric, ()) for metric in SHARED)

    def _read(self, store: RedisStore) -> dict[Metric, list[Sample]]:
        survey = store.survey(OVERDUE_S)
        gate = Gate(store, self._settings)
        circuit = gate.circuit()
        found: dict[Metric, list[Sample]] = {
            series.JOBS: _summed(((state, label(model)), count) for (state, model), count in survey.census.items()),
            series.SCHEDULE: [(("submit",), survey.to_submit), (("poll",), survey.to_poll)],
            series.OVERDUE: [((), survey.overdue)],
            series.OVERDUE_S: [((), survey.overdue_s)],
            series.NEWER: [((), survey.newer)],
            series.BREAKER: [((), float(circuit.probe_at is not None))],
            series.BREAKER_FAILURES: [((), circuit.failures)],
            series.SUBMITTING: [((), gate.submits_in_progress())],
        }
        if self._settings.spend_limit is not None:
            books = Budget(store, self._settings).books()
            known = {"used": books.used, "reserved": books.reserved, "limit": self._settings.spend_limit}
            found[series.BUDGET] = [((kind,), value) for kind, value in known.items()]
        return found


def exposition(*collectors: Collector) -> bytes:
    """What *collectors* tell, in Prometheus' text format (`CONTENT_TYPE_LATEST`)."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry)


def _gauge(metric: Metric, values: Iterable[Sample]) -> Family:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _summed(values: Iterable[Sample]) -> list[Sample]:
    """Names of models that are the same once they are cut off to labels count together."""
    sums: dict[tuple[str, ...], float] = {}
    for labels, value in values:
        sums[labels] = sums.get(labels, 0.0) + value
    return sorted(sums.items())


def _counted(sums: Mapping[Key, float]) -> Iterator[Family]:
    found: dict[str, dict[tuple[str, ...], dict[int, float]]] = {}
    for (name, labels, part), value in sums.items():
        found.setdefault(name, {}).setdefault(labels, {})[part] = value
    for metric in COUNTED:
        # what can't have labels begins at 0 rather than nowhere, as with prometheus-client's own
        values = found.get(metric.name, {} if metric.labels else {(): {}})
        if isinstance(metric, Histogram):
            histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, parts in sorted(values.items()):
                histogram.add_metric(labels, _buckets(metric, parts), parts.get(SUM, 0.0))
            yield histogram
        else:
            counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, parts in sorted(values.items()):
                counter.add_metric(labels, parts.get(0, 0.0))
            yield counter


def _buckets(metric: Histogram, parts: Mapping[int, float]) -> list[tuple[str, float]]:
    """Upper bounds, and how many values are not above them."""
    buckets, total = [], 0.0
    for number, bound in enumerate([*map(str, metric.buckets), "+Inf"]):
        total += parts.get(number, 0.0)
        buckets.append((bound, total))
    return buckets
