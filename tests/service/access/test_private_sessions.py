"""A private session is as unknown to the other members of its project.

The tests call every route of the OpenAPI document as a second owner of the project, with the ids of
the first member's private session: with a browser's token, and by a key that names the second
owner. Each answer is the answer for an unknown id, and has nothing of the session.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final

import httpx
import pytest

from domain.modes import session_id
from service.app import OPERATIONS
from service.eventlog.store import NewEvent
from service.http.reads import INCOMPLETE
from service.ids import new_id
from tests.running import LiveService, problem, running
from tests.service import law
from tests.service.access.test_tenants import BODIES, IDS, Probe, ask, comparable, routes
from tests.service.talking import begun, path, said, say, streamed, texts
from tests.service.watching import append, opened

WORD: Final = "zygomorph"
PRIVATE: Final = ("sessionId", "messageId")
FOLLOWED: Final = {"streamTimeline"}
"""Streams without an end, which a test of their own reads."""
LAST: Final = ("beginBuild",)
"""Operations that change what the others answer. They are called last."""
OF_THE_TENANT: Final = {"getAccount", "getConsumption", "putMember", "deleteMember"}
"""Operations that name a user in their path. A key calls them for its tenant and for no user."""


@pytest.fixture
async def run(url: str) -> AsyncIterator[LiveService]:
    async with running(url) as started:
        await started.project("p1", "u1", "u2")
        await started.credit("u1")
        await started.credit("u2")
        yield started


async def browser(live: LiveService, user_id: str, **project: str) -> httpx.AsyncClient:
    """A client with a token of a user, for all projects unless a project is named."""
    asked = {"userId": user_id} | project
    token = (await live.client.post("/v1/tokens", json=asked)).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=live.client.base_url, headers=headers, timeout=60)


async def private_session(live: LiveService) -> dict[str, str]:
    """A private session of u1 with a reply, and the ids of both."""
    talk = await begun(live, "prompt", instructions=f"Speak of the {WORD}.")
    await say(live, talk, f"A {WORD} is a flower", reply=False)
    final = law.lawful(await streamed(live, talk, f"What is a {WORD}?"))
    assert WORD in final["data"]["markdown"]
    searched = {"q": WORD, "userId": "u1", "minPosition": str(await live.service.store.head())}
    found = await live.client.get("/v1/projects/p1/search", params=searched)
    assert found.json()["results"], "what others could find is in the read model"
    return {"sessionId": talk, "messageId": final["messageId"]}


async def ended_run(live: LiveService) -> str:
    """A run of u1 that has ended."""
    body = {"userId": "u1", "projectId": "p1", "title": "Compare"}
    run_id = str((await live.client.post("/v1/runs", json=body)).json()["runId"])
    cancelled = await live.client.post(f"/v1/runs/{run_id}/cancel", params={"userId": "u1"})
    assert cancelled.status_code == 200, cancelled.text
    return run_id


async def probes(live: LiveService) -> list[Probe]:
    """A request for each route; those that change what others answer come last."""
    found: list[Probe] = []
    for operation, method, where, query in await routes(live):
        if operation not in FOLLOWED:
            asked = tuple(name for name in query if name in IDS)
            taken = f"{where}{asked}{BODIES.get(operation, '')}"
            whose = {name: "private" for name in PRIVATE if name in taken}
            found.append(Probe(operation, method, where, asked, whose))
    return sorted(found, key=lambda probe: probe.operation in LAST)


async def test_another_member_finds_nothing_of_a_private_session_on_any_route(
    run: LiveService,
) -> None:
    ids = {"userId": "u2", "projectId": "p1", "buildId": new_id(), "share": new_id()}
    ids |= {"browserSessionId": new_id(), "promptId": new_id(), "webhookId": new_id()}
    ids["runId"] = await ended_run(run)
    private = ids | await private_session(run)
    absent = ids | {"sessionId": session_id("prompt", new_id()), "messageId": new_id()}
    named = {each.name: each for each in OPERATIONS}
    compared: set[str] = set()
    async with (
        await browser(run, "u2", projectId="p1") as narrow,
        await browser(run, "u2") as wide,
    ):
        tokens = (narrow, wide)
        for probe in await probes(run):
            names_user = "userId" in probe.query or "userId" in BODIES.get(probe.operation, {})
            if named[probe.operation].credential is not None:
                continue  # a key or a token opens nothing here
            callers = [*tokens]
            if names_user and probe.operation not in OF_THE_TENANT:
                callers.append(run.client)
            for client in callers:
                if client in tokens and not named[probe.operation].browsers:
                    refused = await ask(client, probe, private)
                    assert problem(refused) == (401, "not_authenticated"), probe
                    continue
                one = await ask(client, probe, private)
                assert one.status_code < 500, one.text
                assert one.status_code != 422, (probe, one.text)
                sent = str(one.request.url) + one.request.content.decode()
                hidden = [WORD, *(private[name] for name in PRIVATE if private[name] not in sent)]
                if probe.operation == "readAudit":
                    hidden = [WORD]  # because this answer repeats what the caller has asked
                assert [word for word in hidden if word in one.text + str(one.headers)] == [], probe
                if probe.whose:
                    two = await ask(client, probe, absent)
                    assert comparable(one, private) == comparable(two, absent), probe
                    compared.add(probe.operation)
    assert compared >= {
        "getSessionMessages",
        "postSessionMessage",
        "streamSession",
        "getReply",
        "joinReply",
    }
    assert compared >= {"postChatPlan", "exportSession", "deleteSession", "convertToBuild"}
    assert not named["readEvents"].browsers, "the log is for servers alone"


async def test_its_own_user_finds_it_where_a_session_is_read(run: LiveService) -> None:
    private = {"userId": "u1", "projectId": "p1"} | await private_session(run)
    seen: set[str] = set()
    async with await browser(run, "u1") as token:
        for probe in await probes(run):
            if probe.whose and probe.method == "GET" and probe.operation != "streamSession":
                answer = await ask(token, probe, private)
                assert answer.status_code == 200, (probe, answer.text)
                seen |= {probe.operation} if WORD in answer.text else set()
        assert {
            "getSessionMessages",
            "getReply",
            "joinReply",
            "exportReply",
            "exportSession",
        } <= seen
        newest = {"minPosition": str(await run.service.store.head())}
        found = await token.get("/v1/projects/p1/search", params={"q": WORD} | newest)
        listed = await token.get("/v1/projects/p1/sessions")
        for answer in (found, listed):
            assert private["sessionId"] in answer.text, "the control"
        pages = await token.get("/v1/project/p1/timeline", params={"includeHidden": "true"})
        assert pages.json()["items"] == [], "the project's timeline is what all members see"
    own = await say(run, private["sessionId"], "I go on", reply=False)
    assert own.status_code == 201
    whole = await run.client.get(path(private["sessionId"]))
    assert whole.json()["messages"], "and the tenant's own service sees it"


async def figures(live: LiveService, user_id: str | None) -> list[Any]:
    """What the project's figures and estimates say to a user, or to the tenant's own service."""
    asked: dict[str, Any] = {"userId": user_id} if user_id else {}
    span = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
    answers = [
        await live.client.get("/v1/projects/p1/analytics", params=span | asked),
        await live.client.get("/v1/estimates", params={"projectId": "p1"} | asked),
        await live.client.get("/v1/project/p1/timeline", params={"includeHidden": True} | asked),
        await live.client.get("/v1/projects/p1", params=asked),
    ]
    return [answer.json() for answer in answers]


async def test_the_figures_of_a_project_count_no_private_session_of_others(
    run: LiveService,
) -> None:
    await run.chat("Good morning")
    before = {user: await figures(run, user) for user in ("u1", "u2", None)}
    await private_session(run)
    assert await figures(run, "u2") == before["u2"]
    for user in ("u1", None):
        assert (await figures(run, user))[0] != before[user][0], "the control"
    async with await browser(run, "u2") as token:
        for where in ("", "/consumption"):
            refused = await token.get(f"/v1/billing/accounts/u1{where}")
            assert problem(refused) == (403, "token_of_another_user")


async def test_no_header_tells_of_a_private_session_that_cannot_be_read(run: LiveService) -> None:
    talk = await begun(run, "prompt")
    bad = NewEvent("t1", f"session-{talk}", 2, "ReplyCompleted", b'{"tokens_used":"many"}', "p1")
    await append(run, [bad])
    own = await run.client.get(path(talk), params={"userId": "u1"})
    assert own.headers[INCOMPLETE] == "timeline", "the control"
    for user in ("u1", "u2"):
        page = await run.client.get("/v1/project/p1/timeline", params={"userId": user})
        assert (page.status_code, INCOMPLETE in page.headers) == (200, False)


async def test_watchers_of_the_project_see_nothing_of_a_private_reply(url: str) -> None:
    """Of a reply that runs when they come, and of a reply that begins later; on both servers."""
    model = law.GatedModel()
    async with running(url, model) as one, running(url) as two:
        await one.project("p1", "u1", "u2")
        await one.credit()
        talk = await begun(one, "prompt")
        first = asyncio.create_task(streamed(one, talk, f"First {WORD}"))
        await model.asked.wait()
        async with AsyncExitStack() as stack:
            watchers = [
                await stack.enter_async_context(opened(live, userId=user, replies=True))
                for live in (one, two)
                for user in ("u1", "u2")
            ]
            own = await stack.enter_async_context(
                opened(two, f"/v1/sessions/{talk}/stream", userId="u1", replies=True)
            )
            model.go.set()
            private = {law.lawful(await first)["messageId"]}
            private.add(law.lawful(await streamed(one, talk, f"Next {WORD}"))["messageId"])
            public = law.lawful(await one.stream("Good morning"))["messageId"]
            for watched in watchers:
                events = await until_end(watched, {public})
                assert {data.get("messageId", public) for _, data, at in events if not at} == {
                    public
                }
                assert WORD not in str(events)
                assert not any(each in str(events) for each in (talk, *private))
            events = await until_end(own, private)
            assert {data["messageId"] for _, data, at in events if not at} == private
        assert f"Next {WORD}" in texts(await said(one, talk))


async def until_end(watched: Any, replies: set[str]) -> list[law.Event]:
    """The events up to the ends of these replies, and their items."""
    events: list[law.Event] = []
    wanted = {(name, each) for each in replies for name in ("final", "item")}
    while wanted:
        events.append(await watched.next())
        name, data, _ = events[-1]
        wanted.discard((name, data.get("messageId") if name == "final" else data.get("id")))
    return events
