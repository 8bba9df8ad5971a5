import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from domain.operations import fold
from domain.replies import CONTRACTS, check
from projections import PROJECTIONS
from projections.projection import verify
from service import database
from service.offline import Fault, OfflineModel
from tests.running import Running, Signed, events_of, running

LOCALES = ("en", "fr", "es", "ar")
MESSAGES = {
    "feature": "Add a login page",
    "question": "How does the cart work?",
    "fix": "Fix the error in the cart",
    "analysis": "Review the architecture",
    "general": "Hello there",
}


@pytest.fixture
async def run(url: str) -> AsyncIterator[Running]:
    async with running(url, first_text_seconds=1.5, next_text_seconds=0.4) as service:
        await service.project()
        await service.credit()
        yield service


def assert_lawful(events: list[tuple[str, Any, str]]) -> dict[str, Any]:
    """The protocol's rules, whatever the reply: returns its final envelope."""
    names = [name for name, _, _ in events]
    assert names[0] == "accepted"
    assert names[-1] == "final"
    assert names.count("final") == 1
    message_id = events[0][1]["messageId"]
    assert [each for _, _, each in events] == [
        f"{message_id}.{n}" for n in range(1, len(events) + 1)
    ]
    since = max([0, *(n for n, name in enumerate(names) if name == "reset")])
    assert names.count("reset") <= 1
    ops = [op for name, data, _ in events[since:] if name == "chunk" for op in data["ops"]]
    final: dict[str, Any] = events[-1][1]
    if final["subtype"] == "error":
        assert final["data"] is None
    else:
        assert fold(ops) == final["data"]
        assert "intent" in names[: names.index("chunk")]
    return final


async def assert_settled(run: Running, url: str, billed: int) -> None:
    """Nothing is held any more, what was billed is what was told, and all sums agree."""
    account = await run.account()
    assert (account["reservedSeconds"], account["consumedSeconds"]) == (0, billed)
    ready = (await run.client.get("/readyz")).json()
    assert {each["state"] for each in ready["projections"].values()} == {"live"}
    async with await database.connect(url, as_service=False) as owner:
        for projection in PROJECTIONS:
            assert await verify(owner, projection) == 0


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("mode", MESSAGES)
async def test_every_kind_of_reply_streams_by_the_rules(
    run: Running, mode: str, locale: str
) -> None:
    final = assert_lawful(await run.stream(MESSAGES[mode], locale=locale))
    assert (final["subtype"], final["mode"]) == ("success", mode)
    assert mode in CONTRACTS
    check(mode, final["data"])  # type: ignore[arg-type]


async def test_the_stream_says_how_it_wants_to_be_treated(run: Running) -> None:
    body = {"userId": "u1", "projectId": "p1", "message": "Hello"}
    headers = {"Accept": "text/event-stream"}
    async with run.client.stream("POST", "/v1/chat-plan", json=body, headers=headers) as answer:
        await answer.aread()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache, no-store, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["location"].startswith("/v1/chat-plan/replies/")
    assert answer.headers["x-request-id"]
    assert answer.text.startswith(": ")


async def test_json_is_the_same_envelope(run: Running) -> None:
    answer = await run.chat("Add a login page")
    streamed = assert_lawful(await run.stream("Add a login page"))
    assert answer.status_code == 200
    assert answer.json()["data"] == streamed["data"]
    assert set(answer.json()) == set(streamed)


async def test_when_the_final_is_there_everything_shows_it(run: Running) -> None:
    events = await run.stream("Add a login page")
    final = assert_lawful(events)
    session = (await run.client.get(f"/v1/chat-plan/session/{final['sessionId']}")).json()
    assert session["messageCount"] == 1
    assert session["billing"]["aiSeconds"] == final["metadata"]["billed_seconds"] == 1
    assert session["billing"]["costUsd"] == "0.000000"
    page = (await run.client.get("/v1/project/p1/timeline?userId=u1")).json()
    assert [item["kind"] for item in page["items"]] == ["reply", "user_message"]
    assert page["items"][0]["aiResponse"]["data"] == final["data"]
    assert page["items"][0]["aiResponse"]["text"] == final["data"]["summary"]
    assert (await run.account())["consumedSeconds"] == 1


FAULTS: dict[str, tuple[str, str, str | None, int]] = {
    # directive: subtype, its reason or error code, model calls
    "status code=429 retry_after=1 times=1": ("success", "", None, 2),
    "status code=429 retry_after=3600": ("error", "provider_busy", None, 1),
    "status code=500 times=1": ("success", "", None, 2),
    "status code=529": ("error", "provider_busy", None, 3),
    "status code=500": ("error", "provider_failed", None, 3),
    "status code=400": ("error", "provider_refused_request", None, 1),
    "status code=401": ("error", "provider_refused_request", None, 1),
    "cut_before times=1": ("success", "", None, 2),
    "cut after=8": ("partial", "provider_unreachable", None, 1),
    "eof after=8": ("partial", "provider_broke_off", None, 1),
    "eof after=0 times=1": ("success", "", None, 2),
    "eof stop=1": ("success", "", None, 1),
    "error_event after=8": ("partial", "provider_busy", None, 1),
    "error_event after=0 times=1": ("success", "", None, 2),
    "html times=1": ("success", "", None, 2),
    "bad_json after=8": ("partial", "provider_unreadable", None, 1),
    "bad_json after=0 times=1": ("success", "", None, 2),
    "refusal after=6": ("error", "refused", None, 1),
    "refusal": ("error", "refused", None, 1),
    "max_tokens": ("partial", "truncated", None, 1),
    "broken_contract times=1": ("success", "", None, 2),
    "broken_contract": ("partial", "broken_contract", None, 2),
    "hang after=8 ping=0.1": ("partial", "provider_silent", None, 1),
    "hang after=0 ping=0.1 times=1": ("success", "", None, 2),
    "prose": ("success", "", "unstructured_reply", 1),
    "fenced": ("success", "", None, 1),
    "odd": ("success", "", None, 1),
    "nul": ("success", "", None, 1),
    "no_usage": ("success", "", None, 1),
}


@pytest.mark.parametrize("directive", FAULTS)
async def test_every_fault_has_its_one_clear_end(run: Running, url: str, directive: str) -> None:
    subtype, why, warning, calls = FAULTS[directive]
    final = assert_lawful(await run.stream(f"[[offline: {directive}]] Add a login page"))
    assert final["subtype"] == subtype, final
    assert final.get("reason", final.get("error", {}).get("code", "")) == why
    assert final["metadata"]["warnings"] == ([warning] if warning else [])
    assert run.model.calls == calls
    billed = final["metadata"]["billed_seconds"]
    assert billed == (0 if subtype == "error" else 1)
    await assert_settled(run, url, billed)


async def test_a_long_wait_is_told_to_the_client(run: Running) -> None:
    final = assert_lawful(await run.stream("[[offline: status code=429 retry_after=3600]] Hi"))
    assert final["error"]["retryAfterSeconds"] == 3600


async def test_a_retry_before_the_first_operation_shows_only_a_notice(run: Running) -> None:
    events = await run.stream("[[offline: status code=529 times=1]] Add it")
    assert [data["code"] for name, data, _ in events if name == "notice"] == ["provider_retry"]
    assert assert_lawful(events)["subtype"] == "success"


async def test_odd_pieces_make_the_same_reply(run: Running) -> None:
    odd = assert_lawful(await run.stream("[[offline: odd]] Add a login page", locale="ar"))
    even = assert_lawful(await run.stream("Add a login page 🧵🧵", locale="ar"))
    assert odd["data"] == even["data"]


async def test_prose_becomes_markdown(run: Running) -> None:
    final = assert_lawful(await run.stream("[[offline: prose]] Add a login page"))
    assert final["mode"] == "general"
    assert set(final["data"]) == {"markdown"}


async def test_unknown_usage_is_not_zero(run: Running) -> None:
    final = assert_lawful(await run.stream("[[offline: no_usage]] Add a login page"))
    assert "tokens_used" not in final["metadata"]
    (entry,) = (await run.client.get("/v1/billing/accounts/u1/consumption")).json()["items"]
    assert "costUsd" not in entry


async def test_who_leaves_changes_nothing(url: str) -> None:
    async with running(url, OfflineModel(pace=0.02)) as run:
        await run.project()
        await run.credit()
        body = {"userId": "u1", "projectId": "p1", "message": "Add a login page"}
        headers = {"Accept": "text/event-stream"}
        async with run.client.stream("POST", "/v1/chat-plan", json=body, headers=headers) as answer:
            async for line in answer.aiter_lines():
                if line == "event: chunk":
                    break
        await asyncio.wait(list(run.service.turns._tasks), timeout=20)
        page = (await run.client.get("/v1/project/p1/timeline?userId=u1")).json()
        assert page["items"][0]["aiResponse"]["subtype"] == "success"
        assert run.model.aborted == 0
        await assert_settled(run, url, (await run.account())["consumedSeconds"])


async def test_a_second_message_brings_the_first_turn_along(run: Running) -> None:
    await run.stream("Add a login page")
    final = assert_lawful(await run.stream("And now?", locale="fr"))
    sent = run.model.requests[-1]
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["messages"][0]["content"][0]["text"] == "Add a login page"
    assert "cache_control" in sent["messages"][1]["content"][0]
    assert all("cache_control" in block for block in sent["system"])
    assert "Reply in fr." in sent["system"][1]["text"]
    assert sent["output_config"]["format"]["type"] == "json_schema"
    assert final["metadata"]["cache_hits"] > 0


async def stopped_in_the_middle(run: Running) -> dict[str, Any]:
    """Stop the service when the first chunk is there; the final envelope that still comes."""
    body = {"userId": "u1", "projectId": "p1", "message": "Add a login page"}
    headers = {"Accept": "text/event-stream"}
    text = ""
    async with run.client.stream("POST", "/v1/chat-plan", json=body, headers=headers) as answer:
        async for piece in answer.aiter_text():
            if "event: chunk" in piece and "event: chunk" not in text:
                run.server.handle_exit(15, None)
            text += piece
    return assert_lawful(events_of(text))


async def test_stopping_lets_replies_end(url: str) -> None:
    async with running(url, OfflineModel(pace=0.01), grace_seconds=10.0) as run:
        await run.project()
        await run.credit()
        assert (await stopped_in_the_middle(run))["subtype"] == "success"


async def test_stopping_cuts_what_cannot_end(url: str) -> None:
    script = [Fault("hang", after=8)]
    async with running(url, OfflineModel(script=script), grace_seconds=0.3) as run:
        await run.project()
        await run.credit()
        final = await stopped_in_the_middle(run)
        assert (final["subtype"], final["reason"]) == ("partial", "stopping")


async def test_the_meter_extends_and_ends_with_the_balance(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from domain import metering

    for mode in metering.ESTIMATES:
        monkeypatch.setitem(metering.ESTIMATES, mode, 1)
    async with running(url, OfflineModel(script=[Fault("hang", after=8)])) as run:
        await run.project()
        await run.credit(seconds=2)
        events = await run.stream("Add a login page")
        final = assert_lawful(events)
        assert (final["subtype"], final["reason"]) == ("partial", "balance")
        notices = [data["variables"]["reserved_seconds"] for n, data, _ in events if n == "notice"]
        assert notices == [1, 2]
        account = await run.account()
        assert (account["consumedSeconds"], account["availableSeconds"]) == (2, 0)


async def test_a_reply_has_a_longest_time(url: str) -> None:
    async with running(
        url, OfflineModel(script=[Fault("hang", after=8)]), reply_seconds=0.5
    ) as run:
        await run.project()
        await run.credit()
        final = assert_lawful(await run.stream("Add a login page"))
        assert (final["subtype"], final["reason"]) == ("partial", "time_limit")


@pytest.mark.parametrize(
    ("mode", "seconds"),
    [("question", 30), ("feature", 120), ("fix", 90), ("analysis", 180), ("general", 60)],
)
async def test_a_hint_decides_the_estimate(run: Running, mode: str, seconds: int) -> None:
    events = await run.stream("Hello", chatMode=mode)
    assert events[0][1]["reservedSeconds"] == seconds


async def test_other_clients_read_the_same(run: Running) -> None:
    """curl and httpx-sse, neither of them ours."""
    from httpx_sse import aconnect_sse

    body = b'{"userId":"u1","projectId":"p1","message":"Add a login page"}'
    url = f"{run.client.base_url}/v1/chat-plan"
    headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
    request = httpx.Request("POST", url, content=body, headers=headers)
    signed = next(Signed().auth_flow(request))
    arguments = [f"-H{name}: {value}" for name, value in signed.headers.items() if name != "host"]
    curl = await asyncio.create_subprocess_exec(
        "curl", "-sN", url, *arguments, "--data-binary", body, stdout=asyncio.subprocess.PIPE
    )
    read, _ = await curl.communicate()
    by_curl = assert_lawful(events_of(read.decode()))
    async with aconnect_sse(run.client, "POST", url, content=body, headers=headers) as source:
        seen = [(each.event, each.json(), each.id) async for each in source.aiter_sse()]
    assert assert_lawful(seen)["data"] == by_curl["data"]
