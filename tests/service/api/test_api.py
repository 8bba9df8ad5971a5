import asyncio
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydantic.alias_generators import to_camel

from service.access import signatures
from service.app import OPERATIONS
from service.eventlog.store import NewEvent
from service.http import reads
from service.postgres import connections
from tests.running import KEYS, LiveService, Signed, running
from tests.service.watching import append

NUL = "a\0b"
PROJECT = {"projectId": "p7", "name": "x", "members": [{"userId": "u1"}]}
OK = {"userId": "u1", "projectId": "p1", "message": "Hello"}


async def post(run: LiveService, content: bytes | str, **headers: str) -> httpx.Response:
    headers = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return await run.client.post("/v1/chat-plan", content=content, headers=headers)


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is a problem by RFC 9457 with a stable code and a request id."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"urn:throughline:problem:{code}"
    assert body["detail"]
    return body


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "bad_json"),
        (b'{"userId": "\xff"}', 400, "bad_json"),
        (b'{"userId":"u1","projectId":"p1","message":"\\ud800"}', 400, "bad_json"),
        (b"[" * 100_000, 400, "bad_json"),
        (b"[]", 422, "invalid_request"),
        (b"null", 422, "invalid_request"),
        (b"{}", 422, "invalid_request"),
        (b'{"userId":1,"projectId":"p1","message":"x"}', 422, "invalid_request"),
        (b'{"userId":"u1","projectId":"p1","message":"x","more":1}', 422, "invalid_request"),
        (b'{"userId":"u1","projectId":"p1","message":""}', 422, "invalid_request"),
        (b'{"userId":"","projectId":"p1","message":"x"}', 422, "invalid_request"),
        (b'{"userId":"u1","projectId":"p1","message":"a\\u0000b"}', 422, "invalid_request"),
        (b'{"userId":"a\\u0000","projectId":"p1","message":"x"}', 422, "invalid_request"),
        (b'{"userId":"u1","projectId":"p1","message":"x","locale":"../x"}', 422, "invalid_request"),
        (b'{"userId":"u1","projectId":"p1","message":"x","chatMode":"?"}', 422, "invalid_request"),
        (b'{"userId":"u1","projectId":"p1","message":"' + b"x" * 100_000 + b'"}', 422, None),
        (b'{"userId":"' + b"u" * 256 + b'","projectId":"p1","message":"x"}', 422, None),
        (b'{"userId":"u1","projectId":"p1","message":"' + b"x" * 300_000, 413, "body_too_large"),
        (b'{"userId":"u1","projectId":"nowhere","message":"x"}', 404, "project_not_found"),
        (b'{"userId":"nobody","projectId":"p1","message":"x"}', 404, "project_not_found"),
        (
            b'{"userId":"u1","projectId":"p1","message":"x","sessionId":"none"}',
            404,
            "session_not_found",
        ),
    ],
)
async def test_a_bad_message_is_a_clear_problem_and_stores_nothing(
    shared: LiveService, content: bytes, status: int, code: str | None
) -> None:
    head = await shared.service.store.head()
    body = assert_problem(await post(shared, content), status, code or "invalid_request")
    assert "u0000" not in str(body)
    assert "xxxx" not in str(body)
    assert await shared.service.store.head() == head


async def test_a_message_must_have_the_content_type_json(run: LiveService) -> None:
    body = b'{"userId":"u1","projectId":"p1","message":"Hello"}'
    assert (await post(run, body, Content_Type="application/json; charset=utf-8")).is_success
    assert_problem(await post(run, body, Content_Type="text/plain"), 415, "not_json")


async def test_a_message_without_credit_is_refused_with_the_needed_seconds(
    run: LiveService,
) -> None:
    await run.project("p2", "poor")
    answer = await run.chat("Hello", userId="poor", projectId="p2")
    body = assert_problem(answer, 402, "insufficient_balance")
    assert body["template"] == "insufficient_balance"
    assert body["variables"] == {"needed_seconds": 60, "available_seconds": 0}


@pytest.mark.parametrize(
    "query",
    [
        *(
            "limit=0",
            "limit=-1",
            "limit=201",
            "limit=1e3",
            "limit=NaN",
            "limit=99999999999999999999",
        ),
        *("offset=-1", "offset=10001", "mode=other", "includeHidden=perhaps", "unknown=1"),
        *("before=abc", "before=.", "after=1", "userId=", "userId=a%00b", "minPosition=-1"),
    ],
)
async def test_a_bad_page_is_a_clear_problem(shared: LiveService, query: str) -> None:
    answer = await shared.client.get(f"/v1/project/p1/timeline?{query}")
    body = answer.json()
    assert answer.status_code in (409, 422), answer.text
    assert body["code"] in ("invalid_request", "bad_cursor", "cursor_of_another_log")


async def test_a_large_offset_is_refused_with_a_way_to_older_items(shared: LiveService) -> None:
    assert (await shared.client.get("/v1/project/p1/timeline?offset=10000")).status_code == 200
    body = assert_problem(
        await shared.client.get("/v1/project/p1/timeline?offset=10001"), 422, "invalid_request"
    )
    assert "`before`" in body["errors"][0]["message"]


@pytest.mark.parametrize("bad", [".", ".."])
async def test_a_new_id_that_does_not_fit_into_a_path_is_refused(
    shared: LiveService, bad: str
) -> None:
    of_project = PROJECT | {"projectId": bad}
    of_member = PROJECT | {"members": [{"userId": bad}]}
    for body in (of_project, of_member):
        assert_problem(await shared.client.post("/v1/projects", json=body), 422, "invalid_request")
    credit = {"userId": bad, "seconds": 1, "kind": "paid"}
    answer = await shared.client.post("/v1/billing/credits", json=credit)
    assert_problem(answer, 422, "invalid_request")


@pytest.mark.parametrize("odd", ["a?b", "a#b", "a%2Fb", "a b", "ü", "a\\b"])
async def test_an_id_of_other_characters_is_found_by_its_path(run: LiveService, odd: str) -> None:
    assert (await run.client.post("/v1/projects", json=PROJECT | {"projectId": odd})).is_success
    answer = await run.client.get(f"/v1/project/{quote(odd, safe='')}/timeline?userId=u1")
    assert answer.status_code == 200, answer.text


async def test_a_cursor_of_another_log_is_refused(run: LiveService) -> None:
    answer = await run.client.get("/v1/project/p1/timeline?before=00000000.5")
    assert_problem(answer, 409, "cursor_of_another_log")


async def test_unknown_paths_and_methods_are_problems(run: LiveService) -> None:
    assert_problem(await run.client.get("/v1/nothing"), 404, "not_found")
    assert_problem(await run.client.put("/v1/chat-plan"), 405, "method_not_allowed")
    assert_problem(await run.client.get("/v1/billing/accounts/a%00b"), 422, "invalid_request")


async def test_another_tenant_s_resources_look_like_missing_resources(run: LiveService) -> None:
    session = (await run.chat("Hello")).json()["sessionId"]
    other = Signed("k2")
    for theirs, absent in (
        ("/v1/project/p1/timeline?userId=u1", "/v1/project/p9/timeline?userId=u1"),
        (f"/v1/chat-plan/session/{session}?userId=u1", "/v1/chat-plan/session/x?userId=u1"),
        ("/v1/project/p1/timeline", "/v1/project/p9/timeline"),
    ):
        first = await run.client.get(theirs, auth=other)
        second = await run.client.get(absent, auth=other)
        assert (first.status_code, first.content) == (second.status_code, second.content)
        assert first.status_code == 404
        assert list(first.headers) == list(second.headers)
    answer = await run.client.post("/v1/chat-plan", json=OK, auth=other)
    assert_problem(answer, 404, "project_not_found")
    mine = await run.client.get("/v1/billing/accounts/u1", auth=other)
    assert mine.json()["creditedSeconds"] == 0


async def test_members_are_added_and_removed(run: LiveService) -> None:
    path = "/v1/projects/p1/members/u2"
    assert (await run.client.put(path, json={"role": "editor"})).json()["role"] == "editor"
    assert (await run.client.get("/v1/project/p1/timeline?userId=u2")).is_success
    assert (await run.client.delete(path)).is_success
    answer = await run.client.get("/v1/project/p1/timeline?userId=u2")
    assert_problem(answer, 404, "project_not_found")
    assert_problem(await run.client.delete(path), 404, "member_not_found")
    assert_problem(await run.client.delete("/v1/projects/p1/members/u1"), 409, "last_owner")
    again = {"projectId": "p1", "name": "x", "members": [{"userId": "u1"}]}
    assert_problem(await run.client.post("/v1/projects", json=again), 409, "project_exists")


async def test_the_timeline_is_paged_by_cursors(run: LiveService) -> None:
    for n in range(4):
        await run.chat(f"Hello {n}")
    base = "/v1/project/p1/timeline?userId=u1"
    whole = (await run.client.get(f"{base}&limit=200")).json()["items"]
    walked: list[Any] = []
    before = ""
    while True:
        page = (await run.client.get(f"{base}&limit=3{before}")).json()
        walked += page["items"]
        if not page["hasMore"]:
            break
        before = f"&before={page['before']}"
    assert walked == whole
    assert len(whole) == 9, "the greeting, and four messages with their replies"
    offset = (await run.client.get(f"{base}&limit=3&offset=3")).json()
    assert offset["items"] == whole[3:6]
    newer = (await run.client.get(f"{base}&limit=3&after={whole[-1]['cursor']}")).json()
    assert newer["items"] == whole[5:8]
    hidden = (await run.client.get(f"{base}&limit=200&includeHidden=true")).json()["items"]
    assert [item["kind"] for item in hidden][-1] == "session"
    assert (await run.client.get(f"{base}&mode=build")).json()["items"] == []
    assert (await run.client.get(f"{base}&mode=plan&limit=200")).json()["items"] == whole


async def test_a_read_waits_for_the_requested_position(
    run: LiveService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    credit = {"userId": "u1", "seconds": 5, "kind": "bonus"}
    answer = await run.client.post("/v1/billing/credits", json=credit)
    position = answer.headers["x-log-position"]
    read = await run.client.get("/v1/billing/accounts/u1", headers={"X-Min-Position": position})
    assert read.json()["bonusSeconds"] == 5
    assert int(read.headers["x-log-position"]) >= int(position)
    ahead = await run.client.get(f"/v1/billing/accounts/u1?minPosition={int(position) + 1_000}")
    assert_problem(ahead, 409, "position_not_in_log")
    monkeypatch.setattr(reads, "WAIT_SECONDS", 0.1)
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute("select app.stop_following('accounts')")
        await owner.execute(
            "update app.projection set halted_at = now(), halted_reason = 'invalid: \"somebody\"' "
            "where name = 'accounts'"
        )
        await owner.execute("drop function app.apply_accounts")
        answer = await run.client.post("/v1/projects", json=PROJECT)
        position = answer.headers["x-log-position"]
        late = await run.client.get(f"/v1/billing/accounts/u1?minPosition={position}")
        assert_problem(late, 503, "read_model_behind")
    ready = (await run.client.get("/readyz")).json()
    assert ready["status"] == "degraded"
    assert ready["projections"]["accounts"]["state"] == "halted"
    assert "somebody" not in str(ready), "everyone may ask"


async def test_each_read_of_a_read_model_refuses_a_position_that_the_log_has_not_come_to(
    run: LiveService,
) -> None:
    said = (await run.chat("Hello")).json()
    known = {"projectId": "p1", "sessionId": said["sessionId"], "messageId": said["messageId"]}
    known |= {"userId": "u1", "promptId": "a", "number": "1", "runId": "a", "buildId": "a"}
    for operation in OPERATIONS:
        if operation.method != "GET" or not operation.reads:
            continue
        path = operation.path.format_map(known)
        needed = [
            name for name, field in operation.query.model_fields.items() if field.is_required()
        ]
        params = {to_camel(name): known.get(to_camel(name), "1") for name in needed}
        answer = await run.client.get(path, params=params | {"minPosition": "1000000"})
        assert_problem(answer, 409, "position_not_in_log")


async def test_readers_that_wait_for_a_halted_read_model_hold_up_nobody(
    run: LiveService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "WAIT_SECONDS", 60)
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute("select app.stop_following('accounts')")
        await owner.execute("update app.projection set halted_at = now() where name = 'accounts'")
        await owner.execute("drop function app.apply_accounts")
    position = (await run.client.post("/v1/projects", json=PROJECT)).headers["x-log-position"]
    path = "/v1/billing/accounts/u1"
    waiting = [
        asyncio.create_task(run.client.get(path, headers={"X-Min-Position": position}))
        for _ in range(connections.POOL_SIZE + 2)
    ]
    for _ in range(connections.POOL_SIZE + 2):
        assert (await run.client.get(path, headers={"X-Min-Position": "0"})).status_code == 200
    assert not any(each.done() for each in waiting), "they wait all the time"
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)


async def test_an_event_that_no_rule_can_read_is_told_in_the_answers_about_its_stream(
    run: LiveService, url: str
) -> None:
    await run.project("p2")
    reads_of = {
        "accounts": ("/v1/billing/accounts/u1", "/v1/billing/accounts/u2"),
        "timeline": ("/v1/project/p1/timeline", "/v1/project/p2/timeline"),
    }
    poison = (
        ("account-t1-u1", "TimeCredited", b'{"user_id":"u1","seconds":"secret"}'),
        ("session-s1", "UserMessagePosted", b"secret"),
    )
    for stream, kind, state in poison:
        version = len(await run.service.store.stream("t1", stream)) + 1
        await append(run, [NewEvent("t1", stream, version, kind, state, "p1")])
    for name, (bad, good) in reads_of.items():
        answer = await run.client.get(bad)
        assert (answer.status_code, answer.headers[reads.INCOMPLETE]) == (200, name)
        answer = await run.client.get(good)
        assert (answer.status_code, reads.INCOMPLETE in answer.headers) == (200, False)
    ready = await run.client.get("/readyz")
    assert ready.json()["status"] == "ready"
    assert ready.json()["projections"]["accounts"]["setAside"] == 1
    assert ready.json()["projections"]["accounts"]["state"] == "live"
    assert "secret" not in ready.text


# Signatures --------------------------------------------------------------------------------------


async def sent(run: LiveService, header: str | None, path: str = "/v1/billing/accounts/u1") -> Any:
    headers = {} if header is None else {signatures.HEADER: header}
    async with httpx.AsyncClient(base_url=run.client.base_url) as plain:
        return await plain.get(path, headers=headers)


def header(path: str = "/v1/billing/accounts/u1", **changed: Any) -> str:
    """A valid header for a GET, unless `changed` changes its fields after signing."""
    fields: dict[str, Any] = {"time": int(time.time()), "nonce": "n1", "key_id": "k1"}
    signed = fields | {name: changed[name] for name in fields if name in changed}
    v1 = signatures.sign(
        KEYS["k1"].secret.get_secret_value(),
        method=changed.get("method", "GET"),
        path=path.encode(),
        query=changed.get("query", b""),
        body=changed.get("body", b""),
        **signed,
    )
    sending = signed | changed.get("after", {})
    return f"t={sending['time']},kid={sending['key_id']},n={sending['nonce']},v1={v1}"


async def test_a_valid_signature_is_accepted(run: LiveService) -> None:
    assert (await sent(run, header())).status_code == 200


BAD_SIGNATURES: dict[str, Callable[[], str | None]] = {
    "none": lambda: None,
    "empty": lambda: "",
    "nonsense": lambda: "nonsense",
    "without v1": lambda: "t=1,kid=k1,n=1",
    "v1 alone, long": lambda: "v1=" + "0" * 2_000,
    "too old": lambda: header(time=int(time.time()) - 301 - 600),
    "from the future": lambda: header(time=int(time.time()) + 900),
    "another method": lambda: header(method="POST"),
    "another path": lambda: header(path="/v1/billing/accounts/u2"),
    "another query": lambda: header(query=b"x=1"),
    "another body": lambda: header(body=b"{}"),
    "another nonce": lambda: header(after={"nonce": "n2"}),
    "another key": lambda: header(after={"key_id": "k2"}),
    "an unknown key": lambda: header(after={"key_id": "unknown"}),
    "no hexadecimal v1": lambda: header()[:-1] + "z",
    "two times": lambda: header() + ",t=1",
}
"""Signatures are made when their test runs: the clock is part of them."""


@pytest.mark.parametrize("bad", BAD_SIGNATURES)
async def test_every_invalid_signature_gets_the_same_answer(shared: LiveService, bad: str) -> None:
    answer = await sent(shared, BAD_SIGNATURES[bad]())
    reference = await sent(shared, None)
    assert answer.status_code == 401
    assert answer.content == reference.content


async def test_a_signed_write_is_accepted_once(run: LiveService) -> None:
    body = b'{"userId":"u1","seconds":1,"kind":"bonus"}'
    request = httpx.Request("POST", f"{run.client.base_url}/v1/billing/credits", content=body)
    signed = next(Signed(run.key_id).auth_flow(request))
    async with httpx.AsyncClient() as plain:
        statuses = [(await plain.send(signed)).status_code for _ in range(3)]
    assert statuses == [201, 401, 401]
    assert (await run.account())["bonusSeconds"] == 1


async def test_a_key_may_do_only_what_its_scopes_allow(url: str) -> None:
    from tests import running as tests_running

    limited = {"k1": KEYS["k1"].model_copy(update={"scopes": frozenset({"read"})})}
    async with running(url) as run:
        await run.project()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tests_running, "KEYS", limited)
        async with running(url) as run:
            assert_problem(await run.chat("Hello"), 403, "scope_missing")
            assert (await run.client.get("/v1/project/p1/timeline")).status_code == 200


async def test_a_key_that_only_chats_reads_no_account(url: str) -> None:
    limited = {"k1": KEYS["k1"].model_copy(update={"scopes": frozenset({"chat"})})}
    async with running(url, hmac_keys=limited) as run:
        for path in ("/v1/billing/accounts/u1", "/v1/billing/accounts/u1/consumption"):
            assert_problem(await run.client.get(path), 403, "scope_missing")


# Operations --------------------------------------------------------------------------------------


async def test_health_readiness_and_metrics_are_open(run: LiveService) -> None:
    async with httpx.AsyncClient(base_url=run.client.base_url) as plain:
        assert (await plain.get("/healthz")).json() == {"status": "ok"}
        ready = (await plain.get("/readyz")).json()
        assert ready["status"] == "ready"
        assert set(ready["projections"]) >= {"timeline", "sessions", "accounts"}
        await run.chat("Hello")
        text = (await plain.get("/metrics")).text
    assert 'throughline_replies_total{mode="general",subtype="success"}' in text
    assert "throughline_request_seconds_bucket" in text


async def test_incomplete_requests_and_noise_do_no_harm(run: LiveService) -> None:
    port = run.client.base_url.port
    noise = [
        b"\0" * 100,
        b"GET / HTTP/9\r\n\r\n",
        b"POST /v1/chat-plan HTTP/1.1\r\n",
        b"\xff\n" * 9,
    ]
    for bytes_sent in noise:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes_sent)
        writer.write_eof()
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
    assert (await run.client.get("/healthz")).is_success
