"""`make bench`: measure, print the ratios, write `bench.json`.

Cells run in interleaved rounds, and every second round reverses their order. Each cell runs after a
CHECKPOINT and on a database of its own. The figure of a cell is the median of its rounds. The
figures of a pair are medians too; both sides of a pair are measured together.
"""

import argparse
import asyncio
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from projections import PROJECTIONS
from projections.projection import install
from scripts.bench import (
    answers,
    appends,
    archives,
    overload,
    page,
    peers,
    reads,
    sessions,
    streams,
    tracing,
    trips,
)
from service.postgres import connections, migrations
from service.postgres.embedded import Server, embedded

T = TypeVar("T")
Work = Callable[[str, int, float], float]
"""Appends for some seconds with a number of callers; returns events per second."""


@dataclass(slots=True)
class Cell:
    """A system with a number of callers, and its figure of each round."""

    system: str
    callers: int
    work: Work
    rounds: list[float] = field(default_factory=list[float])

    @property
    def figure(self) -> float:
        """Events a second."""
        return median(self.rounds)


@dataclass(slots=True)
class Pair:
    """Two figures of one measurement: the log's and the peer's."""

    what: str
    against: str
    unit: str
    measure: Callable[[str], tuple[float, float]]
    rounds: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])


class Ratio(NamedTuple):
    """A line of the report. A `goal` is the lowest ratio that is good enough."""

    what: str
    against: str
    ours: float
    theirs: float
    unit: str
    goal: float | None

    @property
    def value(self) -> float:
        """The log's figure divided by the peer's."""
        return self.ours / self.theirs


def cells() -> list[Cell]:
    """The measurements of appends."""
    systems: list[tuple[str, Work]] = [
        ("throughline", appends.append),
        ("unchecked group commit", peers.unchecked),
        ("pgbench", peers.pgbench),
        ("eventsourcing recorder", peers.eventsourcing_recorder),
    ]
    return [
        *(Cell(name, callers, work) for callers in (1, 32, 128) for name, work in systems),
        Cell("throughline", 8, appends.append),
        *(Cell("throughline, four processes", each, appends.in_processes) for each in (8, 32)),
        Cell("throughline, read models inline", 32, appends.append),
        Cell("throughline, command", 32, appends.command),
        Cell("eventsourcing Application.save", 32, peers.eventsourcing_application),
    ]


def tails(seconds: float) -> list[Pair]:
    """The measurements of following the log during appends."""
    here = partial(appends.tail_here, callers=32, seconds=seconds)
    far = partial(appends.tail_far, callers=32, seconds=seconds)
    return [
        Pair("tail in process, 0 missing", "append p50", " ms", here),
        Pair("tail through NOTIFY, 0 missing", "append p50", " ms", far),
    ]


def stored(messages: int) -> list[Pair]:
    """The measurements on a log of `messages` messages."""
    newest = f"newest page of {messages - reads.FEW:,} rows"
    return [
        Pair("replay, decoded", "COPY + orjson", "/s", reads.replay),
        Pair("timeline rebuilt", "one INSERT ... SELECT", "/s", reads.rebuilding),
        Pair(newest, f"of {reads.FEW} rows", " ms", reads.newest_page),
        Pair("log exported", "pg_dump", "/s", archives.exporting),
        Pair("log imported, no read models", "pg_restore", "/s", archives.importing),
        Pair("log verified, no read models", "pg_dump", "/s", archives.verifying),
    ]


GOALS: Final = (
    ("append, 32 callers", "throughline", "unchecked group commit", 32, 0.85),
    ("append, 32 callers", "throughline", "pgbench", 32, 1.5),
    ("append, 32 callers", "throughline", "eventsourcing recorder", 32, 15.0),
    ("append, 1 caller", "throughline", "unchecked group commit", 1, None),
    ("append, 1 caller", "throughline", "pgbench", 1, None),
    ("append, 128 callers", "throughline", "unchecked group commit", 128, None),
    ("append, 128 callers", "throughline", "pgbench", 128, None),
    ("append, 32 callers each", "throughline, four processes", "throughline", 32, 0.8),
    ("append, 8 callers each", "throughline, four processes", "throughline", 8, 0.5),
    ("read models inline", "throughline, read models inline", "throughline", 32, 0.75),
    ("command path", "throughline, command", "eventsourcing Application.save", 32, 5.0),
)


async def _prepare(server: Server, name: str, *, with_projections: bool) -> str:
    async with await connections.connect(server.url, as_service=False) as admin:
        await admin.execute(f"drop database if exists {name} with (force)".encode())
        await admin.execute(f"create database {name}".encode())
        await admin.execute("checkpoint")
    url = urlsplit(server.url)._replace(path=f"/{name}").geturl()
    await migrations.migrate(url)
    if with_projections:
        async with await connections.connect(url, as_service=False) as owner:
            await install(owner, PROJECTIONS)
    return url


def run_cells(server: Server, measured: list[Cell], number: int, seconds: float) -> None:
    """One round of appends, each on a database of its own."""
    for cell in _turned(measured, number):
        inline = cell.system.endswith("inline")
        url = asyncio.run(_prepare(server, "bench", with_projections=inline))
        cell.rounds.append(cell.work(url, cell.callers, seconds))
        print(f"round {number + 1}  {cell.system} @{cell.callers}: {cell.rounds[-1]:,.0f}/s")


def run_tails(server: Server, measured: list[Pair], number: int) -> None:
    """One round of following, each on a database of its own."""
    for pair in _turned(measured, number):
        _measure(pair, asyncio.run(_prepare(server, "bench", with_projections=False)), number)


def run_stored(url: str, measured: list[Pair], number: int) -> None:
    """One round of measurements on the stored log."""
    for pair in _turned(measured, number):
        _measure(pair, url, number)


def _measure(pair: Pair, url: str, number: int) -> None:
    ours, theirs = pair.measure(url)
    pair.rounds.append((ours, theirs))
    print(f"round {number + 1}  {pair.what}: {_figure(ours, pair.unit)}")


def _turned(measured: list[T], number: int) -> Iterable[T]:
    return measured if number % 2 == 0 else reversed(measured)


def ratios(measured: list[Cell], pairs: list[Pair]) -> list[Ratio]:
    """The report's lines."""
    figures = {(cell.system, cell.callers): cell.figure for cell in measured}
    lines = [
        Ratio(what, their, figures[our, callers], figures[their, callers], "/s", goal)
        for what, our, their, callers, goal in GOALS
    ]
    for pair in pairs:
        ours, theirs = (median(side) for side in zip(*pair.rounds, strict=True))
        lines.append(Ratio(pair.what, pair.against, ours, theirs, pair.unit, None))
    return lines


def report(lines: list[Ratio]) -> None:
    """Print the table."""
    table = Table("what", "", "against", "", "ratio", "goal", "")
    for line in lines:
        met = "" if line.goal is None else "met" if line.value >= line.goal else "missed"
        table.add_row(
            *(line.what, _figure(line.ours, line.unit)),
            *(line.against, _figure(line.theirs, line.unit)),
            *(f"{line.value:.2f}", "" if line.goal is None else f">= {line.goal}", met),
        )
    Console(width=120).print(table)


def report_streams(figures: list[streams.Figure]) -> None:
    """Print the table of streamed replies, of sessions and of the page."""
    table = Table("replies, sessions and the page", "", "limit", "", "against")
    for each in figures:
        met = "met" if each.met else "missed"
        table.add_row(each.what, f"{each.value:.2f}", f"<= {each.limit:g}", met, each.against)
    Console(width=120).print(table)


def _figure(value: float, unit: str) -> str:
    return f"{value:,.0f}{unit}" if unit == "/s" else f"{value:.2f}{unit}"


def _chosen() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--messages", type=int, default=100_000, help="in the log that is read")
    parser.add_argument("--streams", type=int, default=500, help="the most replies at once")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    chosen = _chosen()
    appending, following, reading = cells(), tails(chosen.seconds), stored(chosen.messages)
    with tempfile.TemporaryDirectory(prefix="throughline-") as folder:
        Path(folder).chmod(0o755)
        with embedded(Path(folder, "postgres"), settings={"max_connections": "400"}) as server:
            for number in range(chosen.rounds):
                run_cells(server, appending, number, chosen.seconds)
                run_tails(server, following, number)
            url = asyncio.run(_prepare(server, "bench_reads", with_projections=False))
            reads.fill(url, chosen.messages)
            for number in range(chosen.rounds):
                run_stored(url, reading, number)
            memory = archives.memory(url)
    streaming = [
        memory,
        *streams.run(seconds=chosen.seconds * 5),
        *overload.run(chosen.streams),
        *overload.run_workers(chosen.streams),
        *trips.run(),
        *answers.run(),
        *tracing.run(),
        *sessions.run(),
        *page.run(seconds=chosen.seconds * 20),
    ]
    lines = ratios(appending, [*following, *reading])
    report(lines)
    report_streams(streaming)
    written = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("psycopg", "eventsourcing", "uvloop")},
        "cells": [[cell.system, cell.callers, cell.rounds] for cell in appending],
        "pairs": [[pair.what, pair.against, pair.rounds] for pair in (*following, *reading)],
        "ratios": [
            {"what": each.what, "against": each.against, "ratio": each.value, "goal": each.goal}
            for each in lines
        ],
        "streams": [asdict(each) for each in streaming],
    }
    Path("bench.json").write_text(json.dumps(written, indent=2))


if __name__ == "__main__":
    main()
