"""The cost of a long session and of many sessions: a turn, the list, a page of messages.

A long session has a hundred times the messages of a short one. A turn is a message with its whole
reply; the model answers at once, so the time is the service's own. Both sides of a pair take turns.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx
import orjson
import uvloop

from projections import PROJECTIONS
from projections.projection import install
from scripts.bench import streams
from scripts.bench.streams import Figure, Target
from scripts.bench.wire_model import StampingModel
from service.access import signatures
from service.postgres import connections, migrations
from service.postgres.embedded import embedded

LONG, SHORT = 500, 5
MANY, FEW = 10_000, 20
ROUNDS: Final = 40
LIMIT: Final = 1.3

_SESSIONS: Final = b"""
insert into app.event (
    position, version, schema_version, append_id, recorded_at,
    tenant_id, stream_id, type, project_id, state, metadata
)
select
    %(after)s::bigint + n, 1, 1, gen_random_uuid(), now(), 'bench',
    'session-' || %(project)s::text || '-' || n, 'SessionOpened', %(project)s,
    convert_to(json_build_object(
        'session_id', %(project)s::text || '-' || n, 'project_id', %(project)s::text,
        'user_id', 'u', 'mode', 'setup', 'name', 'Session ' || n
    )::text, 'UTF8'),
    '{}'
from generate_series(1, %(sessions)s::bigint) as n
"""
EXCHANGES: Final = b"""
insert into app.event (
    position, version, schema_version, append_id, recorded_at,
    tenant_id, stream_id, type, project_id, state, metadata
)
select
    %(after)s::bigint + n, n, 1, gen_random_uuid(), now(), 'bench', 'session-' || %(session)s::text,
    case when n = 1 then 'SessionOpened' when n %% 2 = 0 then 'UserMessagePosted'
        else 'ReplyCompleted' end,
    'talk',
    convert_to(case
        when n = 1 then json_build_object(
            'session_id', %(session)s::text, 'project_id', 'talk', 'user_id', 'u', 'mode', 'prompt')
        when n %% 2 = 0 then json_build_object(
            'session_id', %(session)s::text, 'message_id', %(session)s::text || '-m' || n,
            'user_id', 'u', 'text', repeat('Why? ', 10), 'locale', 'en')
        else json_build_object(
            'session_id', %(session)s::text, 'message_id', %(session)s::text || '-r' || n,
            'in_reply_to', %(session)s::text || '-m' || (n - 1), 'subtype', 'success',
            'mode', 'general', 'data', json_build_object('markdown', repeat('So. ', 50)),
            'duration_ms', 1, 'billed_seconds', 1, 'model', 'offline')
    end::text, 'UTF8'),
    '{}'
from generate_series(1, 2 * %(exchanges)s::bigint + 1) as n
"""


class Signed(httpx.Auth):
    """Signs each request."""

    requires_request_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        path, query = request.url.path, request.url.query
        value = streams.signed(request.method, path, request.content, query)
        request.headers[signatures.HEADER] = value
        yield request


async def fill(url: str) -> None:
    """Two projects with many and with few sessions, and a long and a short session."""
    await migrations.migrate(url)
    async with await connections.connect(url, as_service=False) as owner:
        after = 0
        for project, number in (("many", MANY), ("few", FEW)):
            asked: dict[str, Any] = {"after": after, "project": project, "sessions": number}
            await owner.execute(_SESSIONS, asked)
            after += number
        for session, exchanges in (("long", LONG), ("short", SHORT)):
            asked = {"after": after, "session": session, "exchanges": exchanges}
            await owner.execute(EXCHANGES, asked)
            after += 2 * exchanges + 1
        await install(owner, PROJECTIONS)
        await owner.execute("vacuum analyze")


@asynccontextmanager
async def client_of(target: Target) -> AsyncGenerator[httpx.AsyncClient]:
    """A client that signs, with the projects and the credit of its user."""
    async with httpx.AsyncClient(base_url=target.url, auth=Signed()) as client:
        for project in ("many", "few", "talk"):
            members = [{"userId": "u", "role": "owner"}]
            body = {"projectId": project, "name": project, "members": members}
            (await client.post("/v1/projects", json=body)).raise_for_status()
        credit = {"userId": "u", "seconds": 10**7, "kind": "paid"}
        (await client.post("/v1/billing/credits", json=credit)).raise_for_status()
        yield client


async def compared(
    one: Callable[[], Coroutine[Any, Any, httpx.Response]],
    other: Callable[[], Coroutine[Any, Any, httpx.Response]],
) -> float:
    """How many times as long the one takes as the other: medians of calls in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for call, into in zip((one, other), times, strict=True):
            began = time.perf_counter()
            (await call()).raise_for_status()
            into.append(time.perf_counter() - began)
    return median(times[0]) / median(times[1])


async def measure(url: str) -> list[Figure]:
    """Measure on a database that is filled."""
    model = StampingModel(deltas=1, pace=0.001)
    async with (
        model.serving() as model_url,
        streams.service(url, model_url) as target,
        client_of(target) as client,
    ):

        async def turn(session: str) -> httpx.Response:
            path = f"/v1/sessions/{session}/messages"
            body = orjson.dumps({"userId": "u", "message": "And now?"})
            kind = {"Content-Type": "application/json"}
            return await client.post(path, content=body, headers=kind)

        async def listed(project: str) -> httpx.Response:
            return await client.get(f"/v1/projects/{project}/sessions?userId=u&limit=20")

        async def page(session: str) -> httpx.Response:
            return await client.get(f"/v1/sessions/{session}/messages?userId=u&limit=20")

        of_many = f"the list of {MANY:,} sessions, against {FEW}"
        of_long = f"{2 * LONG:,} messages in a session, against {2 * SHORT}"
        return [
            Figure(
                f"a turn with {of_long}",
                await compared(lambda: turn("long"), lambda: turn("short")),
                LIMIT,
            ),
            Figure(
                of_many,
                await compared(lambda: listed("many"), lambda: listed("few")),
                LIMIT,
            ),
            Figure(
                f"a page of {of_long}",
                await compared(lambda: page("long"), lambda: page("short")),
                LIMIT,
            ),
        ]


def run() -> list[Figure]:
    """Measure on a PostgreSQL of its own."""
    with tempfile.TemporaryDirectory(prefix="throughline-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with embedded(folder / "postgres") as server:
            asyncio.run(fill(server.url))
            return uvloop.run(measure(server.url))
