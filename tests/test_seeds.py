"""The page of the requirements is true: its calls exist, and the story of sessions is walked."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from scripts import run_engine
from service.app import OPERATIONS
from tests.documents import DOCS
from tests.running import KEYS, LiveService, problem, running

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


async def posted(run: LiveService, path: str, **body: Any) -> dict[str, Any]:
    answer = await run.client.post(path, json={"userId": "u1"} | body)
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def ask_for_run(run: LiveService, session_id: str, title: str) -> str:
    """Ask for a run from a session, and let the example engine do it; returns its id."""
    texts = {"candidates": ["Hello!", "Good morning", "Please come in!"]}
    asked = {"projectId": "p1", "sessionId": session_id, "title": title, "input": texts}
    queued = await posted(run, "/v1/runs", **asked)
    assert (queued["status"], queued["sessionId"]) == ("queued", session_id)
    key = KEYS["k1"].secret.get_secret_value()
    engine = run_engine.Service(str(run.client.base_url).rstrip("/"), "k1", key)
    await asyncio.to_thread(run_engine.work, engine, "engine-1", once=True)
    return str(queued["runId"])


async def runs_of(run: LiveService, **asked: Any) -> list[dict[str, Any]]:
    path = "/v1/projects/p1/runs"
    answer = await run.client.get(path, params={"userId": "u1"} | asked)
    found: list[dict[str, Any]] = answer.json()["runs"]
    return found


async def test_the_story_of_chats_and_runs(run: LiveService) -> None:
    """A setup chat, a run, an analysis chat about the run, a what-if chat, and another run."""
    setup = await opened(run, mode="setup", name="Setup", reuse=False)
    first = await ask_for_run(run, setup["sessionId"], "Greet a visitor")
    (row,) = await runs_of(run, sessionId=setup["sessionId"])
    assert (row["runId"], row["status"], row["workerId"]) == (first, "succeeded", "engine-1")
    assert (row["stepCount"], row["candidateCount"]) == (1, 3)
    assert "Please come in!" in row["summary"]

    discussed = await posted(run, f"/v1/runs/{first}/discuss")
    assert await posted(run, f"/v1/runs/{first}/discuss") == discussed, "discuss it again"
    path = f"/v1/sessions/{discussed['sessionId']}"
    analysis = (await run.client.get(path, params={"userId": "u1"})).json()
    assert (analysis["mode"], analysis["context"]) == ("analysis", {"runId": first})
    assert analysis["name"] == f"Analysis: Run {first[:8]}"
    reply = await posted(run, f"{path}/messages", message="Why did the last candidate win?")
    assert reply["sessionId"] == analysis["sessionId"]
    asked = str(run.model.requests[-1]["messages"])
    assert row["summary"] in asked, "the model knows the results of the run"
    assert "warmth" in asked, "with their scores"

    what_if = await posted(run, f"{path}/fork", messageId=reply["messageId"])
    assert what_if["mode"] == "what_if"
    assert await said(run, what_if["sessionId"]) == await said(run, analysis["sessionId"])
    await posted(
        run, f"/v1/sessions/{what_if['sessionId']}/messages", message="And what if we are brief?"
    )
    assert row["summary"] in str(run.model.requests[-1]["messages"]), "the fork knows them too"
    second = await ask_for_run(run, what_if["sessionId"], "Greet a visitor in a word")

    modes = {each["sessionId"]: each["mode"] for each in await listed(run)}
    assert modes == {
        setup["sessionId"]: "setup",
        analysis["sessionId"]: "analysis",
        what_if["sessionId"]: "what_if",
    }
    path = "/v1/projects/p1/sessions"
    about = (await run.client.get(path, params={"userId": "u1", "runId": first})).json()
    assert {each["sessionId"] for each in about["sessions"]} == {
        analysis["sessionId"],
        what_if["sessionId"],
    }
    assert [each["runId"] for each in await runs_of(run)] == [second, first]
    (later,) = await runs_of(run, sessionId=what_if["sessionId"], status="succeeded")
    assert later["runId"] == second
    path = "/v1/projects/p1/runs/summary"
    summary = (await run.client.get(path, params={"userId": "u1"})).json()
    assert (summary["counts"]["runs"], summary["counts"]["succeeded"]) == (2, 2)
    assert summary["bestScores"]["warmth"]["runId"] in (first, second)

    context = {"runId": second, "stepId": "collect"}
    feedback = await opened(run, mode="run_feedback", context=context)
    improved = await posted(
        run, f"/v1/sessions/{feedback['sessionId']}/messages", message="Too long."
    )
    assert "improvedPrompt" in improved["data"]
    assert "Greet a visitor in a word" in str(run.model.requests[-1]["messages"])


async def test_the_example_engine_leaves_a_run_that_was_cancelled(run: LiveService) -> None:
    queued = await posted(run, "/v1/runs", projectId="p1", title="Never mind")
    row = (await run.client.get(f"/v1/runs/{queued['runId']}")).json()
    await run.client.post(f"/v1/runs/{queued['runId']}/cancel", params={"userId": "u1"})
    key = KEYS["k1"].secret.get_secret_value()
    engine = run_engine.Service(str(run.client.base_url).rstrip("/"), "k1", key)
    await asyncio.to_thread(run_engine.work_on, engine, row)
    after = (await run.client.get(f"/v1/runs/{queued['runId']}")).json()
    assert (after["code"], after["candidateCount"]) == ("cancelled", 0)
