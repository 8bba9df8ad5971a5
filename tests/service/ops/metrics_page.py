"""The page of metrics, read by the parser of Prometheus's own library."""

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.ops import metrics

OURS = "throughline_"
COLLECTED = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]


def families(page: str) -> dict[str, Metric]:
    """The metrics of the service by name. Each has its help, its type and its unit.

    Several workers show a metric when it has a value, and one process shows all of them.
    """
    found = {
        each.name: each
        for each in text_string_to_metric_families(page)
        if each.name.startswith(OURS)
    }
    described = {each._name: each for each in COLLECTED}
    assert found.keys() <= described.keys(), found.keys() - described.keys()
    for name, each in found.items():
        assert each.documentation == described[name]._documentation
        assert each.documentation.endswith("."), name
        assert each.type == described[name]._type
        is_time = "in seconds" in each.documentation
        assert name.endswith("_seconds") == is_time, f"{name}: the unit is in the name and the help"
        assert all(sample.name.startswith(name) for sample in each.samples)
    return found
