"""The audit has an entry for every request of a known caller: user, operation, address, result."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row
from structlog.testing import capture_logs

from service.access import audit
from service.jobs.expiry import expire_audit
from service.ops import metrics
from service.postgres import connections
from tests.projections.generated import owning
from tests.running import KEYS, LiveService, SharedService, problem, running
from tests.service.cutter import Cutter

AGENT = "a-browser/7.0"
SECRET = "quillwort"


@pytest.fixture
async def run(shared_service: SharedService) -> AsyncIterator[LiveService]:
    async with shared_service.tenant() as started:
        started.client.headers["User-Agent"] = AGENT
        await started.project()
        await started.credit()
        yield started


async def stored(url: str, tenant_id: str = "t1") -> list[dict[str, Any]]:
    """The whole audit of a tenant, oldest first."""
    async with owning(url) as owner, owner.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            "select * from app.audit where tenant_id = %s order by request_id", [tenant_id]
        )
        return await cursor.fetchall()


async def until_stored(url: str, tenant_id: str, count: int) -> list[dict[str, Any]]:
    """A tenant's audit when it has this number of entries: entries of reads come a moment later."""
    async with asyncio.timeout(10):
        while len(entries := await stored(url, tenant_id)) < count:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.01)
    return entries


async def test_the_entry_of_a_message_has_the_bill_of_its_reply(run: LiveService) -> None:
    final = (await run.chat(f"Add a {SECRET} page")).json()
    (item,) = (await run.client.get("/v1/audit?limit=1")).json()["items"]
    ledger = (await run.client.get("/v1/billing/accounts/u1/consumption")).json()["items"][0]
    tokens = sum(count for name, count in ledger.items() if name.endswith("Tokens"))
    milliseconds = item.pop("milliseconds")
    assert 0 <= milliseconds < 60_000
    assert item.pop("requestId")
    assert item.pop("timestamp")
    assert item == {
        "keyId": run.key_id,
        "userId": "u1",
        "operation": "postChatPlan",
        "projectId": "p1",
        "sessionId": final["sessionId"],
        "messageId": final["messageId"],
        "address": "127.0.0.1",
        "userAgent": AGENT,
        "status": 200,
        "billedSeconds": ledger["billedSeconds"],
        "tokensUsed": tokens,
    }


async def test_a_write_is_answered_after_its_audit_entry_is_stored(
    shared_url: str, run: LiveService
) -> None:
    for n in range(1, 6):
        answer = await run.chat(f"No. {n}", userId="nobody")
        assert problem(answer) == (404, "project_not_found")
        last = (await stored(shared_url, run.tenant_id))[-1]
        assert last["request_id"] == answer.headers["X-Request-Id"]
        assert (last["status"], last["code"]) == (404, "project_not_found")
        assert (last["user_id"], last["project_id"]) == ("nobody", "p1")


async def test_refused_requests_and_reads_have_entries_too(
    shared_url: str, run: LiveService
) -> None:
    before = len(await stored(shared_url, run.tenant_id))
    token = (await run.client.post("/v1/tokens", json={"userId": "u1", "projectId": "p1"})).json()
    bearer = {"Authorization": f"Bearer {token['token']}"}
    async with httpx.AsyncClient(base_url=run.client.base_url, headers=bearer) as client:
        await client.get("/v1/project/p1/timeline")
        await client.get("/v1/project/p2/timeline")
    await run.client.post("/v1/chat-plan", json={"userId": "u1", "message": SECRET})
    entries = (await until_stored(shared_url, run.tenant_id, before + 4))[before:]
    assert [(each["operation"], each["status"], each["code"]) for each in entries] == [
        ("mintToken", 201, None),
        ("getTimeline", 200, None),
        ("getTimeline", 404, "project_not_found"),
        ("postChatPlan", 422, "invalid_request"),
    ]
    assert [each["user_id"] for each in entries] == ["u1", "u1", "u1", None]
    assert [each["project_id"] for each in entries] == ["p1", "p1", "p2", None]


async def test_an_unknown_caller_leaves_no_entry(shared_url: str, run: LiveService) -> None:
    before = len(await stored(shared_url, run.tenant_id))
    async with httpx.AsyncClient(base_url=run.client.base_url) as nobody:
        assert (await nobody.get("/v1/audit")).status_code == 401
        assert (await nobody.post("/v1/chat-plan", json={})).status_code == 401
    assert (await run.client.post("/v1/tokens", json={})).status_code == 422
    assert len(await stored(shared_url, run.tenant_id)) == before + 1


async def test_no_entry_has_text(shared_url: str, run: LiveService) -> None:
    await run.chat(f"The {SECRET} is the secret")
    await run.chat(f"The {SECRET} is the secret", onBusy=SECRET)
    await run.client.post(f"/v1/projects?{SECRET}={SECRET}", content=f'{{"{SECRET}'.encode())
    plan = (await run.chat(f"Add a {SECRET} page")).json()
    body = {"userId": "u1", "projectId": "p1", "sessionId": plan["sessionId"]}
    await run.client.post("/v1/chat-plan/convert-to-build", json=body)
    entries = await stored(shared_url, run.tenant_id)
    assert len(entries) == 7
    assert SECRET not in str(entries)
    assert AGENT in str(entries), "the control"


async def test_only_the_tenant_s_admins_read_the_audit(url: str) -> None:
    keys = {
        "k1": KEYS["k1"].model_copy(update={"scopes": frozenset({"chat", "build", "read"})}),
        "k2": KEYS["k2"],
    }
    async with running(url, hmac_keys=keys) as run:
        assert problem(await run.client.get("/v1/audit")) == (403, "scope_missing")
    async with running(url) as run:
        await run.project()
        answer = await run.client.get("/v1/audit")
        assert {each["keyId"] for each in answer.json()["items"]} == {"k1"}
        run.client.auth.key_id = "k2"  # type: ignore[union-attr]
        assert (await run.client.get("/v1/audit")).json()["items"] == []
        run.client.auth.key_id = "k1"  # type: ignore[union-attr]
        body = {"userId": "u1", "projectId": "p1"}
        token = (await run.client.post("/v1/tokens", json=body)).json()["token"]
        bearer = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=run.client.base_url, headers=bearer) as client:
            assert (await client.get("/v1/audit")).status_code == 401


async def test_the_audit_has_pages_of_a_user_and_of_a_project(run: LiveService) -> None:
    await run.project("p2", "u2")
    for n in range(5):
        await run.chat(f"No. {n}", userId="u2", projectId="p2", sessionId="none")
    await run.chat("Hello")
    found: list[str] = []
    cursor = ""
    while True:
        page = (await run.client.get(f"/v1/audit?userId=u2&limit=2{cursor}")).json()
        if not page["items"]:
            break
        found += [item["requestId"] for item in page["items"]]
        assert {item["userId"] for item in page["items"]} == {"u2"}
        cursor = f"&before={page['before']}"
    assert len(found) == 5
    assert found == sorted(found, reverse=True)
    of_project = (await run.client.get("/v1/audit?projectId=p1&limit=100")).json()["items"]
    assert {item["projectId"] for item in of_project} == {"p1"}
    of_call = (await run.client.get("/v1/audit?operation=creditAccount")).json()["items"]
    assert [item["operation"] for item in of_call] == ["creditAccount"]


@pytest.mark.parametrize(
    "statement",
    ["update app.audit set status = 200", "delete from app.audit", "truncate app.audit"],
)
async def test_no_role_changes_the_audit(shared_url: str, run: LiveService, statement: str) -> None:
    async with owning(shared_url) as owner:
        with pytest.raises(psycopg.Error) as refused:
            await owner.execute(statement.encode())
        assert refused.value.sqlstate == "TL002"
    async with await connections.connect(shared_url) as service:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await service.execute(statement.encode())


async def test_old_entries_are_removed_and_younger_ones_stay(url: str) -> None:
    days = {"t1": (500, 401, 399, 29, 0), "t2": (450, 3), "t3": (399,)}
    async with owning(url) as owner, connections.pool(url) as pool:
        for tenant, ages in days.items():
            for age in ages:
                await aged(owner, tenant, age)
        assert await audit.expire(pool, 400, limit=1) == 2, "the oldest of each tenant"
        assert await expire_audit(pool, 400) == 1
        assert await expire_audit(pool, 400) == 0
        assert await ages_of(owner) == {"t1": [399, 29, 0], "t2": [3], "t3": [399]}
        with pytest.raises(psycopg.Error, match="stays for 30 days"):
            await audit.expire(pool, 7, limit=10)
        with pytest.raises(psycopg.Error, match="stays for 30 days"):
            await owner.execute("delete from app.audit where tenant_id = 't1'")
        assert await ages_of(owner) == {"t1": [399, 29, 0], "t2": [3], "t3": [399]}


async def aged(owner: connections.Connection, tenant: str, days: int) -> None:
    """Store an entry of a request some days ago."""
    await owner.execute(
        """
        insert into app.audit
            (tenant_id, request_id, at, key_id, operation, status, milliseconds)
        select
            %(tenant)s,
            -- As a UUIDv7 begins: the milliseconds in hexadecimal, with a dash.
            overlay(lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0')
                placing '-' from 9 for 0),
            at, 'k1', 'x', 200, 1
        from (select now() - make_interval(days => %(days)s)) as request (at)
        """,
        {"tenant": tenant, "days": days},
    )


async def ages_of(owner: connections.Connection) -> dict[str, list[int]]:
    """The ages of the stored entries in days, oldest first, by tenant."""
    found = await owner.execute(
        """
        select tenant_id, array_agg(extract(day from now() - at)::integer order by at)
        from app.audit
        group by tenant_id
        """
    )
    return dict(await found.fetchall())


async def test_a_request_that_could_not_be_audited_is_refused(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = await run.service.store.head()
    monkeypatch.setattr(audit, "MOST_WAITING", 0)
    assert problem(await run.chat("Hello")) == (503, "overloaded")
    assert await run.service.store.head() == head


async def test_a_write_without_a_stored_audit_entry_is_not_acknowledged(
    shared_url: str, run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write is stored. Sent again with its key, it is known and gets its audit entry."""
    key = {"Idempotency-Key": "k"}
    body = {"userId": "u1", "seconds": 5, "kind": "paid"}
    monkeypatch.setattr(audit, "PATIENCE_SECONDS", 0.2)
    async with owning(shared_url) as owner, owner.transaction():
        await owner.execute("lock table app.audit in share mode")
        late = await run.client.post("/v1/billing/credits", json=body, headers=key)
        assert problem(late) == (503, "audit_late")
        assert problem(await run.chat("Hello", userId="nobody")) == (404, "project_not_found")
    monkeypatch.undo()
    head = await run.service.store.head()
    assert late.headers["X-Log-Position"] == str(head)
    again = await run.client.post("/v1/billing/credits", json=body, headers=key)
    assert again.status_code == 201
    assert await run.service.store.head() == head
    request_ids = [each["request_id"] for each in await stored(shared_url, run.tenant_id)]
    assert late.headers["X-Request-Id"] in request_ids


async def test_audit_entries_wait_for_an_unreachable_database_and_are_stored_once(url: str) -> None:
    """Also when the connection is lost after the commit, before PostgreSQL has answered."""
    async with Cutter(url) as way, connections.pool(way.url) as pool:
        kept = audit.Audit(pool)
        storing = asyncio.create_task(kept.run())
        for n, cut in enumerate((way.cut_request_with, way.cut_answer_to)):
            cut(b"insert into app.audit")
            await kept.record(entry(f"r{n}"), is_write=True)
            assert way.cuts == n + 1
        kept.close()
        await storing
    assert [each["request_id"] for each in await stored(url)] == ["r0", "r1"]


@pytest.mark.parametrize("poison", ["\0", "\ud800"])
async def test_an_entry_that_cannot_be_stored_does_not_keep_out_the_others(
    url: str, poison: str
) -> None:
    refused = metrics.AUDIT_REFUSED._value.get()
    async with connections.pool(url) as pool:
        kept = audit.Audit(pool)
        entries = [entry("r0"), entry("r1", user_id=f"u{poison}1"), entry("r2")]
        with capture_logs() as lines:
            async with asyncio.TaskGroup() as tasks:
                for each in entries:
                    tasks.create_task(kept.record(each, is_write=True))
                await asyncio.sleep(0)
                kept.close()
                tasks.create_task(kept.run())
    assert [each["request_id"] for each in await stored(url)] == ["r0", "r2"]
    (line,) = (each for each in lines if each["event"] == "audit_entry_refused")
    assert line["request_id"] == "r1"
    assert poison not in str(line)
    assert metrics.AUDIT_REFUSED._value.get() == refused + 1


def entry(request_id: str, user_id: str | None = None) -> audit.Entry:
    return audit.Entry(
        tenant_id="t1",
        request_id=request_id,
        key_id="k1",
        operation="x",
        user_id=user_id,
        at=audit.Watch().at,
    )
