"""Metrics as Prometheus reads them, and what is made of them: the page, alert rules, a dashboard."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as strict_exposition
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict_families
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import parse

from tasks_bridge import series
from tasks_bridge.counts import Counts
from tasks_bridge.metrics import CountsCollector, exposition
from tasks_bridge.series import COUNTED, SHARED, Metric

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy/monitoring"
PAGE = ROOT / "docs/metrics.md"
ALL: tuple[Metric, ...] = (*COUNTED, *SHARED)


@pytest.fixture
def counts() -> Iterator[Counts]:
    counts = Counts()
    counts.open()
    yield counts
    counts.close()


def samples(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_counters_and_histograms_read_as_prometheus_has_them(counts: Counts) -> None:
    counts.add([series.POLLS.more('so"ra\\\n', "ended", by=2)])
    for value in (0.05, 0.2, 0.2, 100.0):
        counts.add(series.REQUEST_S.seen(value, "query", "answered"))

    found = samples(exposition(CountsCollector(counts)))

    assert found["tasks_bridge_polls_total", ('so"ra\\\n', "ended")] == 2
    name, labels = "tasks_bridge_request_duration_seconds", ("query", "answered")
    bounds = {bound: found[f"{name}_bucket", (bound, *labels)] for bound in ("0.05", "0.1", "0.25", "60.0", "+Inf")}
    assert bounds == {"0.05": 1, "0.1": 1, "0.25": 3, "60.0": 3, "+Inf": 4}
    assert found[f"{name}_count", labels] == 4
    assert found[f"{name}_sum", labels] == pytest.approx(100.45)


def test_what_has_no_labels_begins_at_zero(counts: Counts) -> None:
    found = samples(exposition(CountsCollector(counts)))

    assert found["tasks_bridge_leases_recovered_total", ()] == 0
    assert found["tasks_bridge_submit_wait_seconds_count", ()] == 0


def test_the_format_stands_up_to_the_strict_parser(counts: Counts) -> None:
    for metric in COUNTED:
        values = ["x"] * len(metric.labels)
        counts.add(metric.seen(1.0, *values) if isinstance(metric, series.Histogram) else [metric.more(*values)])
    registry = CollectorRegistry()
    registry.register(CountsCollector(counts))

    families = list(strict_families(strict_exposition(registry).decode()))

    assert {family.name for family in families} == {metric.name.removesuffix("_total") for metric in COUNTED}


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_names_are_as_prometheus_wants_them(metric: Metric) -> None:
    """Source: Prometheus' documentation, "Metric and label naming"."""
    assert re.fullmatch(r"tasks_bridge_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not re.search(r"_(ms|milliseconds|minutes|percent|count|sum|bucket)$", metric.name)


def rows() -> dict[str, list[str]]:
    cells = re.findall(r"^\| `(tasks_bridge_\w+)` \| (\w+) \|(.*?)\|(.+)\|$", PAGE.read_text(), re.MULTILINE)
    return {name: [kind, labels, text] for name, kind, labels, text in cells}


def test_the_page_has_every_metric_with_type_and_labels_and_no_other() -> None:
    assert set(rows()) == {metric.name for metric in ALL}
    for metric in ALL:
        kind, labels, _ = rows()[metric.name]
        assert kind == metric.kind
        assert [label for label in re.findall(r"`(\w+)`", labels) if label in metric.labels] == list(metric.labels)


def test_the_page_and_the_help_name_the_same_values_of_labels() -> None:
    for metric in ALL:
        listed = set(re.findall(r"`(\w+)`", rows()[metric.name][1])) - set(metric.labels)
        if listed and metric.labels[-1] in ("outcome", "kind", "purpose"):
            assert all(re.search(rf"\b{value}\b", metric.help) for value in listed), metric.name


# -- expressions ------------------------------------------------------------------------------------------------------


def alert_expressions() -> list[tuple[str, str]]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return [(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return found


def panel_expressions() -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


EXPRESSIONS = [*alert_expressions(), *panel_expressions()]


def selectors(node: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """The metrics that a parsed expression names, each with its label matchers."""
    if node is None:
        return
    if type(node).__name__ == "VectorSelector":
        yield node.name, {matcher.name: matcher.value for matcher in node.matchers.matchers}
    for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
        yield from selectors(getattr(node, part, None))
    for argument in getattr(node, "args", None) or ():
        yield from selectors(argument)


def known_names() -> dict[str, Metric]:
    names = {}
    for metric in ALL:
        suffixes = ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",)
        names.update({metric.name + suffix: metric for suffix in suffixes})
    return names


@pytest.mark.parametrize(("title", "text"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_every_expression_parses_and_names_metrics_and_labels_that_there_are(title: str, text: str) -> None:
    found = list(selectors(parse(text.replace("$__rate_interval", "5m"))))

    assert found, f"expected {title} to ask for a metric"
    for name, matchers in found:
        metric = known_names()[name]
        assert set(matchers) - {"job", "le"} <= set(metric.labels), f"{name} has no such labels"
        for label, value in matchers.items():
            if label in metric.labels:
                assert f"`{value}`" in rows()[metric.name][1], f"{name} has no {label} {value}"
    grouped = {label for labels in re.findall(r"by \(([^)]*)\)", text) for label in re.split(r",\s*", labels)}
    assert grouped - {"le"} <= {label for name, _ in found for label in known_names()[name].labels}
    assert set(re.findall(r"tasks_bridge_\w+", text)) == {name for name, _ in found}, "expected to have found them all"


def test_the_dashboard_shows_every_metric() -> None:
    shown = {
        name for _, text in panel_expressions() for name, _ in selectors(parse(text.replace("$__rate_interval", "5m")))
    }

    unseen = {metric.name for metric in ALL} - {known_names()[name].name for name in shown}
    assert unseen <= {series.INFO.name, series.BREAKER_FAILURES.name}


def test_panels_lie_side_by_side_and_have_ids_of_their_own() -> None:
    places = {(x, y) for panel in panels() for x, y in cells_of(panel["gridPos"])}

    assert len(places) == sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in panels())
    assert len({panel["id"] for panel in panels()}) == len(panels())
    assert max(x for x, _ in places) < 24


def cells_of(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y


def test_every_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("info", "warning", "critical")
            assert rule["annotations"]["summary"]


# -- without prometheus-client ----------------------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules["prometheus_client"] = None
from celery import Celery
from tasks_bridge import Settings, SettingsError, install
app = Celery("shop", broker="memory://", backend="cache+memory://")
install(app, Settings(metrics_port={port}))
try:
    worker = app.WorkController(pool="solo")
except SettingsError as error:
    print(error)
else:
    print("works")
"""


@pytest.mark.parametrize(
    ("port", "said"), [(None, "works"), (9100, "Metrics need prometheus-client: pip install 'tasks-bridge[metrics]'")]
)
def test_prometheus_client_is_needed_only_by_who_asks_for_metrics(port: int | None, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(port=port)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.stdout.strip() == said, done.stderr
