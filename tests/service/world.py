"""A tenant with resources of every kind. Each text has a word that no other tenant has."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.running import LiveService, Signed


@dataclass(frozen=True, slots=True)
class World:
    """A tenant: its word, its ids by kind, and a client that signs as the tenant."""

    client: httpx.AsyncClient
    word: str
    ids: dict[str, str]
    others: tuple[str, ...]
    """Further ids of the tenant, for a search in the answers to other tenants."""


@asynccontextmanager
async def two_worlds(
    run: LiveService, ours: str, theirs: str
) -> AsyncGenerator[tuple[World, World]]:
    """The tenants of both keys, each with its word."""
    one, two = await furnish(run, "k1", ours), await furnish(run, "k2", theirs)
    async with aclosing(one.client), aclosing(two.client):
        yield one, two


async def furnish(run: LiveService, key_id: str, word: str) -> World:
    """Make a project with a chat, a kept plan, a build of another plan, its reports and version,
    and a run that has ended."""
    client = httpx.AsyncClient(base_url=run.client.base_url, auth=Signed(key_id), timeout=60)
    user, project = f"user-of-{key_id}", f"project-of-{key_id}"
    await _done(
        client,
        "/v1/projects",
        projectId=project,
        name=f"{word} name",
        framework=f"{word} framework",
        members=[{"userId": user, "role": "owner"}],
    )
    await _done(
        client,
        "/v1/billing/credits",
        userId=user,
        seconds=36_000,
        kind="paid",
        reason=f"{word} why",
    )
    acting = {"userId": user, "projectId": project}
    built = await _done(client, "/v1/chat-plan", **acting, message=f"Add a {word} page")
    build = await _done(
        client, "/v1/chat-plan/convert-to-build", **acting, sessionId=built["sessionId"]
    )
    await _build(client, build["buildId"], word)
    kept = await _done(client, "/v1/chat-plan", **acting, message=f"Add a {word} menu")
    saved = await client.post(f"/v1/chat-plan/replies/{kept['messageId']}/save?userId={user}")
    assert saved.status_code == 200, saved.text
    path = f"/v1/chat-plan/replies/{kept['messageId']}/share"
    shared = await _done(client, path, userId=user)
    prompt = await _done(
        client, "/v1/prompts", **acting, name=f"{word} prompt", text=f"Sell {word} to {{{{who}}}}."
    )
    asked = await _done(client, "/v1/chat-plan", **acting, message=f"Why is {word} slow?")
    assert asked["sessionId"] == kept["sessionId"] != built["sessionId"]
    compared = await _done(client, "/v1/runs", **acting, title=f"{word} run")
    await _run(client, compared["runId"], word)
    receiver = f"receiver-of-{key_id}"
    ids = {
        "userId": user,
        "projectId": project,
        "sessionId": kept["sessionId"],
        "messageId": kept["messageId"],
        "buildId": build["buildId"],
        "promptId": prompt["promptId"],
        "share": shared["shareId"],
        "runId": compared["runId"],
        "browserSessionId": await _signed_in(client, user),
        "webhookId": (await _done(client, "/v1/webhooks", **_webhook(receiver)))["webhookId"],
    }
    others = (built["sessionId"], built["messageId"], asked["messageId"], f"v-{word}", receiver)
    return World(client, word, ids, others)


def _webhook(receiver: str) -> dict[str, str]:
    """A webhook of the tenant, for the events of all projects. No name server knows its
    receiver."""
    return {"url": f"https://{receiver}.invalid/", "description": f"{receiver} takes events"}


async def _signed_in(client: httpx.AsyncClient, user_id: str) -> str:
    """The id of a new browser session. Its user then has an unused link as well."""
    first, _ = [await _done(client, "/v1/links", userId=user_id) for _ in range(2)]
    page = {"Sec-Fetch-Site": "same-origin"}
    body = {"code": first["url"].partition("code=")[2]}
    answer = await client.post("/v1/browser-sessions", json=body, headers=page)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["browserSessionId"])


async def _build(client: httpx.AsyncClient, build_id: str, word: str) -> None:
    await _done(client, f"/v1/builds/{build_id}/claim", workerId="w1")
    report = {"at": "2026-11-20T10:00:00Z"}
    events = [
        {"eventId": "1", "phase": "development", "type": "progress", "title": f"{word} begun"},
        {
            "eventId": "2",
            "phase": "deploy",
            "type": "completed",
            "title": f"{word} done",
            "versionId": f"v-{word}",
            "previewUrl": f"https://example.test/{word}",
            "artifactUrl": f"https://example.test/{word}.tar",
        },
    ]
    await _done(client, f"/v1/builds/{build_id}/events", events=[report | each for each in events])


async def _run(client: httpx.AsyncClient, run_id: str, word: str) -> None:
    """A run that has ended, with a step and a candidate."""
    await _done(client, f"/v1/runs/{run_id}/claim", workerId="w1")
    report: dict[str, Any] = {"at": "2026-11-20T10:00:00Z", "title": f"{word} title"}
    events: list[dict[str, Any]] = [
        {"eventId": "1", "type": "step", "stepId": "s1", "output": f"{word} output"},
        {"eventId": "2", "type": "candidate", "candidateId": "c1", "data": {"of": word}},
        {"eventId": "3", "type": "succeeded", "summary": f"{word} summary"},
    ]
    await _done(client, f"/v1/runs/{run_id}/events", events=[report | each for each in events])


async def _done(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code < 300, answer.text
    return dict(answer.json())
