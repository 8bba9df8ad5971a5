"""The page of the requirements is true: its calls exist, and the story of sessions is walked."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.app import OPERATIONS
from tests.documents import DOCS
from tests.running import LiveService, problem, running

PAGE = DOCS / "seeds.md"


def test_every_call_on_the_page_exists() -> None:
    named = set(re.findall(r"`((?:GET|POST|PATCH|PUT|DELETE) /[^`]+)`", PAGE.read_text()))
    assert named <= {f"{each.method} {each.path}" for each in OPERATIONS}
    assert len(named) > 10


@pytest.fixture
async def run(url: str) -> AsyncIterator[LiveService]:
    async with running(url) as started:
        await started.project()
        await started.credit()
        yield started


async def opened(run: LiveService, **asked: Any) -> dict[str, Any]:
    body = {"userId": "u1", "projectId": "p1", "mode": "plan", "reuse": True} | asked
    answer = await run.client.post("/v1/sessions", json=body)
    assert answer.status_code in (200, 201), answer.text
    session: dict[str, Any] = answer.json()
    return session


async def listed(run: LiveService) -> list[dict[str, Any]]:
    answer = await run.client.get("/v1/projects/p1/sessions", params={"userId": "u1"})
    sessions: list[dict[str, Any]] = answer.json()["sessions"]
    return sessions


async def said(run: LiveService, session_id: str) -> list[tuple[str, str]]:
    """The role and the text of each message of a session, oldest first."""
    path = f"/v1/sessions/{session_id}/messages"
    items = (await run.client.get(path, params={"userId": "u1"})).json()["messages"]
    return [
        ("user", each["userMessage"]["text"])
        if each["kind"] == "user_message"
        else ("assistant", each["aiResponse"]["text"])
        for each in items
        if each["kind"] in ("user_message", "assistant_message", "reply")
    ]


async def test_the_story_of_sessions(run: LiveService) -> None:
    """Open a project, chat in its default session, open a second one, switch, rename, delete."""
    first = await opened(run)
    assert await opened(run) == first, "a second visit finds the same session"
    path = f"/v1/sessions/{first['sessionId']}/messages"
    answer = await run.client.post(path, json={"userId": "u1", "message": "Add a login page"})
    assert answer.json()["subtype"] == "success"
    (message, reply) = await said(run, first["sessionId"])
    assert (message, reply[0]) == (("user", "Add a login page"), "assistant")

    second = await opened(run, reuse=False, name="Second thoughts", mode="setup")
    path = f"/v1/sessions/{second['sessionId']}/messages"
    for role, text in (("user", "How do I make a button?"), ("assistant", "With <button>.")):
        body = {"userId": "u1", "message": text, "role": role, "reply": False}
        assert (await run.client.post(path, json=body)).status_code == 201
    refused = await run.client.post(path, json=body | {"role": "robot"})
    assert problem(refused)[0] == 422
    assert await said(run, second["sessionId"]) == [
        ("user", "How do I make a button?"),
        ("assistant", "With <button>."),
    ]

    assert [each["name"] for each in await listed(run)] == ["Second thoughts", "Add a login page"]
    assert await said(run, first["sessionId"]) == [message, reply], "back to the first one"

    path = f"/v1/sessions/{second['sessionId']}"
    renamed = await run.client.patch(path, json={"userId": "u1", "name": "Buttons"})
    assert renamed.json()["name"] == "Buttons"
    assert (await run.client.delete(path, params={"userId": "u1"})).status_code == 200
    assert problem(await run.client.get(path, params={"userId": "u1"}))[0] == 404
    assert [each["sessionId"] for each in await listed(run)] == [first["sessionId"]]
    stranger = await run.client.get(path, params={"userId": "u9"})
    assert problem(stranger)[0] == 404


async def test_the_story_of_chats_about_a_run(run: LiveService) -> None:
    """A setup chat, an analysis chat about a run, and a what-if chat that branches off."""
    setup = await opened(run, mode="setup", name="Setup", reuse=False)
    about = {"runId": "run-12345678"}
    analysis = await opened(run, mode="analysis", name="Analysis: Run run-1234", context=about)
    assert (await opened(run, mode="analysis", context=about)) == analysis, "discuss it again"
    assert analysis["context"] == about
    path = f"/v1/sessions/{analysis['sessionId']}"
    body = {"userId": "u1", "message": "Why did candidate 2 win?"}
    reply = (await run.client.post(f"{path}/messages", json=body)).json()
    assert reply["sessionId"] == analysis["sessionId"]
    fork = {"userId": "u1", "messageId": reply["messageId"]}
    what_if = (await run.client.post(f"{path}/fork", json=fork)).json()
    assert what_if["mode"] == "what_if"
    assert await said(run, what_if["sessionId"]) == await said(run, analysis["sessionId"])
    modes = {each["sessionId"]: each["mode"] for each in await listed(run)}
    assert modes == {
        setup["sessionId"]: "setup",
        analysis["sessionId"]: "analysis",
        what_if["sessionId"]: "what_if",
    }
    about_run = await run.client.get(
        "/v1/projects/p1/sessions", params={"userId": "u1", "runId": "run-12345678"}
    )
    assert {each["sessionId"] for each in about_run.json()["sessions"]} == {
        analysis["sessionId"],
        what_if["sessionId"],
    }
