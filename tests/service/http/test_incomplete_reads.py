"""An answer says which read models lack something of what it is about, whatever was asked for."""

import re
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from projections import PROJECTIONS
from service.app import OPERATIONS
from service.http.reads import INCOMPLETE
from service.postgres import connections
from tests.running import LiveService, running

SAYS_NOTHING: Final = frozenset(
    {
        # They show the log itself, the audit, or texts.
        *("readEvents", "readAudit", "getMessages"),
        # They answer what was decided, and read no row for that.
        *("postChatPlan", "postSessionMessage", "convertToBuild", "beginBuild", "reportBuild"),
        *("sharePlan", "revokeShare", "eraseSession", "deleteSession", "changeSessions"),
        *("registerProject", "putMember", "deleteMember", "deleteProject", "creditAccount"),
        "erasePrompt",
        *("createRun", "reportRun", "eraseRun"),
        # It answers with what it has just made, in a stream of its own.
        "createPrompt",
        "mintToken",
        # Their rows are in tables of their own, and no event made them.
        *("createWebhook", "listWebhooks", "changeWebhook", "removeWebhook"),
        *("listDeadLetters", "redeliver"),
        *("createLink", "redeemLink", "renewToken", "listBrowserSessions", "endBrowserSession"),
    }
)
"""The operations whose answers are made from no read model."""

BODIES: Final[dict[str, dict[str, Any]]] = {
    "openSession": {"userId": "{userId}", "projectId": "{projectId}", "mode": "idea"},
    "changeSession": {"userId": "{userId}", "starred": True},
    "exportSessions": {"userId": "{userId}", "sessionIds": ["{sessionId}", "none"]},
    "forkSession": {"userId": "{userId}", "messageId": "{messageId}"},
    "claimBuild": {"workerId": "w1"},
    "claimRun": {"workerId": "w1"},
    "discussRun": {"userId": "{userId}"},
    "describeProject": {"name": "Renamed"},
    "changePrompt": {"userId": "{userId}", "name": "Renamed"},
    "addPromptVersion": {"userId": "{userId}", "text": "t"},
    "instructSession": {"userId": "{userId}", "settings": {"temperature": 1}},
    "acceptImprovement": {"userId": "{userId}", "promptId": "{promptId}"},
}
OTHERS: Final = {
    "instructSession": {"sessionId": "savedId"},
    "acceptImprovement": {"messageId": "improvedId"},
}
"""The operations whose session or reply is of another kind, by the names of their ids."""

QUERIES: Final[dict[str, dict[str, str]]] = {
    "searchProject": {"q": "menu"},
    "diffPromptVersions": {"userId": "{userId}", "against": "1"},
    "listBuilds": {"projectId": "{projectId}"},
    "listUserSessions": {"userId": "{userId}"},
    "listProjects": {"userId": "{userId}"},
    "getEstimates": {"projectId": "{projectId}", "userId": "{userId}"},
}
ADDED: Final = {"addPromptVersion", "acceptImprovement"}
"""The operations that answer with a row which their own append has added."""
OF_ALL_PROJECTS: Final = {"listUserSessions", "listProjects", "listOpenRuns"}
"""Lists that tell of what is left out anywhere in the tenant."""


@pytest.fixture
async def run(url: str) -> AsyncIterator[LiveService]:
    async with running(url) as started:
        yield started


async def furnished(run: LiveService, project_id: str, user_id: str) -> dict[str, str]:
    """The ids of a project with a kept plan, a build, a prompt, a run, and sessions of other
    modes."""
    await run.project(project_id, user_id)
    await run.credit(user_id)
    plan = (await run.chat("Add a menu", projectId=project_id, userId=user_id)).json()
    order = {"userId": user_id, "projectId": project_id, "sessionId": plan["sessionId"]}
    built = (await run.client.post("/v1/chat-plan/convert-to-build", json=order)).json()
    reply = f"/v1/chat-plan/replies/{plan['messageId']}"
    await run.client.post(f"{reply}/save?userId={user_id}")
    acting = {"userId": user_id, "projectId": project_id}
    made = acting | {"name": "n", "text": "t"}
    prompt = (await run.client.post("/v1/prompts", json=made)).json()
    asked = (await run.client.post("/v1/runs", json=acting | {"title": "t"})).json()
    opened = [
        (await run.client.post("/v1/sessions", json=acting | {"mode": mode})).json()
        for mode in ("prompt", "idea")
    ]
    said = {"userId": user_id, "message": "Sell bees"}
    path = f"/v1/sessions/{opened[1]['sessionId']}/messages"
    improved = (await run.client.post(path, json=said)).json()
    link = (await run.client.post(f"{reply}/share", json={"userId": user_id})).json()
    return {
        "projectId": project_id,
        "userId": user_id,
        "sessionId": plan["sessionId"],
        "messageId": plan["messageId"],
        "buildId": built["buildId"],
        "link": link["url"],
        "promptId": prompt["promptId"],
        "runId": asked["runId"],
        "number": "1",
        "savedId": opened[0]["sessionId"],
        "improvedId": improved["messageId"],
    }


async def set_aside(url: str, ids: dict[str, str]) -> None:
    """Let every read model leave out the streams of a project and the account of its user."""
    streams = (
        (f"session-{ids['sessionId']}", ids["projectId"]),
        (f"session-{ids['savedId']}", ids["projectId"]),
        (f"prompt-{ids['promptId']}", ids["projectId"]),
        (f"run-{ids['runId']}", ids["projectId"]),
        (f"build-{ids['buildId']}", ids["projectId"]),
        (f"project-{ids['projectId']}", ids["projectId"]),
        (f"account-t1-{ids['userId']}", None),
    )
    async with await connections.connect(url, as_service=False) as owner:
        for projection in PROJECTIONS:
            for stream, project_id in streams:
                await owner.execute(
                    "insert into app.set_aside values (%s, 't1', %s, %s, 1, 'a test')",
                    (projection.name, stream, project_id),
                )
        await owner.execute("update app.projection set set_aside = %s", (len(streams),))


def filled(value: Any, ids: dict[str, str]) -> Any:
    """The value with its ids."""
    if isinstance(value, dict):
        return {name: filled(each, ids) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, ids) for each in value]
    return re.sub(r"{(\w+)}", lambda n: ids[n[1]], value) if isinstance(value, str) else value


async def told(run: LiveService, ids: dict[str, str], name: str) -> str | None:
    """What the answer of an operation says that it lacks."""
    (operation,) = (each for each in OPERATIONS if each.name == name)
    ids = ids | {each: ids[other] for each, other in OTHERS.get(name, {}).items()}
    query = QUERIES.get(name)
    if query is None:
        acting = "user_id" in getattr(operation.query, "model_fields", {})
        query = {"userId": "{userId}"} if acting else {}
    sent = run.client.stream(
        operation.method,
        filled(operation.path, ids),
        params=filled(query, ids),
        json=filled(BODIES.get(name), ids),
    )
    async with sent as answer:
        if answer.status_code >= 300:
            await answer.aread()
        assert answer.status_code < 300, (name, answer.text)
        lacks: str | None = answer.headers.get(INCOMPLETE)
        return lacks


def test_every_operation_names_its_read_models_or_has_none() -> None:
    assert {each.name for each in OPERATIONS if not each.reads} == SAYS_NOTHING


async def test_every_answer_from_a_read_model_tells_what_it_lacks(
    run: LiveService, url: str
) -> None:
    bad, good = await furnished(run, "p1", "u1"), await furnished(run, "p2", "u2")
    reading = [each for each in OPERATIONS if each.reads]
    reading.sort(key=lambda each: each.method != "GET")
    assert {await told(run, bad, each.name) for each in reading if each.method == "GET"} == {None}
    await set_aside(url, bad)
    await run.credit("u3")  # a replica that has this event has the streams set aside, too
    for each in reading:
        if each.name in ADDED:
            with pytest.raises(AssertionError, match="answer_missing"):
                await told(run, bad, each.name)
            continue
        names = ", ".join(sorted(projection.name for projection in each.reads))
        assert await told(run, bad, each.name) == names, each.name
        if each.name not in OF_ALL_PROJECTS:
            assert await told(run, good, each.name) is None, each.name
    assert (await run.client.get(bad["link"])).headers[INCOMPLETE] == "replies, shares"
    assert INCOMPLETE not in (await run.client.get(good["link"])).headers


async def test_a_fork_tells_that_the_session_it_left_lacks_something(
    run: LiveService, url: str
) -> None:
    ids = await furnished(run, "p1", "u1")
    body = filled(BODIES["forkSession"], ids)
    forked = await run.client.post(f"/v1/sessions/{ids['sessionId']}/fork", json=body)
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute(
            "insert into app.set_aside values ('timeline', 't1', %s, 'p1', 1, 'a test')",
            (f"session-{ids['sessionId']}",),
        )
        await owner.execute("update app.projection set set_aside = 1 where name = 'timeline'")
    await run.credit("u3")  # a replica that has this event has the stream set aside, too
    fork = ids | {"sessionId": forked.json()["sessionId"]}
    assert await told(run, fork, "getSessionMessages") == "timeline"
    assert await told(run, fork, "exportSessions") == "timeline"
    assert await told(run, fork, "readSession") is None
