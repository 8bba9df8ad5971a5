"""The cost of growth: `python -m scripts.growth` measures a large past against a small one.

The log is filled by SQL: one account with many reservations, one project with as many sessions and
twice as many items of its timeline, and beside them an account and a project with ten. Every figure
is a ratio of the two in one run. A cold figure is the first one in a new process of the service.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx
import orjson
import uvloop

from projections import PROJECTIONS
from projections.projection import install, rebuild
from scripts.bench import streams
from scripts.bench.sessions import Signed
from scripts.bench.wire_model import StampingModel
from service.postgres import connections, migrations
from service.postgres.embedded import embedded

SMALL: Final = 10
STARTS: Final = 2
ROUNDS: Final = 15
SIDES: Final = ("large", "small")

_MEMBERS: Final = b"""
insert into app.event (
    position, version, schema_version, append_id, recorded_at,
    tenant_id, stream_id, type, project_id, state, metadata
)
select
    %(after)s::bigint + n, case when n = 1 then 1 else n - 1 end, 1, gen_random_uuid(),
    now() - interval '3 days', 'bench',
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
    %(after)s::bigint + 6 * (n - 1) + each.k,
    case each.k when 1 then n + 2 when 2 then 2 * n when 6 then 2 * n + 1 else each.k - 2 end, 1,
    gen_random_uuid(), now() - interval '2 days' + n * interval '1 second', 'bench',
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
            'at', to_char(now() - interval '2 days' + n * interval '1 second',
                'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'))
        when 2 then json_build_object(
            'user_id', %(side)s::text, 'reservation_id', %(side)s::text || '-r' || n,
            'session_id', %(side)s::text || '-' || n, 'message_id', %(side)s::text || '-r' || n,
            'seconds', 60,
            'at', to_char(now() - interval '2 days' + n * interval '1 second',
                'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'))
        when 3 then json_build_object(
            'session_id', %(side)s::text || '-' || n, 'project_id', %(side)s::text,
            'user_id', %(side)s::text, 'mode', 'plan')
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
from generate_series(1, %(number)s::bigint) as n cross join generate_series(1, 6) as each (k)
"""


async def fill(url: str, large: int) -> None:
    """A large and a small account, each with a project of its own."""
    await migrations.migrate(url)
    async with await connections.connect(url, as_service=False) as owner:
        after = 0
        for side, number in zip(SIDES, (large, SMALL), strict=True):
            await owner.execute(_MEMBERS, {"after": after, "side": side})
            asked: dict[str, Any] = {"after": after + 3, "side": side, "number": number}
            await owner.execute(_EXCHANGES, asked)
            after += 3 + 6 * number
        await install(owner, PROJECTIONS)
        await owner.execute("vacuum analyze")
        await owner.execute("checkpoint")


async def _posted(client: httpx.AsyncClient, side: str) -> httpx.Response:
    body = orjson.dumps({"userId": side, "projectId": side, "message": "And now?"})
    kind = {"Content-Type": "application/json"}
    return await client.post("/v1/chat-plan", content=body, headers=kind)


async def _timed(call: Callable[[], Awaitable[httpx.Response]]) -> float:
    began = time.perf_counter()
    (await call()).raise_for_status()
    return 1_000 * (time.perf_counter() - began)


_READS: Final = {
    "the newest page of the timeline": "/v1/project/{}/timeline?userId={}&limit=20",
    "a page of sessions": "/v1/projects/{}/sessions?userId={}&limit=20",
    "the account": "/v1/billing/accounts/{}",
}


async def _measured(url: str, figures: dict[str, tuple[list[float], list[float]]]) -> None:
    """One process of the service: the first post of each side, then both in turn."""
    model = StampingModel(deltas=1, pace=0.001)
    async with model.serving() as model_url:
        began = time.perf_counter()
        with streams.service(url, model_url) as target:
            print(f"start: {1_000 * (time.perf_counter() - began):,.0f} ms", flush=True)
            async with httpx.AsyncClient(base_url=target.url, auth=Signed(), timeout=60) as client:

                async def note(name: str, side: int, call: Callable[[], Any]) -> None:
                    took = await _timed(call)
                    figures.setdefault(name, ([], []))[side].append(took)

                for name, path in _READS.items():
                    for n, side in enumerate(SIDES):
                        await note(f"{name}, cold", n, lambda: client.get(path.format(side, side)))  # noqa: B023
                for n in (1, 0):
                    await note("a post, cold", n, lambda: _posted(client, SIDES[n]))  # noqa: B023
                for _ in range(ROUNDS):
                    for n, side in enumerate(SIDES):
                        await note("a post", n, lambda: _posted(client, side))  # noqa: B023
                        for name, path in _READS.items():
                            await note(name, n, lambda: client.get(path.format(side, side)))  # noqa: B023


async def _rebuilt(url: str) -> None:
    async with await connections.connect(url, as_service=False) as owner:
        for projection in PROJECTIONS:
            if projection.name in ("accounts", "timeline", "sessions"):
                began = time.perf_counter()
                await rebuild(owner, projection)
                print(f"rebuild of {projection.name}: {time.perf_counter() - began:.1f} s")


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=100_000, help="reservations and sessions")
    parser.add_argument("--rebuild", action="store_true", help="measure rebuilds, too")
    chosen = parser.parse_args()
    figures: dict[str, tuple[list[float], list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="throughline-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with embedded(folder / "postgres") as server:
            began = time.perf_counter()
            asyncio.run(fill(server.url, chosen.size))
            print(f"filled in {time.perf_counter() - began:.0f} s", flush=True)
            for _ in range(STARTS):
                uvloop.run(_measured(server.url, figures))
            if chosen.rebuild:
                asyncio.run(_rebuilt(server.url))
    for what, (large, small) in figures.items():
        ours, theirs = median(large), median(small)
        print(f"{what} | {ours:,.1f} ms | {theirs:,.1f} ms | {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
