"""The dashboard and the alarms ask for metrics and labels that exist, in PromQL that parses."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import Histogram
from promql_parser import VectorSelector

from tests.documents import DOCS, rows
from tests.service.ops.metrics_page import COLLECTED

ALARMS: dict[str, Any] = yaml.safe_load((DOCS / "alarms.yml").read_text())
DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana.json").read_text())
RULES: list[dict[str, Any]] = [rule for group in ALARMS["groups"] for rule in group["rules"]]
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
ADDED_BY_PROMETHEUS = {"job", "instance"}


def series() -> dict[str, set[str]]:
    """The names of all series of the service, with their labels."""
    found: dict[str, set[str]] = {"up": set()}
    for each in COLLECTED:
        ends = ("_bucket", "_sum", "_count") if isinstance(each, Histogram) else ("",)
        name = f"{each._name}_total" if each._type == "counter" else each._name
        for end in ends:
            found[name + end] = set(each._labelnames) | ({"le"} if end == "_bucket" else set())
    return found


def selectors(query: str) -> list[VectorSelector]:
    """What a query reads. Raises ValueError for a query that Prometheus would not read."""
    found: list[VectorSelector] = []

    def visit(each: Any) -> None:
        if isinstance(each, VectorSelector):
            found.append(each)

    promql_parser.walk(promql_parser.parse(query.replace("$__rate_interval", "5m")), visit)
    return found


def faults(query: str) -> Iterator[str]:
    """The metrics and the labels of a query that do not exist."""
    known = series()
    labels = ADDED_BY_PROMETHEUS.copy()
    for each in selectors(query):
        name = str(each.name)
        if name not in known:
            yield name
            continue
        labels |= known[name]
        named = {matcher.name for matcher in each.matchers.matchers}
        yield from named - known[name] - ADDED_BY_PROMETHEUS
    for grouped in re.findall(r"\bby \(([^)]*)\)", query):
        yield from set(grouped.split(", ")) - labels


def queries() -> list[str]:
    """All queries of the dashboard and of the alarms."""
    shown = [target["expr"] for panel in PANELS for target in panel["targets"]]
    return [*shown, *(rule["expr"] for rule in RULES)]


@pytest.mark.parametrize("query", queries())
def test_a_query_reads_metrics_and_labels_that_exist(query: str) -> None:
    assert list(faults(query)) == []


def test_a_query_of_what_does_not_exist_is_found() -> None:
    assert list(faults("sum by (zebra) (rate(throughline_zebras_total[5m]))")) == [
        "throughline_zebras_total",
        "zebra",
    ]
    assert list(faults('throughline_replies_total{zebra="1"}')) == ["zebra"]
    with pytest.raises(ValueError, match="vector"):
        selectors("sum(rate(throughline_replies_total))")


def test_the_dashboard_shows_every_metric() -> None:
    shown = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    assert [each._name for each in COLLECTED if each._name not in shown] == []


def test_the_dashboard_has_what_grafana_needs_to_import_it() -> None:
    assert DASHBOARD.keys() >= {"uid", "title", "schemaVersion", "templating", "time", "panels"}
    assert "id" not in DASHBOARD, "Grafana chooses the id"
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(PANELS)))
    assert used == variables
    assert len({each["id"] for each in PANELS}) == len(PANELS)
    cells: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert panel["title"]
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({each["refId"] for each in panel["targets"]}) == len(panel["targets"])
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, "the grid has 24 columns"
        own = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & own, f"{panel['title']} lies over another panel"
        cells |= own


def test_an_alarm_has_what_prometheus_needs_and_a_row_in_the_operations_page() -> None:
    for rule in RULES:
        assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert re.fullmatch(r"\d+m", rule.get("for", "0m"))
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
    named = [rule["alert"] for rule in RULES]
    assert len(set(named)) == len(named)
    listed = [
        row[0].strip("`")
        for row in rows(DOCS / "operations.md")
        if row[0].startswith("`Throughline")
    ]
    assert listed == named
