"""Erased text is gone everywhere, and the log, the bills and the read models stay correct."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from domain.deciders import project, session
from domain.deciders.prompt import request_erasure
from projections import PROJECTIONS
from projections.projection import rebuild, verify
from scripts.schema import program
from service.eventlog.stream_ids import project_stream, prompt_stream, session_stream
from service.eventlog.transactions import Transaction
from service.model.offline.app import OfflineModel
from service.postgres.embedded import Server
from service.replies import directory
from tests.projections.generated import live, owning
from tests.projections.trouble import held
from tests.running import LiveService, problem, running
from tests.service import law, watching
from tests.service.chat.test_cancel import HANGS, begun
from tests.service.chat.test_recovery import ENDS_WITHIN
from tests.service.replicas import Reader, prepare, replicas
from tests.service.world import World, two_worlds

WORD, OTHER = "quillwort", "zygomorph"


@pytest.fixture
def run(bare: LiveService) -> LiveService:
    return bare


@pytest.fixture
async def worlds(run: LiveService) -> AsyncIterator[tuple[World, World]]:
    async with two_worlds(run, WORD, OTHER) as both:
        yield both


async def sessions_of(world: World) -> list[str]:
    return [world.others[0], world.ids["sessionId"]]


async def delete_session(world: World, session_id: str, **asked: str) -> httpx.Response:
    params = {"userId": world.ids["userId"]} | asked
    return await world.client.delete(f"/v1/chat-plan/session/{session_id}", params=params)


async def delete_project(world: World) -> httpx.Response:
    return await world.client.delete(f"/v1/projects/{world.ids['projectId']}")


def dumped(url: str) -> str:
    """The whole database as pg_dump writes it, with its hexadecimal values decoded to text."""
    dump = subprocess.run(
        [program("pg_dump"), url], check=True, capture_output=True, text=True
    ).stdout
    return re.sub(r"\\\\x((?:[0-9a-f]{2})+)", lambda each: _text(each[1]), dump)


def _text(digits: str) -> str:
    return bytes.fromhex(digits).decode(errors="replace")


async def bills(url: str) -> list[Any]:
    """The accounts and bills of all users."""
    async with owning(url) as owner:
        return [await live(owner, name) for name in ("accounts", "consumption")]


async def costs(url: str) -> tuple[int, Decimal]:
    """The total cost of the sessions."""
    async with owning(url) as owner:
        sums = "select sum(ai_seconds), sum(cost_usd) from app.sessions"
        row = await (await owner.execute(sums.encode())).fetchone()
    assert row is not None
    return row[0], row[1]


async def true_to_the_log(url: str) -> None:
    """Each read model equals the log, a rebuild changes nothing, and positions have no gap."""
    async with owning(url) as owner:
        for projection in PROJECTIONS:
            assert await verify(owner, projection) == 0, projection.name
            before = await live(owner, projection.name)
            await rebuild(owner, projection)
            assert await live(owner, projection.name) == before, projection.name
        counted = "select count(*) = max(position) from app.event"
        assert await (await owner.execute(counted.encode())).fetchone() == (True,)


async def test_erased_sessions_prompts_and_runs_are_gone_from_every_read(
    url: str, run: LiveService, worlds: tuple[World, World]
) -> None:
    ours, theirs = worlds
    before, cost = await bills(url), await costs(url)
    assert WORD in dumped(url), "the control"
    for session_id in await sessions_of(ours):
        answer = await delete_session(ours, session_id)
        assert answer.json() == {"sessionId": session_id}
        assert problem(await delete_session(ours, session_id)) == (404, "session_not_found")
    user, ids = {"userId": ours.ids["userId"]}, ours.ids
    path = f"/v1/prompts/{ids['promptId']}"
    assert (await ours.client.delete(path, params=user)).status_code == 200
    path = f"/v1/runs/{ids['runId']}"
    assert (await ours.client.delete(path, params=user)).status_code == 200
    for path in (
        f"/v1/runs/{ids['runId']}",
        f"/v1/runs/{ids['runId']}/steps",
        f"/v1/runs/{ids['runId']}/candidates",
        f"/v1/prompts/{ids['promptId']}",
        f"/v1/prompts/{ids['promptId']}/versions/1",
        f"/v1/chat-plan/session/{ids['sessionId']}",
        f"/v1/chat-plan/session/{ids['sessionId']}/export",
        f"/v1/chat-plan/replies/{ids['messageId']}",
        f"/v1/chat-plan/replies/{ids['messageId']}/stream",
        f"/v1/chat-plan/replies/{ids['messageId']}/export",
        f"/v1/builds/{ids['buildId']}",
        f"/v1/builds/{ids['buildId']}/events",
    ):
        assert (await ours.client.get(path, params=user)).status_code == 404, path
    for path, name in (
        (f"/v1/project/{ids['projectId']}/timeline?includeHidden=true", "items"),
        (f"/v1/projects/{ids['projectId']}/drafts", "drafts"),
        (f"/v1/projects/{ids['projectId']}/versions", "versions"),
        (f"/v1/builds?projectId={ids['projectId']}", "builds"),
        (f"/v1/projects/{ids['projectId']}/runs", "runs"),
    ):
        assert (await ours.client.get(path, params=user)).json()[name] == [], path
    events = (await ours.client.get("/v1/events?limit=1000")).json()["events"]
    said = [each["data"]["text"] for each in events if each["type"] == "UserMessagePosted"]
    assert set(said) == {""}
    assert [each["type"] for each in events].count("SessionDeleted") == 2
    assert (await bills(url), await costs(url)) == (before, cost)
    await true_to_the_log(url)
    left = dumped(url).replace(f"v-{WORD}", "")
    project_s = (f"{WORD} name", f"{WORD} framework", f"{WORD} why")
    for word in project_s:
        assert word in left, "the project itself was not erased"
        left = left.replace(word, "")
    assert WORD not in left
    assert OTHER in left
    assert (await theirs.client.get(f"/v1/builds/{theirs.ids['buildId']}")).status_code == 200


async def test_no_trace_of_a_project_s_text_is_left_in_the_database(
    url: str, server: Server, run: LiveService, worlds: tuple[World, World]
) -> None:
    """Neither in a dump nor, after a vacuum, in the files. The bills are unchanged."""
    ours, _ = worlds
    before, cost = await bills(url), await costs(url)
    assert in_files(url, server, WORD), "the control"
    answer = await delete_project(ours)
    assert answer.json() == {"projectId": ours.ids["projectId"]}
    assert problem(await delete_project(ours)) == (404, "project_not_found")
    again = {"projectId": ours.ids["projectId"], "name": "n", "members": [{"userId": "u1"}]}
    assert problem(await ours.client.post("/v1/projects", json=again)) == (409, "project_exists")
    for path in ("timeline", "timeline/stream"):
        seen = await ours.client.get(f"/v1/project/{ours.ids['projectId']}/{path}")
        assert problem(seen) == (404, "project_not_found")
    assert (await bills(url), await costs(url)) == (before, cost)
    await true_to_the_log(url)
    # A credit's reason belongs to the user's account, and a version's name is an id of its worker.
    kept = (f"v-{WORD}", f"{WORD} why")
    left = dumped(url)
    for word in kept:
        left = left.replace(word, "")
    assert WORD not in left
    async with owning(url) as owner:
        await owner.execute("vacuum full")
        await owner.execute("checkpoint")
    for said in (f"Add a {WORD} page", f"{WORD} name", f"{WORD} begun", f"example.test/{WORD}"):
        assert not in_files(url, server, said), said
    assert in_files(url, server, f"{WORD} why"), "the control"


@pytest.mark.parametrize("has_row", [False, True])
async def test_a_project_is_erased_whatever_a_read_model_has_of_it(
    url: str, run: LiveService, has_row: bool
) -> None:
    """The read model stands still before, or after, it gets a row of the session."""
    await run.project()
    opening = partial(
        session.open_session, session_id="s", project_id="p1", user_id="u1", name=WORD
    )

    async def begin(transaction: Transaction) -> None:
        await transaction.decide(session_stream("s", "p1"), opening)

    if has_row:
        await run.service.transactions.transact("t1", begin)
    async with held(url, "sessions"), asyncio.timeout(30):
        if not has_row:
            await run.service.transactions.transact("t1", begin)
        assert WORD in dumped(url), "the control"
        assert (await run.client.delete("/v1/projects/p1")).status_code == 200
    await run.project("p2")  # an append brings the read model up to the log
    assert WORD not in dumped(url)
    await true_to_the_log(url)


@pytest.mark.parametrize("of_prompt", [False, True])
async def test_a_session_that_is_opened_after_an_erasure_is_erased_too(
    url: str, run: LiveService, of_prompt: bool
) -> None:
    """A command has read the project, or the prompt, before, and its append comes late."""
    await run.project()
    asked = {"userId": "u1", "projectId": "p1", "name": "About us", "text": "Write about us."}
    prompt = (await run.client.post("/v1/prompts", json=asked)).json()
    version = prompt["version"]["promptVersionId"]
    used = session.UsedPrompt(prompt_id=prompt["promptId"], prompt_version_id=version, number=1)
    opening = partial(
        session.open_session, session_id="s", project_id="p1", user_id="u1", name=WORD
    )
    instructing = partial(session.instruct, prompt=used if of_prompt else None)
    has_read, may_append = asyncio.Event(), asyncio.Event()

    async def begin(transaction: Transaction) -> None:
        project.require_actor(await transaction.load(project_stream("p1")), "u1")
        await transaction.decide(session_stream("s", "p1"), opening)
        await transaction.decide(session_stream("s", "p1"), instructing)
        if transaction.is_fresh:
            has_read.set()
            await may_append.wait()

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        late = tasks.create_task(run.service.transactions.transact("t1", begin))
        await has_read.wait()
        path = f"/v1/prompts/{prompt['promptId']}?userId=u1" if of_prompt else "/v1/projects/p1"
        assert (await run.client.delete(path)).status_code == 200
        may_append.set()
        await late
        while WORD in dumped(url):
            await run.service.erasure.finish()
    state = await run.service.transactions.current("t1", session_stream("s"))
    assert state.status == "deleted"
    await true_to_the_log(url)


def in_files(url: str, server: Server, word: str) -> bool:
    """Whether the files of the database have the word."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("checkpoint")
        found = owner.execute(
            "select current_setting('data_directory'), oid from pg_database"
            " where datname = current_database()"
        ).fetchone()
    assert found is not None
    files = Path(found[0], "base", str(found[1])).iterdir()
    return any(word.encode() in each.read_bytes() for each in files)


async def test_a_running_reply_is_ended_first(url: str) -> None:
    async with running(url, OfflineModel(pace=0.02)) as run:
        await run.project()
        await run.credit()
        reply_id, reading = await begun(run, HANGS)
        session_id = (await run.client.get(f"/v1/chat-plan/replies/{reply_id}")).json()["sessionId"]
        path = f"/v1/chat-plan/session/{session_id}?userId=u1"
        assert (await run.client.delete(path)).status_code == 200
        final = law.lawful(await reading)
        assert final["subtype"] == "partial"
        assert (await run.account())["reservedSeconds"] == 0
        await true_to_the_log(url)


async def test_a_reply_whose_server_died_is_ended_first_too(url: str) -> None:
    async with replicas(url, OfflineModel(pace=0.05)) as servers:
        one, two = await servers.start(), await servers.start()
        await prepare(one, "p1")
        reader = Reader()
        reading = asyncio.create_task(reader.ask(one, f"Tell me of the {WORD}"))
        await reader.until("chunk")
        await one.kill()
        await reading
        assert (await two.client.delete("/v1/projects/p1")).status_code == 200
        account = (await two.client.get("/v1/billing/accounts/u1")).json()
        assert account["reservedSeconds"] == 0
    assert WORD not in dumped(url)
    await true_to_the_log(url)
    async with owning(url) as owner:
        left = await owner.execute("select frame from app.reply_chunk")
        assert await left.fetchall() == [(None,)], "the number of the next frame is occupied"


HANGING = f"About the {WORD} [[offline: hang after=8 ping=1]]"


@pytest.mark.parametrize("what", ["the session", "the project"])
async def test_erasing_at_two_servers_at_once_ends_the_streams_of_all_readers(
    url: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A server polls a reply of the other server too seldom to see the end before the erasure."""
    monkeypatch.setattr(directory, "POLL_SECONDS", 1.0)
    async with running(url) as one, running(url) as two:
        await one.credit()
        for project_id in ("p1", "p2", "p3"):
            await one.project(project_id)
            reply_id, reading = await begun(one, HANGING, projectId=project_id)
            reply = f"/v1/chat-plan/replies/{reply_id}"
            path = f"/v1/projects/{project_id}"
            if what == "the session":
                session_id = (await one.client.get(reply)).json()["sessionId"]
                path = f"/v1/chat-plan/session/{session_id}"
            async with (
                watching.opened(one, f"{reply}/stream") as here,
                watching.opened(two, f"{reply}/stream") as there,
                asyncio.timeout(ENDS_WITHIN),
            ):
                deleted = await asyncio.gather(*(each.client.delete(path) for each in (one, two)))
                assert {answer.status_code for answer in deleted} in ({200}, {200, 404})
                for stream in (here, there):
                    name, data, _ = (await stream.rest())[-1]
                    assert name == "final" or (name, data["reason"]) == ("goaway", "erased")
                await reading
        assert WORD not in dumped(url)
        await true_to_the_log(url)


async def test_a_project_is_not_erased_during_a_build(run: LiveService) -> None:
    await run.project()
    await run.credit()
    plan = (await run.chat("Add a page")).json()
    body = {"userId": "u1", "projectId": "p1", "sessionId": plan["sessionId"]}
    built = (await run.client.post("/v1/chat-plan/convert-to-build", json=body)).json()
    for path in (f"/v1/chat-plan/session/{plan['sessionId']}?userId=u1", "/v1/projects/p1"):
        assert problem(await run.client.delete(path)) == (409, "build_in_progress")
    reports = f"/v1/builds/{built['buildId']}/events"
    report = {"phase": "build", "type": "failed", "title": "No", "at": "2026-11-20T10:00:00Z"}
    await run.client.post(reports, json={"events": [report | {"eventId": "1"}]})
    assert (await run.client.delete("/v1/projects/p1")).status_code == 200
    late = await run.client.post(reports, json={"events": [report | {"eventId": "2"}]})
    assert problem(late) == (404, "build_not_found")


async def test_other_users_cannot_erase_a_session(run: LiveService) -> None:
    await run.project("p1", "u1", "u2")
    await run.credit()
    session_id = (await run.chat("Hello")).json()["sessionId"]
    path = f"/v1/chat-plan/session/{session_id}"
    other = await run.client.delete(path, params={"userId": "u2"})
    nobody = await run.client.delete(path, params={"userId": "u9"})
    assert problem(other) == problem(nobody) == (404, "session_not_found")
    assert (await run.client.get(path, params={"userId": "u2"})).status_code == 200
    assert (await run.client.delete(path)).status_code == 200, "the tenant's own service"


async def test_a_repeated_erasure_has_the_same_answer(run: LiveService) -> None:
    await run.project()
    await run.credit()
    session_id = (await run.chat("Hello")).json()["sessionId"]
    for path in (f"/v1/chat-plan/session/{session_id}?userId=u1", "/v1/projects/p1"):
        key = {"Idempotency-Key": path}
        first, again = [await run.client.delete(path, headers=key) for _ in range(2)]
        assert first.status_code == again.status_code == 200
        assert first.json() == again.json()
        assert first.headers["X-Log-Position"] == again.headers["X-Log-Position"]
        assert (await run.client.delete(path)).status_code == 404


async def test_an_erased_message_is_not_answered_again(run: LiveService) -> None:
    await run.project()
    await run.credit()
    body = {"userId": "u1", "projectId": "p1", "message": "Hello"}
    key = {"Idempotency-Key": "k"}
    session_id = (await run.client.post("/v1/chat-plan", json=body, headers=key)).json()[
        "sessionId"
    ]
    await run.client.delete(f"/v1/chat-plan/session/{session_id}?userId=u1")
    for accept in ("application/json", "text/event-stream"):
        again = await run.client.post("/v1/chat-plan", json=body, headers=key | {"Accept": accept})
        assert problem(again) == (404, "reply_not_found")
    assert run.model.calls == 1


async def test_an_interrupted_erasure_is_finished_later(
    url: str, run: LiveService, worlds: tuple[World, World]
) -> None:
    ours, theirs = worlds
    project_id = ours.ids["projectId"]

    async def close(transaction: Transaction) -> None:
        await transaction.decide(project_stream(project_id), project.request_erasure)

    await run.service.transactions.transact("t1", close)
    assert f"Add a {WORD} page" in dumped(url)
    assert await run.service.erasure.finish() == 1
    assert await run.service.erasure.finish() == 0
    assert f"Add a {WORD} page" not in dumped(url)
    state = await run.service.transactions.current("t1", project_stream(project_id))
    assert state == project.Project(project_id=project_id, is_erasing=True, is_erased=True)
    assert (await theirs.client.get("/v1/events")).status_code == 200


async def test_an_interrupted_erasure_of_a_prompt_is_finished_later(
    url: str, run: LiveService
) -> None:
    """The runs of all users that are made of it go with it, and their forks."""
    await run.project("p1", "u1", "u2")
    await run.credit("u2")
    mine, theirs = ({"userId": user, "projectId": "p1"} for user in ("u1", "u2"))
    asked = {**mine, "name": WORD, "text": f"Sell {WORD} to {{{{who}}}}."}
    prompt = (await run.client.post("/v1/prompts", json=asked)).json()
    version = {"mode": "prompt", "promptVersionId": prompt["version"]["promptVersionId"]}
    saved = theirs | version | {"values": {"who": WORD}, "settings": {"kind": WORD}}
    session = (await run.client.post("/v1/sessions", json=saved)).json()
    path = f"/v1/sessions/{session['sessionId']}"
    said = {"userId": "u2", "message": f"More {WORD}", "reply": False}
    message = (await run.client.post(f"{path}/messages", json=said)).json()
    forked = {"userId": "u2", "messageId": message["messageId"]}
    fork = (await run.client.post(f"{path}/fork", json=forked)).json()
    assert fork["prompt"] == {k: v for k, v in session["prompt"].items() if k != "values"}

    stream = prompt_stream(prompt["promptId"], "p1")

    async def close(transaction: Transaction) -> None:
        await transaction.decide(stream, request_erasure)

    await run.service.transactions.transact("t1", close)
    read = await run.client.get(f"/v1/prompts/{prompt['promptId']}", params={"userId": "u1"})
    assert problem(read) == (404, "prompt_not_found"), "it is closed at once"
    refused = await run.client.post("/v1/sessions", json=saved)
    assert problem(refused) == (404, "prompt_version_not_found")
    assert await run.service.erasure.finish() == 1
    assert await run.service.erasure.finish() == 0
    listed = await run.client.get("/v1/sessions", params={"userId": "u2", "status": "all"})
    assert listed.json()["sessions"] == []
    await true_to_the_log(url)
    assert WORD not in dumped(url)


async def test_a_session_that_is_only_about_an_erased_prompt_stays(run: LiveService) -> None:
    """A session about a prompt is a conversation of its own, and so is its fork."""
    await run.project("p1", "u1", "u2")
    mine, theirs = ({"userId": user, "projectId": "p1"} for user in ("u1", "u2"))
    asked = {**mine, "name": "Search", "text": "Find it."}
    prompt = (await run.client.post("/v1/prompts", json=asked)).json()
    about = theirs | {"mode": "idea", "context": {"promptId": prompt["promptId"]}}
    opened = (await run.client.post("/v1/sessions", json=about)).json()["sessionId"]
    said = {"userId": "u2", "message": "A better search", "reply": False}
    path = f"/v1/sessions/{opened}"
    message = (await run.client.post(f"{path}/messages", json=said)).json()["messageId"]
    forked = {"userId": "u2", "messageId": message}
    fork = (await run.client.post(f"{path}/fork", json=forked)).json()["sessionId"]
    erased = await run.client.delete(f"/v1/prompts/{prompt['promptId']}?userId=u1")
    assert erased.status_code == 200
    for session_id in (opened, fork):
        read = await run.client.get(f"/v1/sessions/{session_id}", params={"userId": "u2"})
        assert read.status_code == 200


async def test_watchers_are_notified_of_an_erasure_and_do_not_get_the_text_again(url: str) -> None:
    """On the erasing server and on another server. A reader that resumes later gets no text."""
    async with running(url) as one, running(url) as two:
        await one.project()
        await one.credit()
        session_id = (await one.chat(f"About the {WORD}")).json()["sessionId"]
        async with AsyncExitStack() as stack:
            watchers: list[watching.Stream] = []
            for server in (one, two):
                path = "/v1/project/p1/timeline/stream?userId=u1"
                answer = await stack.enter_async_context(server.client.stream("GET", path))
                stream = watching.Stream(answer)
                await stream.comment()
                watchers.append(stream)
            first = await one.client.get("/v1/project/p1/timeline?userId=u1")
            cursor = first.json()["items"][-1]["cursor"]
            deleted = await one.client.delete(f"/v1/chat-plan/session/{session_id}?userId=u1")
            assert deleted.status_code == 200
            for stream in watchers:
                name, data, _ = await stream.next()
                assert (name, data["sessionId"]) == ("erased", session_id)
            for server in (one, two):
                path = f"/v1/project/p1/timeline/stream?userId=u1&after={cursor}"
                async with server.client.stream("GET", path) as answer:
                    name, data, _ = await watching.Stream(answer).next()
                    assert (name, data["sessionId"]) == ("erased", session_id)
                live = await followed(server, "SessionDeleted")
                assert WORD not in live
                assert "UserMessagePosted" in live


async def test_a_reader_that_resumes_gets_no_text_of_a_closed_prompt(run: LiveService) -> None:
    """The prompt is closed, and not yet erased."""
    await run.project()
    before = await watching.head_cursor(run)
    async with watching.opened(run, since=before) as first:
        asked = {"userId": "u1", "projectId": "p1", "name": WORD, "text": f"Sell {WORD}."}
        prompt = (await run.client.post("/v1/prompts", json=asked)).json()
        assert WORD in str(await first.next()), "the control"
        stream = prompt_stream(prompt["promptId"], "p1")

        async def close(transaction: Transaction) -> None:
            await transaction.decide(stream, request_erasure)

        await run.service.transactions.transact(run.tenant_id, close)
        await watching.append(run, [watching.said("later")])
        await first.read(1)
        async with watching.opened(run, since=before) as again:
            assert WORD not in str(await again.next())


async def followed(server: LiveService, last: str) -> str:
    """The tenant's log as a live reader gets it, from the start to an event of the type `last`."""
    headers = {"Accept": "text/event-stream"}
    text = ""
    async with server.client.stream("GET", "/v1/events", headers=headers) as answer:
        async with asyncio.timeout(20):
            async for piece in answer.aiter_text():
                text += piece
                if f'"{last}"' in text:
                    return text
    raise AssertionError("it ended")


async def test_the_watchers_of_a_project_that_is_erased_are_cut(run: LiveService) -> None:
    await run.project()
    await run.credit()
    path = "/v1/project/p1/timeline/stream?userId=u1"
    async with run.client.stream("GET", path) as answer:
        stream = watching.Stream(answer)
        await stream.comment()
        assert (await run.client.delete("/v1/projects/p1")).status_code == 200
        assert (await stream.rest())[-1][:2] == ("goaway", {"reason": "removed"})
