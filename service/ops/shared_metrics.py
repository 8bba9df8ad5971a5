"""One page of metrics for one process, or for all worker processes of a machine.

A single process keeps its metrics in memory. Worker processes keep them in files of one folder, by
the library's own mode for several processes, and each of them answers with the sums of all files.
"""

import os
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import (
    MultiProcessCollector,
    mark_process_dead,  # pyright: ignore[reportUnknownVariableType] - it has no types
)

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_folders: list[str] = []
"""The folder that this process shares with others; empty in a single process."""


def share(folder: Path, number: int) -> None:
    """Keep the metrics of this process in files of the folder, from the first metric on.

    A process that takes the number of an ended one goes on with its files. So counters never fall,
    and the files are no more than the processes that ran at the same time.
    """
    assert "service.ops.metrics" not in sys.modules, "there are metrics in memory already"
    os.environ[_VARIABLE] = str(folder)  # the library finds the folder only here
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
    _folders.append(str(folder))


def forget(folder: Path, number: int) -> None:
    """Remove the gauges of a process that has ended. Its number of running replies is a gauge."""
    mark_process_dead(number, str(folder))  # type: ignore[no-untyped-call]


def page() -> bytes:
    """All metrics in the text format of Prometheus."""
    if not _folders:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry, _folders[0])  # type: ignore[no-untyped-call]
    return generate_latest(registry)
