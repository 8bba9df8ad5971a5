"""A message is answered only if its user can pay for it: no account is ever overdrawn."""

import asyncio
from decimal import Decimal
from typing import Any

import httpx
import pytest

from domain import metering
from domain.metering import ESTIMATES, Usage, cost_of
from domain.modes import PLANNER
from tests.running import LiveService, SharedService, running
from tests.service import law

SECONDS = 600
PAID = SECONDS // ESTIMATES["general"]


async def all_sent(models: list[law.GatedModel], *sent: asyncio.Task[httpx.Response]) -> None:
    """Wait for the refusals; then let the model answer, and wait for the replies."""
    refused = asyncio.Event()
    waiting = len(sent) - PAID

    def count(_: object) -> None:
        nonlocal waiting
        waiting -= 1
        if waiting == 0:
            refused.set()

    for each in sent:
        each.add_done_callback(count)
    async with asyncio.timeout(30):
        await refused.wait()
    for model in models:
        model.go.set()
    await asyncio.gather(*sent)


async def accepted(answers: list[httpx.Response]) -> list[law.Final]:
    """The replies of the accepted messages, each checked against the law."""
    taken = [answer.json() for answer in answers if answer.status_code == 200]
    for final in taken:
        law.whole(final)
        assert final["subtype"] == "success"
    return taken


def is_refused(answer: httpx.Response, available: int = 0, needed: int = 60) -> bool:
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (problem["status"], problem["code"]) == (402, "insufficient_balance")
    assert problem["template"] == "insufficient_balance"
    assert problem["variables"] == {"needed_seconds": needed, "available_seconds": available}
    return answer.status_code == 402


async def test_only_the_affordable_messages_of_fifty_concurrent_ones_are_accepted(url: str) -> None:
    model = law.GatedModel()
    async with running(url, model) as live:
        await live.project()
        await live.credit(seconds=SECONDS)
        sent = [
            asyncio.create_task(live.chat(f"Good morning {n}", onBusy="enqueue")) for n in range(50)
        ]
        await all_sent([model], *sent)
        answers = [each.result() for each in sent]
        finals = await accepted(answers)
        refused = [answer for answer in answers if answer.status_code != 200]
        assert len(finals) == PAID
        assert len(refused) == 40
        assert all(map(is_refused, refused))
        assert live.model.calls == PAID
        await nothing_else_is_stored(live, url, finals)


async def test_two_services_on_one_database_share_one_balance(url: str) -> None:
    models = [law.GatedModel(), law.GatedModel()]
    async with running(url, models[0]) as one, running(url, models[1]) as other:
        await one.project()
        await one.credit(seconds=SECONDS)
        sent = [
            asyncio.create_task(live.chat(f"Good morning {n}", onBusy="enqueue"))
            for n in range(25)
            for live in (one, other)
        ]
        await all_sent(models, *sent)
        answers = [each.result() for each in sent]
        finals = await accepted(answers)
        refused = [answer for answer in answers if answer.status_code != 200]
        assert len(finals) == PAID
        assert all(map(is_refused, refused))
        assert sum(model.calls for model in models) == PAID
        await nothing_else_is_stored(one, url, finals)


async def nothing_else_is_stored(live: LiveService, url: str, finals: list[law.Final]) -> None:
    """The log and every read have the accepted messages, and no other messages."""
    kinds = ("UserMessagePosted", "TimeReserved", "ReplyStarted", "ReplyCompleted", "TimeConsumed")
    names = [name for name, _ in await law.logged(url, *kinds)]
    assert {kind: names.count(kind) for kind in kinds} == dict.fromkeys(kinds, len(finals))
    assert not await law.logged(url, "ReplyFailed", "ReservationReleased")
    for final in finals:
        await law.stored(live, final)
    await law.billed(live, *finals, credited=SECONDS)
    await law.healthy(live, url)


async def test_a_refused_message_leaves_no_trace(
    shared_service: SharedService,
) -> None:
    async with shared_service.tenant() as live:
        await live.project()
        await live.credit(seconds=59)
        head = live.service.live_log.head
        assert is_refused(await live.chat("Good morning"), available=59)
        answer = await live.client.post(
            "/v1/chat-plan",
            json={"userId": "u1", "projectId": "p1", "message": "Good morning"},
            headers={"Accept": "text/event-stream"},
        )
        assert is_refused(answer, available=59)
        assert await live.service.store.head() == head
        assert live.model.calls == 0
        timeline = await live.client.get("/v1/project/p1/timeline?includeHidden=true")
        assert timeline.json()["items"] == []
        await law.billed(live, credited=59)


async def test_an_account_without_credit_pays_for_nothing(
    shared_service: SharedService,
) -> None:
    async with shared_service.tenant() as live:
        await live.project()
        assert is_refused(await live.chat("Good morning"))


async def test_the_hint_decides_the_reservation_and_the_model_decides_the_bill(
    shared_service: SharedService,
) -> None:
    async with shared_service.tenant() as live:
        await live.project("p1", *PLANNER)
        for user_id in PLANNER:
            needed = ESTIMATES[user_id]
            hinted = {"userId": user_id, "chatMode": user_id}
            await live.credit(user_id, needed - 1)
            short = await live.chat("Good morning", **hinted)
            assert is_refused(short, available=needed - 1, needed=needed)
            await live.credit(user_id, 1)
            events = await live.stream("Good morning [[offline: prose]]", **hinted)
            final = law.lawful(events)
            assert events[0][1]["reservedSeconds"] == needed
            assert final["mode"] == "general"
            (entry,) = await law.ledger(live, user_id)
            assert entry["operationType"] == "plan_consultation"
            await law.billed(live, final, user_id=user_id, credited=needed)


async def test_every_mode_is_billed_under_its_own_name(
    shared_service: SharedService,
) -> None:
    said = {
        "How does it work?": "plan_question",
        "Add a search field": "plan_feature",
        "Fix the crash": "plan_fix",
        "Review the module": "plan_analysis",
        "Good morning": "plan_consultation",
    }
    async with shared_service.tenant() as live:
        await live.project()
        await live.credit()
        for message in said:
            law.lawful(await live.stream(message))
        entries = await law.ledger(live)
        assert [entry["operationType"] for entry in reversed(entries)] == list(said.values())


async def test_amounts_of_money_always_have_six_decimal_places(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sonnet = next(price for prefix, price in metering._PRICE_TABLE if prefix == "claude-sonnet")
    monkeypatch.setattr(metering, "_PRICE_TABLE", (("offline", sonnet),))
    async with running(url) as live:
        await live.project()
        await live.credit()
        finals = [law.lawful(await live.stream(f"Good morning {n}")) for n in range(2)]
        entries = await law.ledger(live)
        for entry in entries:
            assert entry["costUsd"] == str(cost_of("offline", usage_of(entry)).usd)
            assert Decimal(entry["costUsd"]).as_tuple().exponent == -6
            assert Decimal(entry["costUsd"]) > 0
        answer = await live.client.get(f"/v1/chat-plan/session/{finals[0]['sessionId']}")
        total = sum((Decimal(entry["costUsd"]) for entry in entries), Decimal(0))
        assert answer.json()["billing"]["costUsd"] == f"{total:.6f}"
        await law.ended_as_shown(live, url, *finals)


async def test_a_free_reply_and_a_reply_of_unknown_cost_are_different(
    shared_service: SharedService,
) -> None:
    async with shared_service.tenant() as live:
        await live.project()
        await live.credit()
        law.lawful(await live.stream("Good morning"))
        law.lawful(await live.stream("Good morning [[offline: no_usage]]"))
        unknown, free = await law.ledger(live)
        assert free["costUsd"] == "0.000000"
        assert "costUsd" not in unknown
        assert "outputTokens" not in unknown


def usage_of(entry: dict[str, Any]) -> Usage:
    return Usage(
        input_tokens=entry["inputTokens"],
        output_tokens=entry["outputTokens"],
        cache_read_tokens=entry["cacheReadTokens"],
        cache_write_tokens=entry["cacheWriteTokens"],
    )


async def test_members_of_a_shared_project_pay_separately(
    shared_service: SharedService,
) -> None:
    async with shared_service.tenant() as live:
        await live.project("p1", "u1", "u2")
        await live.credit("u1")
        final = law.lawful(await live.stream("Good morning"))
        assert is_refused(await live.chat("Good morning", userId="u2"))
        await live.credit("u2", 100)
        other = law.lawful(await live.stream("Good morning", userId="u2"))
        assert final["sessionId"] != other["sessionId"]
        await law.billed(live, final)
        await law.billed(live, other, user_id="u2", credited=100)
