"""Exports of one session and of many: every format, forks, private sessions, long sessions."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import orjson
import pytest

from domain.deciders import session
from service.api.exports import PAGE
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import Transaction
from tests.running import LiveService, SharedService, Signed, problem, running
from tests.service import law
from tests.service.api.test_forks import appended, ask, forked, opened

LONG = 2_000
USERS = {"en": "User: u1", "fr": "Utilisateur : u1", "es": "Usuario: u1", "ar": "المستخدم"}


@pytest.fixture
async def run(shared_service: SharedService) -> AsyncIterator[LiveService]:
    async with shared_service.tenant() as started:
        await started.project("p1", "u1", "u2")
        await started.credit()
        yield started


async def export(run: LiveService, session_id: str, form: str, **asked: str) -> httpx.Response:
    params = {"userId": "u1", "format": form} | asked
    return await run.client.get(f"/v1/sessions/{session_id}/export", params=params)


async def export_many(run: LiveService, *session_ids: str, **asked: Any) -> list[Any]:
    body = {"userId": "u1", "sessionIds": session_ids} | asked
    answer = await run.client.post("/v1/sessions/export", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [orjson.loads(line) for line in answer.content.splitlines()]


async def talk(run: LiveService) -> dict[str, Any]:
    """A session s1 with an item of every kind; returns its reply."""
    await opened(run, "s1", "setup")
    await appended(run, "s1", "a1", role="user", text="We sell tea")
    await appended(run, "s1", "a2", role="assistant", text="Tea it is")

    async def give(transaction: Transaction) -> None:
        decision = partial(session.give_material, message_id="a3", kind="summary", text="Leaves")
        await transaction.decide(session_stream("s1", "p1"), decision)

    await run.service.transactions.transact(run.tenant_id, give)
    await run.chat("Add a page [[offline: refusal]]", sessionId="s1")
    return await ask(run, "Why is the cart slow?", sessionId="s1")


async def test_a_session_is_a_line_an_item(run: LiveService) -> None:
    reply = await talk(run)
    answer = await export(run, "s1", "ndjson")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert "session-s1.ndjson" in answer.headers["content-disposition"]
    lines = [orjson.loads(line) for line in answer.content.splitlines()]
    assert [(each["role"], each.get("text")) for each in lines] == [
        ("user", "We sell tea"),
        ("assistant", "Tea it is"),
        ("material", "Leaves"),
        ("user", "Add a page [[offline: refusal]]"),
        ("user", "Why is the cart slow?"),
        ("assistant", None),
    ]
    assert [each.get("source") for each in lines[:2]] == ["client", "client"]
    assert (lines[-1]["messageId"], lines[-1]["data"]) == (reply["messageId"], reply["data"])
    assert lines[-1]["inReplyTo"] == lines[-2]["messageId"]
    whole = (await export(run, "s1", "json")).json()
    assert whole["items"] == lines


@pytest.mark.parametrize("locale", USERS)
async def test_documents_name_the_roles_in_the_reader_s_language(
    run: LiveService, locale: str
) -> None:
    reply = await talk(run)
    for form, kind in (("markdown", "text/markdown"), ("text", "text/plain")):
        answer = await export(run, "s1", form, locale=locale)
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert answer.headers["content-language"] == locale
        assert USERS[locale] in answer.text
        said = ("We sell tea", "Tea it is", "Leaves", "cart slow", reply["data"]["answer"])
        places = [answer.text.index(each) for each in said]
        assert places == sorted(places)
        assert answer.text.count(" UTC") == 6


async def test_a_fork_is_exported_with_what_it_shares(run: LiveService) -> None:
    await opened(run, "s1", "setup")
    for name in ("apples", "pears"):
        await appended(run, "s1", name, role="user", text=f"Tell me of {name}")
    fork = await forked(run, "s1", "apples")
    await appended(run, fork, "figs", role="user", text="Tell me of figs")
    items = (await export(run, fork, "json")).json()["items"]
    assert [(each["sessionId"], each["messageId"]) for each in items] == [
        ("s1", "apples"),
        (fork, "figs"),
    ]
    await run.client.delete("/v1/sessions/s1?userId=u1")
    text = (await export(run, fork, "text")).text
    assert "figs" in text
    assert "apples" not in text


async def test_many_sessions_are_lines(run: LiveService) -> None:
    for name in ("s1", "s2"):
        await opened(run, name, "setup")
        for n in range(2):
            await appended(run, name, f"{name}-{n}", role="user", text=f'Say "{n}" in {name}')
    lines = await export_many(run, "s2", "nobody", "s1")
    assert [(each["exportedId"], each.get("messageId")) for each in lines] == [
        ("s2", "s2-0"),
        ("s2", "s2-1"),
        ("nobody", None),
        ("s1", "s1-0"),
        ("s1", "s1-1"),
    ]
    assert lines[2] == {"exportedId": "nobody", "code": "session_not_found"}
    whole = await export_many(run, "s1", "s2", format="json")
    assert [each["sessionId"] for each in whole] == ["s1", "s2"]
    assert [each["messageId"] for each in whole[1]["items"]] == ["s2-0", "s2-1"]
    for form in ("markdown", "text"):
        (line,) = await export_many(run, "s1", format=form)
        assert line["document"] == (await export(run, "s1", form)).text
        assert line["sessionId"] == "s1"
    body = {"userId": "u1", "sessionIds": ["s"] * 101}
    refused = await run.client.post("/v1/sessions/export", json=body)
    assert problem(refused) == (422, "invalid_request")


async def test_private_and_foreign_sessions_are_exported_for_nobody_else(
    run: LiveService,
) -> None:
    await opened(run, "private-s1", "prompt")
    await appended(run, "private-s1", "a1", role="user", text="Quillwort")
    assert "Quillwort" in (await export(run, "private-s1", "text")).text
    assert len(await export_many(run, "private-s1")) == 1
    refused = await export(run, "private-s1", "text", userId="u2")
    assert problem(refused) == (404, "session_not_found")
    missing = {"exportedId": "private-s1", "code": "session_not_found"}
    assert await export_many(run, "private-s1", userId="u2") == [missing]
    body = {"userId": "u1", "sessionIds": ["private-s1"]}
    foreign = await run.client.post("/v1/sessions/export", json=body, auth=Signed("k2"))
    assert orjson.loads(foreign.content) == missing


async def test_a_session_of_two_thousand_messages_is_exported_resumed_and_answered(
    url: str,
) -> None:
    async with running(url) as run:
        await run.project()
        await run.credit()
        await filled(run, LONG - 1)
        params = {"userId": "u1", "format": "ndjson"}
        path = "/v1/sessions/private-s1/export"
        async with run.client.stream("GET", path, params=params) as answer:
            assert "content-length" not in answer.headers
            lines = [orjson.loads(line) async for line in answer.aiter_lines()]
        assert [each["messageId"] for each in lines] == [str(n) for n in range(LONG - 1)]
        assert len(lines) > PAGE

    async with running(url) as later:
        path = "/v1/sessions/private-s1/messages"
        body = {"userId": "u1", "message": "The last word"}
        final = law.lawful(await later.stream_of(path, body))
        assert final["sessionId"] == "private-s1"
        told = later.model.requests[-1]["messages"]
        assert f"Word {LONG - 2}" in str(told), "the newest messages are told"
        newest = (await later.client.get(path, params={"userId": "u1", "limit": "2"})).json()
        assert [each["kind"] for each in newest["messages"]] == ["user_message", "reply"]
        assert problem(await later.client.post(path, json=body)) == (409, "session_full")


async def filled(run: LiveService, count: int) -> None:
    """A session private-s1 of mode prompt with so many messages of its user."""
    await opened(run, "private-s1", "prompt")

    async def fill(transaction: Transaction) -> None:
        for n in range(count):
            said = partial(session.append_message, message_id=f"{n}", role="user", locale="en")
            decision = partial(said, text=f"Word {n}")
            await transaction.decide(session_stream("private-s1", "p1"), decision)

    await run.service.transactions.transact(run.tenant_id, fill)
