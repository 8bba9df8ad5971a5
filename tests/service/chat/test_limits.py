"""Rate limits: exact over processes and restarts, in the headers, and free of cost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from domain.deciders.rate_limits import WINDOW
from domain.events import Event, MessageAdmitted, ReplyFailed, ReplyStarted, SessionOpened
from service.eventlog.stream_ids import project_stream, session_stream
from service.eventlog.transactions import decode
from service.model.offline.app import OfflineModel
from tests.projections.actions.append import new_events
from tests.running import LiveService, problem, running
from tests.service.eventlog.logs import everything, running_log
from tests.service.replicas import Replica, replicas

POLICY = '"user";q=3;w=3600, "project";q=4;w=3600'


@pytest.fixture
async def run(url: str) -> AsyncIterator[LiveService]:
    async with running(url, user_messages=3, project_messages=4) as started:
        await started.project("p1", "u1", "u2")
        await started.project("p2", "u1")
        for user in ("u1", "u2"):
            await started.credit(user)
        yield started


def seconds(answer: httpx.Response) -> list[int]:
    """The `t` of each limit in an answer's headers."""
    return [int(each.split("t=")[1]) for each in answer.headers["RateLimit"].split(", ")]


def remaining(answer: httpx.Response) -> list[int]:
    """The `r` of each limit in an answer's headers."""
    found = answer.headers["RateLimit"].split(", ")
    return [int(each.split("r=")[1].split(";")[0]) for each in found]


async def test_each_answer_has_the_number_of_remaining_messages(run: LiveService) -> None:
    for left in ([2, 3], [1, 2]):
        answer = await run.chat("Hello")
        assert answer.headers["RateLimit-Policy"] == POLICY
        assert remaining(answer) == left
        assert all(3_500 < each <= 3_600 for each in seconds(answer))
    async with run.client.stream(
        "POST",
        "/v1/chat-plan",
        json={"userId": "u1", "projectId": "p1", "message": "Hello"},
        headers={"Accept": "text/event-stream"},
    ) as streamed:
        assert remaining(streamed) == [0, 1]
        await streamed.aread()


async def test_a_message_above_the_limit_is_refused_and_stores_nothing(run: LiveService) -> None:
    for _ in range(3):
        assert (await run.chat("Hello")).status_code == 200
    head, account = await run.service.store.head(), await run.account()
    refused = await run.chat("Hello")
    assert problem(refused) == (429, "user_limit_reached")
    assert refused.headers["RateLimit-Policy"] == '"user";q=3;w=3600'
    assert remaining(refused) == [0]
    after = int(refused.headers["Retry-After"])
    assert 3_500 < after <= 3_600
    assert refused.json()["variables"]["retry_after_seconds"] == after == seconds(refused)[0]
    assert problem(await run.chat("Hello", projectId="p2")) == (429, "user_limit_reached")
    assert await run.service.store.head() == head
    assert await run.account() == account
    assert run.model.calls == 3


async def test_a_project_has_a_limit_of_its_own(run: LiveService) -> None:
    for user in ("u1", "u2", "u1", "u2"):
        assert (await run.chat("Hello", userId=user)).status_code == 200
    refused = await run.chat("Hello", userId="u2")
    assert problem(refused) == (429, "project_limit_reached")
    assert (await run.chat("Hello", projectId="p2")).status_code == 200


async def test_a_message_that_is_refused_for_another_reason_is_not_counted(
    run: LiveService,
) -> None:
    for wrong in ({"userId": "u2", "projectId": "p2"}, {"sessionId": "nobody-s"}):
        for _ in range(4):
            assert (await run.chat("Hello", **wrong)).status_code == 404
    assert remaining(await run.chat("Hello")) == [2, 3]


async def test_a_repeated_message_is_counted_once(run: LiveService) -> None:
    body = {"userId": "u1", "projectId": "p1", "message": "Hello"}
    key = {"Idempotency-Key": "k"}
    answers = [await run.client.post("/v1/chat-plan", json=body, headers=key) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    assert remaining(await run.chat("Hello")) == [1, 2]


async def append(url: str, stream_id: str, events: Sequence[Event], project_id: str) -> None:
    async with running_log(url) as log:
        known = await log.store.stream("t1", stream_id)
        last = known[-1].version if known else 0
        await log.writer.append(new_events("t1", stream_id, last, events, project_id))


async def test_the_window_of_a_limit_slides(url: str) -> None:
    """Two messages were admitted almost an hour ago, one of them a minute before the other."""
    now = datetime.now(UTC)
    taken = [
        MessageAdmitted(project_id="p1", user_id="u9", reply_id=f"m{n}", at=at.isoformat())
        for n, at in enumerate((now - WINDOW - timedelta(seconds=30), now - timedelta(minutes=59)))
    ]
    async with running(url) as first:
        await first.project()
        await first.credit()
    await append(url, str(project_stream("p1")), taken, "p1")
    async with running(url, project_messages=2) as run:
        assert remaining(await run.chat("Hello"))[1] == 0
        refused = await run.chat("Hello")
        assert problem(refused) == (429, "project_limit_reached")
        assert 0 < int(refused.headers["Retry-After"]) <= 60


async def test_a_session_without_tokens_left_is_followed_by_a_new_session(url: str) -> None:
    spent = "0193-spent"
    events: list[Event] = [
        SessionOpened(session_id=spent, project_id="p1", user_id="u1"),
        ReplyStarted(
            session_id=spent, reply_id="r1", in_reply_to="m1", model="x", reservation_id="h"
        ),
        ReplyFailed(
            session_id=spent,
            reply_id="r1",
            in_reply_to="m1",
            code="provider_error",
            duration_ms=1,
            tokens_used=100_000,
        ),
    ]
    async with running(url) as run:
        await run.project()
        await run.credit()
    await append(url, str(session_stream(spent)), events, "p1")
    async with running(url) as run:
        head = await run.service.store.head()
        refused = await run.chat("Hello", sessionId=spent)
        assert problem(refused) == (409, "session_tokens_spent")
        assert refused.json()["variables"] == {"limit": 100_000}
        assert await run.service.store.head() == head
        answer = await run.chat("Hello")
        assert answer.status_code == 200
        assert answer.json()["sessionId"] != spent


PROCESSES, CLIENTS = 4, 32
QUOTA = 20
USERS = ("u1", "u2", "u3")


async def test_a_limit_is_exact_over_processes_and_restarts(url: str) -> None:
    """128 clients at once, for three users of one project, send twice the allowed messages."""
    limits = {
        "THROUGHLINE_USER_MESSAGES": str(QUOTA),
        "THROUGHLINE_PROJECT_MESSAGES": str(2 * QUOTA),
    }
    async with replicas(url, OfflineModel(), **limits) as servers:
        started = [await servers.start() for _ in range(PROCESSES)]
        await furnish(started[0])
        answers = await asyncio.gather(
            *(ask(started[n % PROCESSES], USERS[n % 3]) for n in range(PROCESSES * CLIENTS))
        )
        found = Counter(answers)
        assert found[200] == 2 * QUOTA
        assert found[429] == PROCESSES * CLIENTS - 2 * QUOTA
        for server in started:
            await server.kill()
        again = await servers.start()
        for user in USERS:
            assert await ask(again, user) == 429
    events = await stored(url)
    by_user = Counter(event.user_id for event in events if isinstance(event, MessageAdmitted))
    assert sum(by_user.values()) == 2 * QUOTA
    assert max(by_user.values()) <= QUOTA
    kinds = Counter(type(event).__name__ for event in events)
    for kind in ("UserMessagePosted", "ReplyStarted", "TimeReserved"):
        assert kinds[kind] == 2 * QUOTA, kind


async def furnish(server: Replica) -> None:
    members = [{"userId": user, "role": "owner"} for user in USERS]
    known = {"projectId": "p1", "name": "A project", "members": members}
    (await server.client.post("/v1/projects", json=known)).raise_for_status()
    for user in USERS:
        credit = {"userId": user, "seconds": 36_000, "kind": "paid"}
        (await server.client.post("/v1/billing/credits", json=credit)).raise_for_status()


async def ask(server: Replica, user: str) -> int:
    """Post a message until it is admitted or refused. `onBusy` spares it a wait."""
    body: dict[str, Any] = {"userId": user, "projectId": "p1", "message": "Hello"}
    while True:
        answer = await server.client.post("/v1/chat-plan", json=body | {"onBusy": "enqueue"})
        if answer.status_code != 503:
            return answer.status_code


async def stored(url: str) -> list[Event]:
    async with running_log(url) as log:
        return [decode(each.type, each.state) for each in await everything(log.store)]
