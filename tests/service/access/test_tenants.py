"""Another tenant's ids get the same answers as unknown ids, to the byte.

The tests call every route of the OpenAPI document, with every mixture of own, foreign and unknown
ids, with a signed request and with a browser's token. A route without an entry here fails them.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import NoneType
from typing import Any, Final

import httpx
import pytest
from psycopg import sql as compose
from psycopg.errors import InsufficientPrivilege

import service
from service import api
from service.api.tokens_schemas import MOST_TOKEN_SECONDS
from service.app import OPERATIONS
from service.eventlog.store import NewEvent
from service.ids import new_id
from service.postgres import connections
from tests.projections.generated import owning
from tests.running import LiveService, running
from tests.service.watching import append
from tests.service.world import World, two_worlds
from tests.sizes import PROVE, chance, size

PROBES = size(150, 5_000)
OURS, THEIRS = "quillwort", "zygomorph"
"""A word for each tenant, which only the texts of that tenant have."""

BODIES: dict[str, dict[str, Any]] = {
    "postChatPlan": {"userId": "?", "projectId": "?", "sessionId": "?", "message": "Hello"},
    "postSessionMessage": {"userId": "?", "message": "Hello"},
    "openSession": {
        "userId": "?",
        "projectId": "?",
        "mode": "plan",
        "context": {"buildId": "?"},
        "reuse": True,
    },
    "createPrompt": {"userId": "?", "projectId": "?", "name": "n", "text": "t"},
    "changePrompt": {"userId": "?", "name": "n"},
    "addPromptVersion": {"userId": "?", "text": "t"},
    "instructSession": {"userId": "?", "settings": {"temperature": 1}},
    "acceptImprovement": {"userId": "?", "promptId": "?"},
    "changeSession": {"userId": "?", "starred": True},
    "exportSessions": {"userId": "?", "sessionIds": ["?"]},
    "changeSessions": {"userId": "?", "sessionIds": ["?"], "action": "archive"},
    "convertToBuild": {"userId": "?", "projectId": "?", "sessionId": "?"},
    "beginBuild": {"userId": "?", "projectId": "?", "message": "A shop"},
    "claimBuild": {"workerId": "w1"},
    "reportBuild": {
        "events": [
            {
                "eventId": "9",
                "phase": "build",
                "type": "progress",
                "title": "t",
                "at": "2026-11-20T10:00:00Z",
            }
        ]
    },
    "createRun": {"userId": "?", "projectId": "?", "sessionId": "?", "title": "t"},
    "claimRun": {"workerId": "w1"},
    "reportRun": {
        "events": [{"eventId": "9", "type": "progress", "title": "t", "at": "2026-11-20T10:00:00Z"}]
    },
    "discussRun": {"userId": "?", "sessionId": "?"},
    "mintToken": {"userId": "?", "projectId": "?"},
    "createLink": {"userId": "?", "projectId": "?"},
    "redeemLink": {"code": "c"},
    "createWebhook": {"url": "https://receiver.invalid/"},
    "changeWebhook": {"description": "d"},
    "sharePlan": {"userId": "?"},
    "forkSession": {"userId": "?", "messageId": "?"},
    "describeProject": {"name": "n"},
    "registerProject": {"projectId": "?", "name": "n", "members": [{"userId": "?"}]},
    "putMember": {"role": "editor"},
    "creditAccount": {"userId": "?", "seconds": 1, "kind": "paid"},
}
"""The body of each operation; `?` stands for an id."""

QUERIES: dict[str, dict[str, str]] = {
    "searchProject": {"q": THEIRS},
    "diffPromptVersions": {"against": "1"},
}
"""What the query of an operation needs beside its ids."""

PARTS = {"locale": "en", "number": "1"}
"""The parts of paths that are no ids."""

MAKERS = ("putMember", "creditAccount", "registerProject")
"""Operations that make a resource under an id which the caller chooses: another tenant's resource
of the same id is a different one. They are called last, because then the caller has that id."""

IDS = (
    "userId",
    "projectId",
    "sessionId",
    "messageId",
    "buildId",
    "promptId",
    "share",
    "runId",
    "browserSessionId",
    "webhookId",
)
OPTIONAL = {"getTimeline": ("userId",), "readEvents": ("projectId",)}


@dataclass(frozen=True, slots=True)
class Probe:
    """One request: an operation, and for each of its ids the owner of the id."""

    operation: str
    method: str
    path: str
    query: tuple[str, ...]
    whose: dict[str, str]


@pytest.fixture
async def run(url: str) -> AsyncIterator[LiveService]:
    async with running(url) as started:
        yield started


@pytest.fixture
async def worlds(run: LiveService) -> AsyncIterator[tuple[World, World]]:
    async with two_worlds(run, OURS, THEIRS) as both:
        yield both


async def routes(run: LiveService) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Every route: its operation, method, path, and the ids in its query."""
    document = (await run.client.get("/openapi.json")).json()
    return [
        (
            route["operationId"],
            method.upper(),
            path,
            tuple(each["name"] for each in route.get("parameters", ()) if each["in"] == "query"),
        )
        for path, methods in document["paths"].items()
        for method, route in methods.items()
        if route.get("security") != []
    ]


def probes(found: list[tuple[str, str, str, tuple[str, ...]]]) -> Iterator[Probe]:
    """Every mixture of ids in which at least one id is another tenant's."""
    for operation, method, path, query in found:
        asked = tuple(name for name in query if name in IDS)
        body = str(BODIES.get(operation, ""))
        taken = [name for name in IDS if f"{{{name}}}" in path or name in asked or name in body]
        for mixture in product(("own", "foreign", "absent"), repeat=len(taken)):
            if "foreign" in mixture:
                whose = dict(zip(taken, mixture, strict=True))
                yield Probe(operation, method, path, asked, whose)


async def ask(client: httpx.AsyncClient, probe: Probe, ids: dict[str, str]) -> httpx.Response:
    """Send the probe with these ids."""
    path = re.sub(r"{(\w+)}", lambda name: PARTS.get(name[1]) or ids[name[1]], probe.path)
    body = _filled(BODIES.get(probe.operation), ids)
    query = {name: ids[name] for name in probe.query} | QUERIES.get(probe.operation, {})
    return await client.request(probe.method, path, params=query, json=body)


def _filled(value: Any, ids: dict[str, str]) -> Any:
    """The body with its ids."""
    if isinstance(value, list):
        return [_filled(each, ids) for each in value]
    if isinstance(value, dict):
        return {name: _member(name, each, ids) for name, each in value.items()}
    return value


def _member(name: str, value: Any, ids: dict[str, str]) -> Any:
    """A member of the body: the id of its name, or a list of one id, or a body of its own."""
    if value == ["?"]:
        return [ids[name.removesuffix("s")]]
    return ids[name] if value == "?" else _filled(value, ids)


def comparable(answer: httpx.Response, ids: dict[str, str]) -> tuple[int, frozenset[str], str]:
    """The parts of an answer that must be equal: without the ids of the request, and without the
    parts that differ from one request to the next."""
    text = answer.text
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
    text = re.sub(r"\b[0-9a-f]{8}\.\d+\b", "<cursor>", text)
    text = re.sub(r"code=[\w-]+", "<code>", text)
    text = re.sub(r'"(eyJ[\w.-]+|\d{4}-[\d:T.-]+Z?(\+00:00)?)"', "<now>", text)
    return answer.status_code, frozenset(answer.headers), text


def leaked(answers: list[bytes], theirs: World) -> list[bytes]:
    """The answers that have a text or an id of the other tenant which the request did not have."""
    secret = [theirs.word.encode(), *(each.encode() for each in theirs.others)]
    return [answer for answer in answers if any(each in answer for each in secret)]


async def test_another_tenant_s_ids_answer_like_unknown_ids_on_every_route(
    run: LiveService, worlds: tuple[World, World]
) -> None:
    ours, theirs = worlds
    found = await routes(run)
    assert {operation for operation, *_ in found} == {each.name for each in OPERATIONS}
    assert {each.name for each in OPERATIONS if each.body is not NoneType} == set(BODIES)
    some = list(probes(found))
    reads = [probe for probe in some if probe.operation not in MAKERS]
    chance("probes").shuffle(reads)
    last = [
        probe
        for name in MAKERS
        for probe in some
        if probe.operation == name and set(probe.whose.values()) == {"foreign"}
    ]
    bodies: list[bytes] = []
    wide = (reads * (PROBES // len(reads) + 1))[: max(PROBES, len(reads))]
    async with await browser(run, ours) as client, await browser(run, ours, "userId") as everywhere:
        asked: Counter[str] = Counter()
        for probe in (*wide, *last):
            asked[probe.operation] += 1
            turn = asked[probe.operation]
            callers = [ours.client]
            if probe.operation not in MAKERS:
                callers.append((client, everywhere)[turn % 2])
            # Every caller asks in `make prove`. Otherwise the callers take turns.
            for caller in callers if PROVE else [callers[turn // 2 % len(callers)]]:
                bodies += await look_the_same(caller, probe, ours, theirs)
    assert len(bodies) > 2 * PROBES
    assert leaked(bodies, theirs) == []
    assert leaked([(await theirs.client.get("/v1/events")).content], theirs), "the control"


async def look_the_same(
    caller: httpx.AsyncClient, probe: Probe, ours: World, theirs: World
) -> list[bytes]:
    """Ask with the other tenant's ids and with unknown ids; returns the answers."""
    # As long as the other tenant's ids, so that the lengths of the answers are equal too.
    nobody = {name: new_id()[::-1][: len(value)] for name, value in theirs.ids.items()}
    of = {"own": ours.ids, "foreign": theirs.ids, "absent": nobody}
    foreign = {name: of[whose][name] for name, whose in probe.whose.items()}
    absent = {
        name: nobody[name] if value == theirs.ids[name] else value
        for name, value in foreign.items()
    }
    one, two = await ask(caller, probe, foreign), await ask(caller, probe, absent)
    assert one.status_code < 500, one.text
    if probe.operation != "readAudit":  # because this answer repeats the caller's own request
        assert comparable(one, foreign) == comparable(two, absent), probe
    return [one.content, two.content]


async def browser(run: LiveService, world: World, *names: str) -> httpx.AsyncClient:
    """A client with a token for the world's user, in its project unless only the user is named."""
    body = {name: world.ids[name] for name in names or ("userId", "projectId")}
    asked = body | {"ttlSeconds": MOST_TOKEN_SECONDS}
    token = (await world.client.post("/v1/tokens", json=asked)).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=run.client.base_url, headers=headers, timeout=60)


async def test_a_tenant_s_log_has_nothing_of_another_tenant(
    worlds: tuple[World, World],
) -> None:
    ours, theirs = worlds
    for form in ("application/json", "application/x-ndjson"):
        mine = await ours.client.get("/v1/events", headers={"Accept": form})
        assert ours.word in mine.text
        assert leaked([mine.content], theirs) == []
    body = (await ours.client.get("/v1/builds?status=queued")).content
    assert leaked([body], theirs) == []


def test_every_endpoint_reads_as_its_caller_s_tenant() -> None:
    for module in Path(api.__path__[0]).glob("*.py"):
        text = module.read_text()
        if "OPERATIONS = (" not in text:
            continue  # schemas, and health, which is open to everyone and reads no tenant's rows
        assert "pool.connection" not in text, module
        assert "service_transaction" not in text, module


# the wall in the database ------------------------------------------------------------------------


async def tables(url: str) -> list[str]:
    """The tables with rows of tenants, and the views of these tables."""
    async with owning(url) as owner:
        found = await owner.execute(
            b"""
            select format('%I.%I', table_schema, table_name) from information_schema.columns
            where table_schema in ('app', 'analytics') and column_name = 'tenant_id'
                and table_name <> 'analyst'
            order by 1
            """
        )
        return [name for (name,) in await found.fetchall()]


async def tenants_in(connection: Any, table: str) -> set[str]:
    query = compose.SQL("select distinct tenant_id from {}")
    found = await connection.execute(query.format(compose.Identifier(*table.split("."))))
    return {name for (name,) in await found.fetchall()}


async def test_a_query_without_a_where_clause_returns_only_the_tenant_s_own_rows(
    url: str, run: LiveService, worlds: tuple[World, World]
) -> None:
    for tenant in ("t1", "t2"):  # an event that no rule can read: its stream is set aside
        state = b'{"user_id":"odd","seconds":"many"}'
        await append(run, [NewEvent(tenant, f"account-{tenant}-odd", 1, "TimeCredited", state)])
    async with connections.service_transaction(run.service.pool) as service:
        await service.execute(
            b"insert into app.webhook_dead_letter (tenant_id, webhook_id, position, type, error)"
            b" select tenant_id, webhook_id, 1, 'X', 'no connection' from app.webhook"
        )
    ours, _ = worlds
    newest = {"q": OURS, "minPosition": str(await run.service.store.head())}
    path = f"/v1/projects/{ours.ids['projectId']}/search"
    searched = await ours.client.get(path, params=newest)
    assert searched.status_code == 200, "the words are made in the background"
    found = await tables(url)
    assert len(found) > 15
    full: set[str] = set()
    for table in found:
        async with connections.service_transaction(run.service.pool) as service:
            if table.startswith("app."):
                full |= {table} if await tenants_in(service, table) == {"t1", "t2"} else set()
        if table.startswith("app."):
            async with connections.tenant_transaction(run.service.pool, "t1") as own:
                assert await tenants_in(own, table) <= {"t1"}, table
    missing = {table for table in found if table.startswith("app.")} - full
    assert missing <= {"app.snapshot"}, "the control: the table has rows"


async def test_a_tenant_s_transaction_sees_nothing_without_its_tenant(
    run: LiveService, worlds: tuple[World, World]
) -> None:
    async with connections.tenant_transaction(run.service.pool, "") as nobody:
        assert await tenants_in(nobody, "app.event") == set()


def test_every_statement_of_the_pool_is_in_a_transaction_of_a_role() -> None:
    folder = Path(service.__path__[0])
    users = [each.name for each in folder.rglob("*.py") if "pool.connection(" in each.read_text()]
    assert users == ["connections.py"]


SESSION: Final = """
    select current_user = session_user,
           coalesce(current_setting('throughline.tenant', true), ''),
           current_setting('statement_timeout'),
           current_setting('enable_seqscan')
    """


async def test_the_settings_of_a_transaction_end_with_it(
    run: LiveService, worlds: tuple[World, World]
) -> None:
    """Also when it fails. A pooler gives the session to somebody else after the transaction."""
    pool = run.service.pool
    for _ in range(2 * connections.POOL_SIZE):
        with suppress(ZeroDivisionError):
            async with connections.tenant_transaction(pool, "t2") as connection:
                assert await tenants_in(connection, "app.event") == {"t2"}
                assert await row(connection, SESSION) == (False, "t2", "30s", "off")
                raise ZeroDivisionError
        async with connections.service_transaction(pool) as connection:
            assert await row(connection, SESSION) == (False, "", "30s", "off")
        async with pool.connection() as connection:
            assert await row(connection, SESSION) == (True, "", "0", "on")


async def row(connection: Any, query: str) -> Any:
    return await (await connection.execute(query)).fetchone()


async def test_a_read_for_a_tenant_cannot_write(url: str, run: LiveService) -> None:
    for statement in (
        "insert into app.event select * from app.event",
        "update app.event set type = 'x'",
        "delete from app.timeline",
        "update app.projection set position = 0",
        "insert into app.analyst values ('throughline_tenant', 't2')",
        "table app.analyst",
    ):
        with pytest.raises(InsufficientPrivilege):
            async with connections.tenant_transaction(run.service.pool, "t1") as connection:
                await connection.execute(statement.encode())
