"""Each answer 503 says what is stored. A client that follows the answer does nothing twice."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from psycopg_pool import PoolTimeout
from psycopg_pool.base import AttemptWithBackoff

from projections import PROJECTIONS
from projections.projection import catch_up
from service.app import OPERATIONS
from service.http import reads
from service.postgres import connections
from service.postgres.connections import Connection, OwnConnection
from tests.running import LiveService, problem, running
from tests.service.cutter import Cutter

NOTHING = {"database_away", "overloaded", "contended", "stopping", "too_slow"}
EVERYTHING = {"answer_missing", "audit_late", "reply_still_ending"}


@dataclass(slots=True)
class Write:
    """A write, and the event that it appends once."""

    method: str
    path: str
    event: str
    body: dict[str, Any] | None = None
    sent: int = field(default=0, init=False)


APPENDS_NOTHING = {
    "mintToken",
    "exportSessions",
    "createLink",
    "redeemLink",
    "renewToken",
    "endBrowserSession",
    "createWebhook",
    "changeWebhook",
    "removeWebhook",
    "redeliver",
}
NAMES = (
    "plan",
    "session",
    "other",
    "build",
    "queued",
    "talk",
    "share",
    "running",
    "prompt",
    "kept",
    "saved",
    "idea",
    "run",
    "over",
)
"""What the writes need."""


def writes(ids: dict[str, str]) -> list[Write]:
    """Every write of the API, in an order in which each of them is possible."""
    acting = {"userId": "u1", "projectId": "p1"}
    report = {"eventId": "e1", "phase": "build", "type": "failed", "title": "No"}
    reports = {"events": [report | {"at": "2026-11-21T10:00:00Z"}]}
    member, plan = "/v1/projects/p1/members/u2", f"/v1/chat-plan/replies/{ids['plan']}"
    credit = {"userId": "u1", "seconds": 5, "kind": "bonus"}
    owners = [{"userId": "u1", "role": "owner"}]
    project = {"projectId": "p9", "name": "Another", "members": owners}
    order = {**acting, "sessionId": ids["session"]}
    idea = {"userId": "u1", "projectId": "p3", "message": "A shop"}
    build, session = f"/v1/builds/{ids['build']}", f"/v1/chat-plan/session/{ids['talk']}"
    running, new = f"/v1/chat-plan/replies/{ids['running']}", f"/v1/sessions/{ids['talk']}"
    noted = {"userId": "u1", "message": "Noted", "reply": False}
    forked = {"userId": "u1", "messageId": ids["plan"]}
    engine = {"eventId": "e1", "type": "failed", "title": "No", "at": "2026-11-21T10:00:00Z"}
    run, over = f"/v1/runs/{ids['run']}", f"/v1/runs/{ids['over']}"
    made = {**acting, "name": "A prompt", "text": "Sell {{what}}."}
    hotter = {"userId": "u1", "settings": {"temperature": 1}}
    new_one = {"userId": "u1", "name": "Another"}
    prompt, kept = f"/v1/prompts/{ids['prompt']}", f"/v1/prompts/{ids['kept']}"
    many = {"userId": "u1", "sessionIds": [ids["talk"], "none"], "action": "archive"}
    return [
        Write("POST", "/v1/billing/credits", "TimeCredited", credit),
        Write("POST", "/v1/projects", "ProjectRegistered", project),
        Write("PATCH", "/v1/projects/p1", "ProjectDescribed", {"name": "Renamed"}),
        Write("PUT", member, "MemberAdded", {"role": "editor"}),
        Write("DELETE", member, "MemberRemoved"),
        Write("POST", f"{plan}/save?userId=u1", "PlanSaved"),
        Write("POST", f"{plan}/share", "PlanShared", {"userId": "u1"}),
        Write("DELETE", f"/v1/shares/{ids['share']}?userId=u1", "ShareRevoked"),
        Write("POST", f"{running}/cancel?userId=u1", "ReplyCancelRequested"),
        Write("POST", f"{session}/archive?userId=u1", "SessionArchived"),
        Write("POST", f"{session}/restore?userId=u1", "SessionRestored"),
        Write("POST", "/v1/sessions", "SessionOpened", {**acting, "mode": "idea", "reuse": True}),
        Write("PATCH", new, "SessionRenamed", {"userId": "u1", "name": "Talk"}),
        Write("POST", f"{new}/messages", "UserMessagePosted", noted),
        Write("POST", f"/v1/sessions/{ids['session']}/fork", "SessionOpened", forked),
        Write("POST", "/v1/sessions/batch", "SessionArchived", many),
        Write("POST", "/v1/prompts", "PromptCreated", made),
        Write("POST", f"/v1/sessions/{ids['saved']}/instructions", "SessionInstructed", hotter),
        Write(
            "POST", f"/v1/chat-plan/replies/{ids['idea']}/accept", "ImprovementAccepted", new_one
        ),
        Write("PATCH", kept, "PromptRenamed", {"userId": "u1", "name": "Renamed"}),
        Write("POST", f"{kept}/versions", "PromptVersionAdded", {"userId": "u1", "text": "New"}),
        Write("DELETE", f"{prompt}?userId=u1", "PromptErasureRequested"),
        Write("DELETE", f"{new}?userId=u1", "SessionDeleted"),
        Write("POST", f"{build}/claim", "BuildClaimed", {"workerId": "w1"}),
        Write("POST", f"{build}/events", "BuildFailed", reports),
        Write("POST", f"/v1/builds/{ids['queued']}/cancel?userId=u1", "BuildFailed"),
        Write("POST", "/v1/builds", "BuildQueued", idea),
        Write("POST", "/v1/runs", "RunQueued", {**acting, "title": "Compare"}),
        Write("POST", f"{run}/claim", "RunClaimed", {"workerId": "w1"}),
        Write(
            "POST", f"{run}/events", "RunProgressed", {"events": [engine | {"type": "progress"}]}
        ),
        Write("POST", f"{run}/cancel?userId=u1", "RunFailed"),
        Write("POST", f"{over}/discuss", "MaterialAdded", {"userId": "u1"}),
        Write("DELETE", f"{over}?userId=u1", "RunErased"),
        Write("POST", "/v1/chat-plan", "UserMessagePosted", {**acting, "message": "Hello"}),
        Write("POST", "/v1/chat-plan/convert-to-build", "BuildQueued", order),
        Write("DELETE", f"/v1/chat-plan/session/{ids['other']}?userId=u1", "SessionDeleted"),
        Write("DELETE", "/v1/projects/p4", "ProjectErasureRequested"),
    ]


def test_the_writes_are_all_writes_of_the_api() -> None:
    tried = writes(dict.fromkeys(NAMES, "x"))
    for each in OPERATIONS:
        if each.method != "GET" and each.name not in APPENDS_NOTHING:
            pattern = re.sub(r"\{\w+\}", "[^/]+", each.path)
            paths = {urlsplit(write.path).path for write in tried if write.method == each.method}
            assert [path for path in paths if re.fullmatch(pattern, path)], each.name


async def furnished(run: LiveService) -> dict[str, str]:
    """What the writes need, by NAMES: two plans in two sessions of p1, a share of the second, a
    session of p2, a running reply of p3, a queued build of p1 and of p5, two prompts of p1, a
    session of mode prompt and a reply with an improvement in p1, a queued run and an ended run of
    p1; p4 is empty."""
    for project_id in ("p1", "p2", "p3", "p4", "p5"):
        await run.project(project_id)
    await run.credit()
    acting = {"userId": "u1", "projectId": "p1"}
    built = (await run.chat("Add a menu")).json()
    convert = "/v1/chat-plan/convert-to-build"
    order = {**acting, "sessionId": built["sessionId"]}
    build = (await run.client.post(convert, json=order)).json()
    path = f"/v1/builds/{build['buildId']}"
    await run.client.post(f"{path}/claim", json={"workerId": "w0"})
    end = {"eventId": "e0", "phase": "build", "type": "failed", "title": "No"}
    at = {"at": "2026-11-21T10:00:00Z"}
    await run.client.post(f"{path}/events", json={"events": [end | at]})
    kept = (await run.chat("Add a page")).json()
    share = f"/v1/chat-plan/replies/{kept['messageId']}/share"
    shared = (await run.client.post(share, json={"userId": "u1"})).json()
    idea = {**acting, "message": "A shop"}
    begun = (await run.client.post("/v1/builds", json=idea)).json()
    other = (await run.client.get(f"/v1/builds/{begun['buildId']}")).json()["sessionId"]
    queued = (await run.client.post("/v1/builds", json=idea | {"projectId": "p5"})).json()
    talk = (await run.chat("Hello", projectId="p2")).json()
    runs: list[str] = []
    for title in ("Compare", "Over"):
        asked = await run.client.post("/v1/runs", json={**acting, "title": title})
        runs.append(asked.json()["runId"])
    await run.client.post(f"/v1/runs/{runs[1]}/cancel?userId=u1")
    made = {**acting, "name": "A prompt", "text": "Sell {{what}}."}
    prompts = [(await run.client.post("/v1/prompts", json=made)).json() for _ in range(2)]
    sessions = "/v1/sessions"
    about = {**acting, "mode": "idea", "context": {"runId": runs[0]}}
    saved = (await run.client.post(sessions, json={**acting, "mode": "prompt"})).json()
    work = (await run.client.post(sessions, json=about)).json()["sessionId"]
    said = {"userId": "u1", "message": "Sell bees"}
    improved = (await run.client.post(f"{sessions}/{work}/messages", json=said)).json()
    return {
        "plan": kept["messageId"],
        "session": kept["sessionId"],
        "other": other,
        "build": begun["buildId"],
        "queued": queued["buildId"],
        "talk": talk["sessionId"],
        "share": shared["shareId"],
        "run": runs[0],
        "over": runs[1],
        "prompt": prompts[0]["promptId"],
        "kept": prompts[1]["promptId"],
        "saved": saved["sessionId"],
        "idea": improved["messageId"],
        "running": await begun_reply(run, "p3"),
    }


async def begun_reply(run: LiveService, project_id: str) -> str:
    """The id of a reply whose model writes nothing."""
    body = {"userId": "u1", "projectId": project_id, "message": "Hello [[offline: hang]]"}
    headers = {"Accept": "text/event-stream"}
    async with run.client.stream("POST", "/v1/chat-plan", json=body, headers=headers) as answer:
        return answer.headers["Location"].rpartition("/")[2]


async def counted(owner: Connection) -> Counter[str]:
    """How many events of each type are in the log. An erasure may come to its end later."""
    rows = await owner.execute(
        "select type, count(*) from app.event"
        " where type not in ('ProjectErased', 'PromptErased') group by type"
    )
    return Counter(dict(await rows.fetchall()))


# Faults ------------------------------------------------------------------------------------------


@asynccontextmanager
async def halted(run: LiveService, owner: Connection, _: Cutter) -> AsyncGenerator[None]:
    """No read model follows."""
    async with owner.transaction():
        for each in PROJECTIONS:
            await owner.execute("select app.stop_following(%s)", [each.name])
            await _rename(owner, f"apply_{each.name}", f"sound_{each.name}")
        await owner.execute("update app.projection set halted_at = now(), halted_before = 0")
    yield

    async with owner.transaction():
        for each in PROJECTIONS:
            await _rename(owner, f"sound_{each.name}", f"apply_{each.name}")
    while not await catch_up(owner):
        pass
    assert (await run.client.get("/readyz")).status_code == 200


async def _rename(owner: Connection, function: str, to: str) -> None:
    await owner.execute(f"alter function app.{function} rename to {to}".encode())


@asynccontextmanager
async def full_after(run: LiveService, owner: Connection, way: Cutter) -> AsyncGenerator[None]:
    """From the moment of the append on no connection is free for requests, for half a second."""

    async def fill() -> None:
        async for _ in run.service.live_log.follow(run.service.live_log.head):
            async with full(run, owner, way):
                await asyncio.sleep(0.5)
            return

    filling = asyncio.create_task(fill())
    yield
    filling.cancel()
    with suppress(asyncio.CancelledError):
        await filling


@asynccontextmanager
async def lost(run: LiveService, _: Connection, way: Cutter) -> AsyncGenerator[None]:
    """The database cannot be reached."""
    before, run.service.pool.timeout = run.service.pool.timeout, 0.1
    way.sever()
    yield
    way.restore()
    run.service.pool.timeout = before


@asynccontextmanager
async def full(run: LiveService, _owner: Connection, _: Cutter) -> AsyncGenerator[None]:
    """No connection is free for requests."""
    pool = run.service.pool
    before, pool.timeout = pool.timeout, 0.1
    held: list[OwnConnection] = []
    try:
        with suppress(PoolTimeout):
            while True:
                held.append(await pool.getconn())
        yield
    finally:
        pool.timeout = before
        for connection in held:
            await pool.putconn(connection)


@asynccontextmanager
async def cut(_run: LiveService, _owner: Connection, way: Cutter) -> AsyncGenerator[None]:
    """The connection is lost after the next commit of an append."""
    way.cut_answer_to(b"insert into app.event")
    yield


Fault = Callable[[LiveService, Connection, Cutter], AbstractAsyncContextManager[None]]


@pytest.mark.parametrize(
    "fault",
    [
        halted,
        cut,
        *(pytest.param(each, marks=pytest.mark.slow) for each in (full, full_after, lost)),
    ],
)
async def test_a_client_that_does_what_a_503_says_does_nothing_twice(
    url: str, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(reads, "WAIT_SECONDS", 0.05)
    # The pool of connections looks sooner whether the database is there again.
    monkeypatch.setattr(AttemptWithBackoff, "INITIAL_DELAY", 0.05)
    async with (
        Cutter(url) as way,
        running(way.url) as run,
        await connections.connect(url, as_service=False) as owner,
    ):
        ids = await furnished(run)
        for write in writes(ids):
            before = await counted(owner)
            async with fault(run, owner, way):
                answer = await send(run, write)
            async with asyncio.timeout(60):
                while await stored(owner, write, before, answer) != "everything":
                    answer = await send(run, write)
            after = await counted(owner)
            assert after[write.event] == before[write.event] + 1, (write, answer.text)
            again = await send(run, write)
            assert await counted(owner) == after, (write, again.text)


async def send(run: LiveService, write: Write) -> httpx.Response:
    """Send the write under its key: the same each time."""
    headers = {"Idempotency-Key": f"{write.method} {write.path}".replace(" ", "-")}
    return await run.client.request(write.method, write.path, json=write.body, headers=headers)


async def stored(
    owner: Connection, write: Write, before: Counter[str], answer: httpx.Response
) -> str:
    """What the answer says is stored, which must be true."""
    appended = (await counted(owner))[write.event] - before[write.event]
    if answer.is_success:
        assert appended == 1, (write, answer.text)
        return "everything"
    status, code = problem(answer)
    said = answer.json()["stored"]
    assert status == 503
    assert "Retry-After" in answer.headers
    assert code in {"nothing": NOTHING, "everything": EVERYTHING}.get(said, {"outcome_unknown"})
    assert appended == {"nothing": 0, "everything": 1}.get(said, appended), (write, answer.text)
    return str(said)


async def test_a_server_that_takes_no_writes_any_more_is_like_a_server_that_is_away(
    run: LiveService, url: str
) -> None:
    """A failover: the name of the host still leads to the server that was the primary."""
    async with await connections.connect(url, as_service=False) as owner:
        await _close_to_writes(owner, "on")
        answer = await run.chat("Hello")
        assert (answer.status_code, answer.json()["stored"]) == (503, "nothing")
        await _close_to_writes(owner, "off")
        async with asyncio.timeout(30):
            while (answer := await run.chat("Hello")).status_code != 200:
                assert answer.json()["code"] in NOTHING


async def _close_to_writes(owner: Connection, setting: str) -> None:
    """Say whether new transactions only read, and end the connections of everybody else."""
    await owner.execute("set default_transaction_read_only = off")
    (name,) = await (await owner.execute("select current_database()")).fetchone() or ("",)
    await owner.execute(
        f'alter database "{name}" set default_transaction_read_only = {setting}'.encode()
    )
    await owner.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
