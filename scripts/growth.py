"""The cost of growth: `python -m scripts.growth` measures a large past against a small one.

The program fills the log by SQL. The large side is an account with many reservations, and a project
with as many sessions and twice as many items of its timeline. The small side is an account with ten
reservations, and a project with ten sessions. `--others` adds projects with a thousand sessions
each. Every figure is a ratio of the large side and the small side in one run. A cold figure is the
first figure of its side in a new process of the service, which has answered requests of another
project before. The first process finds no snapshot. The start of a process, and with `--rebuild`
the rebuild of the read models, are compared with a second database, whose log is small.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx
import orjson
import psycopg
import uvloop

from projections import PROJECTIONS
from projections.projection import install, rebuild
from scripts.bench import streams
from scripts.bench.sessions import Signed
from scripts.bench.wire_model import StampingModel
from service.postgres import connections, migrations
from service.postgres.embedded import embedded

SMALL: Final = 10
OTHER: Final = 1_000
"""The sessions of each of the other projects."""
BATCH: Final = 50_000
"""About how many exchanges one statement inserts."""
SMALL_LOG: Final = 10
"""Where both logs are rebuilt, the large log has about this many times the events of the small
log."""
ROUNDS: Final = 10
SIDES: Final = ("large", "small")
FIRST_POST: Final = "a post, cold, before there are snapshots"

_MEMBERS: Final = b"""
insert into app.event (
    position, version, schema_version, append_id, recorded_at,
    tenant_id, stream_id, type, project_id, state, metadata
)
select
    %(after)s::bigint + n, case when n = 1 then 1 else n - 1 end, 1, gen_random_uuid(),
    now() - interval '10 years', 'bench',
    case when n = 1 then 'account-bench-' else 'project-' end || %(side)s::text,
    case n when 1 then 'TimeCredited' when 2 then 'ProjectRegistered' else 'MemberAdded' end,
    case when n > 1 then %(side)s::text end,
    convert_to(case n
        when 1 then json_build_object(
            'user_id', %(side)s::text, 'credit_id', %(side)s::text, 'seconds', 1000000000,
            'kind', 'paid')
        when 2 then json_build_object('project_id', %(side)s::text, 'name', 'Growth')
        else json_build_object(
            'project_id', %(side)s::text, 'user_id', %(side)s::text, 'role', 'owner')
    end::text, 'UTF8'),
    '{}'
from generate_series(1, 3) as n
"""
_EXCHANGES: Final = b"""
insert into app.event (
    position, version, schema_version, append_id, recorded_at,
    tenant_id, stream_id, type, project_id, state, metadata
)
select
    %(after)s::bigint + 6 * (n - %(first)s::bigint) + each.k,
    case each.k when 1 then n + 2 when 2 then 2 * n when 6 then 2 * n + 1 else each.k - 2 end, 1,
    gen_random_uuid(), said.at, 'bench',
    case
        when each.k = 1 then 'project-' || %(side)s::text
        when each.k in (2, 6) then 'account-bench-' || %(side)s::text
        else 'session-' || %(side)s::text || '-' || n
    end,
    (array[
        'MessageAdmitted', 'TimeReserved', 'SessionOpened', 'UserMessagePosted', 'ReplyCompleted',
        'TimeConsumed'])[each.k],
    %(side)s,
    convert_to(case each.k
        when 1 then json_build_object(
            'project_id', %(side)s::text, 'user_id', %(side)s::text,
            'message_id', %(side)s::text || '-r' || n,
            'at', to_char(said.at, 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'))
        when 2 then json_build_object(
            'user_id', %(side)s::text, 'reservation_id', %(side)s::text || '-r' || n,
            'session_id', %(side)s::text || '-' || n, 'message_id', %(side)s::text || '-r' || n,
            'seconds', 60, 'at', to_char(said.at, 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'))
        when 3 then json_build_object(
            'session_id', %(side)s::text || '-' || n, 'project_id', %(side)s::text,
            'user_id', %(side)s::text, 'mode', 'setup')
        when 4 then json_build_object(
            'session_id', %(side)s::text || '-' || n, 'message_id', %(side)s::text || '-m' || n,
            'user_id', %(side)s::text, 'text', repeat('Why? ', 10), 'locale', 'en')
        when 5 then json_build_object(
            'session_id', %(side)s::text || '-' || n, 'message_id', %(side)s::text || '-r' || n,
            'in_reply_to', %(side)s::text || '-m' || n, 'subtype', 'success', 'mode', 'general',
            'data', json_build_object('markdown', repeat('So. ', 20)), 'duration_ms', 1,
            'billed_seconds', 1, 'model', 'offline')
        else json_build_object(
            'user_id', %(side)s::text, 'reservation_id', %(side)s::text || '-r' || n,
            'project_id', %(side)s::text, 'session_id', %(side)s::text || '-' || n,
            'message_id', %(side)s::text || '-r' || n, 'operation', 'plan', 'seconds', 1,
            'held_seconds', 60, 'model', 'offline', 'prices', '1')
    end::text, 'UTF8'),
    '{}'
from generate_series(%(first)s::bigint, %(last)s::bigint) as n
cross join generate_series(1, 6) as each (k)
cross join lateral (
    select now() - interval '1 day' - (%(number)s::bigint - n) * interval '10 seconds' as at
) as said
"""
"""A message with its reply every ten seconds, until yesterday. The sessions are of a mode that does
not expire: nothing works in the background."""


@dataclass(slots=True)
class Figures:
    """The milliseconds of the large and of the small side, by what was measured."""

    samples: dict[str, tuple[list[float], list[float]]] = field(
        default_factory=dict[str, tuple[list[float], list[float]]]
    )

    async def note(self, name: str, side: int, call: Callable[[], Awaitable[Any]]) -> None:
        """Measure a call."""
        began = time.perf_counter()
        await call()
        self.add(name, side, 1_000 * (time.perf_counter() - began))

    def add(self, name: str, side: int, took: float) -> None:
        """Note a time, in milliseconds."""
        self.samples.setdefault(name, ([], []))[side].append(took)

    def table(self) -> dict[str, float]:
        """Print the medians; returns the ratios."""
        ratios: dict[str, float] = {}
        print("what | large | small | ratio", flush=True)
        for what, (large, small) in self.samples.items():
            ours, theirs = median(large), median(small)
            ratios[what] = ours / theirs
            print(f"{what} | {ours:,.1f} ms | {theirs:,.1f} ms | {ours / theirs:.2f}", flush=True)
        return ratios


async def _fill(url: str, sides: dict[str, int]) -> int:
    """Fill a log. Each side has an account with this number of reservations, and a project.

    Returns the number of events.
    """
    began = time.perf_counter()
    await migrations.migrate(url)
    async with await connections.connect(url, as_service=False) as owner:
        after = 0
        for side, number in sides.items():
            await owner.execute(_MEMBERS, {"after": after, "side": side})
            after += 3
            for first in range(1, number + 1, BATCH):
                last = min(number, first + BATCH - 1)
                asked: dict[str, Any] = {"after": after, "side": side, "number": number}
                await owner.execute(_EXCHANGES, asked | {"first": first, "last": last})
                after += 6 * (last - first + 1)
        print(f"{after:,} events in {time.perf_counter() - began:.0f} s", flush=True)
        began = time.perf_counter()
        await install(owner, PROJECTIONS)
        print(f"all read models in {time.perf_counter() - began:.0f} s", flush=True)
        await owner.execute("vacuum analyze")
        await owner.execute("checkpoint")
    return after


async def _posted(client: httpx.AsyncClient, side: str) -> None:
    body = orjson.dumps({"userId": side, "projectId": side, "message": "And now?"})
    kind = {"Content-Type": "application/json"}
    while (
        answer := await client.post("/v1/chat-plan", content=body, headers=kind)
    ).status_code == httpx.codes.SERVICE_UNAVAILABLE:
        print(f"refused ({side}): {answer.json().get('code')}", flush=True)
        await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
    answer.raise_for_status()


async def _read(client: httpx.AsyncClient, path: str, side: str) -> None:
    (await client.get(path.format(side, side))).raise_for_status()


_READS: Final = {
    "the newest page of the timeline": "/v1/project/{}/timeline?userId={}&limit=20",
    "a page of sessions": "/v1/projects/{}/sessions?userId={}&limit=20",
    "the account": "/v1/billing/accounts/{}",
}


async def _measured(url: str, model_url: str, number: int, figures: Figures) -> None:
    """One process of the service: the first requests of each side, then both in turn."""
    sides = [*enumerate(SIDES)]
    in_turn = sides if number % 2 else sides[::-1]
    began = time.perf_counter()
    async with streams.service(url, model_url) as target:
        figures.add("start of a process", 0, 1_000 * (time.perf_counter() - began))
        async with httpx.AsyncClient(base_url=target.url, auth=Signed(), timeout=120) as client:
            for path in _READS.values():
                await _read(client, path, "first")
            await _posted(client, "first")
            for name, path in _READS.items():
                for n, side in in_turn:
                    await figures.note(f"{name}, cold", n, lambda: _read(client, path, side))  # noqa: B023
            for n, side in in_turn:
                name = "a post, cold" if number else FIRST_POST
                await figures.note(name, n, lambda: _posted(client, side))  # noqa: B023
            for _ in range(ROUNDS):
                for n, side in sides:
                    await figures.note("a post", n, lambda: _posted(client, side))  # noqa: B023
                    for name, path in _READS.items():
                        await figures.note(name, n, lambda: _read(client, path, side))  # noqa: B023


async def _run(url: str, small_url: str, starts: int, figures: Figures) -> None:
    """Processes of the service, one after the other, on the large and on the small log."""
    async with StampingModel(deltas=1, pace=0.001).serving() as model_url:
        for number in range(starts + 1):
            await _measured(url, model_url, number, figures)
            began = time.perf_counter()
            async with streams.service(small_url, model_url):
                figures.add("start of a process", 1, 1_000 * (time.perf_counter() - began))


async def _rebuilt(url: str, events: int) -> dict[str, float]:
    """The microseconds that the rebuild of each read model takes for an event of the log."""
    costs: dict[str, float] = {}
    async with await connections.connect(url, as_service=False) as owner:
        for projection in PROJECTIONS:
            found = await owner.execute(f"select from app.{projection.name} limit 1".encode())
            if found.rowcount:
                began = time.perf_counter()
                await rebuild(owner, projection)
                costs[projection.name] = 1e6 * (time.perf_counter() - began) / events
    return costs


def _database(url: str, name: str) -> str:
    """Create a database; returns its address."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
    return psycopg.conninfo.make_conninfo(url, dbname=name)


def _chosen() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=100_000, help="reservations and sessions")
    parser.add_argument("--others", type=int, default=0, help="sessions of other projects")
    parser.add_argument("--starts", type=int, default=5, help="processes with snapshots")
    parser.add_argument("--rebuild", action="store_true", help="measure rebuilds, too")
    parser.add_argument("--limit", type=float, help="fail where a ratio is higher")
    return parser.parse_args()


def _measure(url: str, chosen: argparse.Namespace) -> dict[str, float]:
    """Fill both databases, measure, print; returns the ratios of the requests and of the start."""
    others = {f"other-{n}": OTHER for n in range(chosen.others // OTHER)}
    sides = {"large": chosen.size, **others, "small": SMALL, "first": SMALL}
    events = asyncio.run(_fill(url, sides))
    small_url = _database(url, "small")
    small = chosen.size // SMALL_LOG if chosen.rebuild else SMALL
    small_events = asyncio.run(_fill(small_url, {"small": small}))
    figures = Figures()
    uvloop.run(_run(url, small_url, chosen.starts, figures))
    ratios = figures.table()
    if chosen.rebuild:
        costs = asyncio.run(_rebuilt(url, events))
        for model, cost in asyncio.run(_rebuilt(small_url, small_events)).items():
            ours = costs[model]
            what = f"rebuild of {model}, for each event of the log"
            print(f"{what} | {ours:.1f} us | {cost:.1f} us | {ours / cost:.2f}")
    return ratios


def main() -> None:
    """Measure on a PostgreSQL of its own, and fail where a ratio is higher than the limit."""
    chosen = _chosen()
    with tempfile.TemporaryDirectory(prefix="throughline-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with embedded(folder / "postgres") as server:
            ratios = _measure(server.url, chosen)
    ratios.pop(FIRST_POST)
    over = [what for what, ratio in ratios.items() if chosen.limit and ratio > chosen.limit]
    if over:
        sys.exit(f"more than {chosen.limit} times the small side: {', '.join(over)}")


if __name__ == "__main__":
    main()
