"""Signing in with a browser: links, browser sessions, their tokens, and what ends each of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from psycopg.sql import SQL, Identifier

from service.access import browser_sessions
from service.http.operation import BROWSER_SESSION
from service.postgres.connections import service_transaction
from tests.projections.generated import owning
from tests.running import KEYS, LiveService, problem, running
from tests.service.access.test_browser_tokens import browser
from tests.service.cutter import Cutter

TIMELINE = "/v1/project/p1/timeline"
TOKEN = "/v1/browser-sessions/token"
LIST = "/v1/browser-sessions"


@pytest.fixture
async def run(run: LiveService) -> LiveService:
    """The service with a second member of the project p1, and with a second project."""
    await run.client.put("/v1/projects/p1/members/u2", json={"role": "owner"})
    await run.project("p2", "u1")
    return run


@dataclass(frozen=True, slots=True)
class Signed:
    """What a browser has after signing in: its cookie, and what the page was told."""

    secret: str
    told: dict[str, Any]

    @property
    def browser_session_id(self) -> str:
        return str(self.told["browserSessionId"])


async def link(live: LiveService, user_id: str = "u1", **more: Any) -> str:
    """The code of a new link."""
    answer = await live.client.post("/v1/links", json={"userId": user_id, **more})
    assert answer.status_code == 201, answer.text
    (code,) = parse_qs(urlsplit(str(answer.json()["url"])).query)["code"]
    return code


async def from_page(
    live: LiveService, path: str, body: Any = None, *, secret: str = "", **headers: str
) -> httpx.Response:
    """What a page of the service gets, with the headers that a browser adds by itself."""
    own = {"Sec-Fetch-Site": "same-origin"} | headers
    if secret:
        own["Cookie"] = f"{BROWSER_SESSION}={secret}"
    async with browser(live) as client:
        return await client.post(path, json=body, headers=own)


async def redeem(live: LiveService, code: str) -> httpx.Response:
    return await from_page(live, LIST, {"code": code})


async def sign_in(live: LiveService, user_id: str = "u1", **more: Any) -> Signed:
    """Sign a user in with a new link."""
    answer = await redeem(live, await link(live, user_id, **more))
    assert answer.status_code == 201, answer.text
    secret = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
    return Signed(secret, answer.json())


async def renew(live: LiveService, signed: Signed) -> httpx.Response:
    return await from_page(live, TOKEN, {}, secret=signed.secret)


@asynccontextmanager
async def page(live: LiveService, signed: Signed) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a token of the browser session."""
    answer = await renew(live, signed)
    assert answer.status_code == 200, answer.text
    async with browser(live, answer.json()["token"]) as client:
        yield client


# A link becomes a browser session -----------------------------------------------------------------


async def test_a_user_signs_in_with_a_link_and_works_in_all_projects(run: LiveService) -> None:
    answer = await run.client.post("/v1/links", json={"userId": "u1"})
    url = urlsplit(answer.json()["url"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{run.client.base_url}/"
    answer = await redeem(run, parse_qs(url.query)["code"][0])
    assert answer.status_code == 201
    assert answer.json().keys() == {"browserSessionId", "userId", "expiresAt"}
    assert answer.headers["cache-control"] == "no-store"
    cookie = answer.headers["set-cookie"]
    for word in ("Max-Age=43200", "Path=/v1", "HttpOnly", "SameSite=strict"):
        assert word in cookie
    assert "Secure" not in cookie, "this service speaks HTTP without TLS"
    secret = cookie.partition("=")[2].partition(";")[0]
    async with page(run, Signed(secret, answer.json())) as client:
        for project_id in ("p1", "p2"):
            path = f"/v1/project/{project_id}/timeline"
            assert (await client.get(path)).status_code == 200
            body = {"userId": "u1", "projectId": project_id, "message": "Hello"}
            assert (await client.post("/v1/chat-plan", json=body)).status_code == 200
        assert problem(await client.get("/v1/project/p3/timeline")) == (404, "project_not_found")
        refused = await client.get(TIMELINE, params={"userId": "u2"})
        assert problem(refused) == (403, "token_of_another_user")


async def test_a_link_for_one_project_signs_in_to_this_project_alone(run: LiveService) -> None:
    signed = await sign_in(run, projectId="p1")
    assert signed.told["projectId"] == "p1"
    async with page(run, signed) as client:
        assert (await client.get(TIMELINE)).status_code == 200
        refused = await client.get("/v1/project/p2/timeline")
        assert problem(refused) == (404, "project_not_found")
    refused = await run.client.post("/v1/links", json={"userId": "u2", "projectId": "p2"})
    assert problem(refused) == (404, "project_not_found"), "u2 is no member"


async def test_behind_tls_the_cookie_is_secure(run: LiveService) -> None:
    code = await link(run)
    answer = await from_page(run, LIST, {"code": code}, **{"X-Forwarded-Proto": "https"})
    assert "Secure" in answer.headers["set-cookie"]


async def test_of_requests_that_race_with_one_code_one_signs_in(run: LiveService) -> None:
    code = await link(run)
    answers = await asyncio.gather(*(redeem(run, code) for _ in range(8)))
    won = [each for each in answers if each.status_code == 201]
    assert len(won) == 1
    lost = {problem(each) for each in answers if each not in won}
    assert lost == {(401, "link_unusable")}
    assert all("set-cookie" not in each.headers for each in answers if each not in won)
    assert problem(await redeem(run, code)) == (401, "link_unusable")


async def test_a_wrong_code_and_an_expired_code_look_the_same(
    shared_url: str, run: LiveService
) -> None:
    old = await link(run)
    await expire(shared_url, "sign_in_link")
    answers = [await redeem(run, code) for code in (old, "x" * 43, "x", "\u0000", "a" * 255)]
    odd: list[Any] = [{}, [], {"code": 7}, "x"]
    answers += [await from_page(run, LIST, body) for body in odd]
    assert {problem(each) for each in answers} == {(401, "link_unusable")}
    assert len({each.text for each in answers}) == 1


@pytest.mark.parametrize("seconds", [9, 86_401, "600"])
async def test_a_link_works_for_a_day_at_most(run: LiveService, seconds: Any) -> None:
    body = {"userId": "u1", "ttlSeconds": seconds}
    refused = await run.client.post("/v1/links", json=body)
    assert problem(refused) == (422, "invalid_request")


async def test_ids_that_no_token_can_hold_get_no_link(run: LiveService) -> None:
    refused = await run.client.post("/v1/links", json={"userId": "\U0001f9f5" * 255})
    assert problem(refused) == (422, "token_too_long")


# Only a page of the service -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {},
    ],
    ids=str,
)
async def test_no_other_page_redeems_a_link_or_uses_the_cookie(
    run: LiveService, headers: dict[str, str]
) -> None:
    code, signed = await link(run), await sign_in(run)
    cookie = {"Cookie": f"{BROWSER_SESSION}={signed.secret}"}
    async with browser(run) as client:
        for path, body in ((LIST, {"code": code}), (TOKEN, {})):
            refused = await client.post(path, json=body, headers=headers | cookie)
            assert problem(refused) == (403, "another_origin")
            assert "set-cookie" not in refused.headers
    assert (await redeem(run, code)).status_code == 201, "the link was not used"


async def test_an_older_browser_proves_its_page_by_its_origin(run: LiveService) -> None:
    signed = await sign_in(run)
    origin = {"Origin": str(run.client.base_url), "Cookie": f"{BROWSER_SESSION}={signed.secret}"}
    async with browser(run) as client:
        assert (await client.post(TOKEN, headers=origin)).status_code == 200


async def test_the_cookie_of_a_browser_session_opens_nothing_else(run: LiveService) -> None:
    signed = await sign_in(run)
    own = {"Sec-Fetch-Site": "same-origin", "Cookie": f"{BROWSER_SESSION}={signed.secret}"}
    async with browser(run) as client:
        for path in (TIMELINE, LIST, "/v1/projects"):
            refused = await client.get(path, headers=own)
            assert problem(refused) == (401, "not_authenticated"), path
        body = {"userId": "u1", "projectId": "p1", "message": "Hello"}
        refused = await client.post("/v1/chat-plan", json=body, headers=own)
        assert problem(refused) == (401, "not_authenticated")


# The list, and signing out ------------------------------------------------------------------------


async def listed(client: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    answer = await client.get(LIST, params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["browserSessions"])


async def test_a_user_sees_the_own_browser_sessions_and_ends_them(run: LiveService) -> None:
    first, second, theirs = await sign_in(run), await sign_in(run), await sign_in(run, "u2")
    async with page(run, second) as client:
        entries = await listed(client)
        assert [(each["browserSessionId"], each["current"]) for each in entries] == [
            (second.browser_session_id, True),
            (first.browser_session_id, False),
        ]
        assert entries[0]["lastUsedAt"] > entries[1]["lastUsedAt"], "it has got a token since"
        for foreign in (theirs.browser_session_id, "nothing"):
            refused = await client.delete(f"{LIST}/{foreign}")
            assert problem(refused) == (404, "browser_session_not_found")
        other = await client.delete(f"{LIST}/{first.browser_session_id}")
        assert (other.status_code, "set-cookie" in other.headers) == (200, False)
        assert problem(await renew(run, first)) == (401, "signed_out")
        own = await client.delete(f"{LIST}/{second.browser_session_id}")
        assert 'browser-session=""; ' in own.headers["set-cookie"]
        assert "Max-Age=0" in own.headers["set-cookie"]
        assert problem(await renew(run, second)) == (401, "signed_out")
        assert (await client.get(TIMELINE)).status_code == 200, "until the token expires"
        assert await listed(client) == []
    assert (await renew(run, theirs)).status_code == 200


async def test_a_key_lists_and_ends_the_browser_sessions_of_a_user(run: LiveService) -> None:
    signed = await sign_in(run)
    (entry,) = await listed(run.client, userId="u1")
    assert (entry["browserSessionId"], entry["current"]) == (signed.browser_session_id, False)
    path = f"{LIST}/{signed.browser_session_id}"
    wrong = await run.client.delete(path, params={"userId": "u2"})
    assert problem(wrong) == (404, "browser_session_not_found")
    assert problem(await run.client.get(LIST)) == (422, "invalid_request"), "whose?"
    assert (await run.client.delete(path, params={"userId": "u1"})).status_code == 200
    assert problem(await renew(run, signed)) == (401, "signed_out")


async def test_a_token_for_one_project_sees_no_browser_session_for_others(run: LiveService) -> None:
    wide, narrow = await sign_in(run), await sign_in(run, projectId="p1")
    other = await sign_in(run, projectId="p2")
    async with page(run, narrow) as client:
        assert [each["browserSessionId"] for each in await listed(client)] == [
            narrow.browser_session_id
        ]
        for signed in (wide, other):
            refused = await client.delete(f"{LIST}/{signed.browser_session_id}")
            assert problem(refused) == (404, "browser_session_not_found")


# What ends a browser session ----------------------------------------------------------------------


async def expire(url: str, table: str) -> None:
    """Let everything in a table expire, of all tenants."""
    async with owning(url) as owner:
        await owner.execute(SQL("update app.{} set expires_at = now()").format(Identifier(table)))


async def rows(url: str, table: str) -> list[Any]:
    async with owning(url) as owner:
        found = await owner.execute(SQL("table app.{}").format(Identifier(table)))
        return await found.fetchall()


async def test_an_expired_browser_session_gives_no_token(shared_url: str, run: LiveService) -> None:
    signed = await sign_in(run)
    async with page(run, signed) as client:
        await expire(shared_url, "browser_session")
        assert problem(await renew(run, signed)) == (401, "signed_out")
        assert await listed(client) == []
        refused = await client.delete(f"{LIST}/{signed.browser_session_id}")
        assert problem(refused) == (404, "browser_session_not_found")


async def test_a_removed_member_is_out_of_the_project_at_once(run: LiveService) -> None:
    wide, narrow = await sign_in(run, "u2"), await sign_in(run, "u2", projectId="p1")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(page(run, each)) for each in (wide, narrow)]
        await run.client.delete("/v1/projects/p1/members/u2")
        for client in clients:
            assert problem(await client.get(TIMELINE)) == (404, "project_not_found")
        assert problem(await renew(run, narrow)) == (404, "project_not_found")
        assert (await renew(run, wide)).status_code == 200, "for the user's other projects"


async def test_a_browser_session_ends_with_its_key(shared_url: str, run: LiveService) -> None:
    signed, code = await sign_in(run), await link(run)
    moved = {run.key_id: KEYS[run.key_id].model_copy(update={"tenant": "t2"})}
    for keys in ({"k2": KEYS["k2"]}, moved):
        async with running(shared_url, hmac_keys=keys) as other:
            assert problem(await renew(other, signed)) == (401, "signed_out")
            assert problem(await redeem(other, code)) == (401, "link_unusable")
    assert (await renew(run, signed)).status_code == 200


async def test_a_new_link_and_a_new_browser_session_end_the_oldest_of_too_many(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser_sessions, "MOST_LINKS", 2)
    monkeypatch.setattr(browser_sessions, "MOST_BROWSER_SESSIONS", 2)
    theirs, their_code = await sign_in(run, "u2"), await link(run, "u2")
    signed = [await sign_in(run) for _ in range(3)]
    codes = [await link(run) for _ in range(3)]
    assert problem(await renew(run, signed[0])) == (401, "signed_out")
    assert problem(await redeem(run, codes[0])) == (401, "link_unusable")
    for each in (*signed[1:], theirs):
        assert (await renew(run, each)).status_code == 200
    for code in (*codes[1:], their_code):
        assert (await redeem(run, code)).status_code == 201


async def test_an_answer_says_so_when_nobody_knows_whether_the_user_is_signed_out(url: str) -> None:
    async with Cutter(url) as way, running(way.url) as run:
        signed = await sign_in(run)
        async with page(run, signed) as client:
            way.cut_answer_to(b"delete from app.browser_session")
            answer = await client.delete(f"{LIST}/{signed.browser_session_id}")
            assert problem(answer) == (503, "outcome_unknown")
            assert answer.json()["stored"] == "unknown"
            again = await client.delete(f"{LIST}/{signed.browser_session_id}")
            assert problem(again) == (404, "browser_session_not_found")


# What is stored -----------------------------------------------------------------------------------


async def test_only_digests_are_stored_and_what_has_expired_goes(
    url: str, run: LiveService
) -> None:
    signed, code = await sign_in(run), await link(run)
    stored = str([await rows(url, each) for each in ("sign_in_link", "browser_session", "audit")])
    assert "redeemLink" in stored, "the audit has who signed in"
    assert signed.browser_session_id in stored
    assert code not in stored
    assert signed.secret not in stored
    assert await browser_sessions.expire(run.service.pool, limit=100) == 0
    for table in ("sign_in_link", "browser_session"):
        await expire(url, table)
    assert await browser_sessions.expire(run.service.pool, limit=100) == 2
    assert await rows(url, "sign_in_link") == await rows(url, "browser_session") == []


async def test_the_service_may_change_nothing_of_a_link(run: LiveService) -> None:
    await link(run)
    with pytest.raises(Exception, match="permission denied"):
        async with service_transaction(run.service.pool) as connection:
            await connection.execute(b"update app.sign_in_link set user_id = 'u2'")
