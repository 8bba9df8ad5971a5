"""`POST /v1/chat-plan` without faults: its requests, its answers, and its stored events."""

import httpx
import pytest

from domain.replies.contracts import CONTRACTS, MAIN_TEXT, check
from tests.running import LiveService, events_of, problem
from tests.service import law

LOCALES = ("en", "fr", "es", "ar")
MESSAGES = {
    "feature": "Add a login page",
    "question": "How does the cart work?",
    "fix": "Fix the error in the cart",
    "analysis": "Review the architecture",
    "general": "Hello there",
}


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("mode", MESSAGES)
async def test_every_kind_of_reply_streams_by_the_law(
    shared: LiveService, mode: str, locale: str
) -> None:
    final = law.lawful(await shared.stream(MESSAGES[mode], locale=locale))
    assert (final["subtype"], final["mode"]) == ("success", mode)
    assert mode in CONTRACTS
    check(mode, final["data"])  # type: ignore[arg-type]


async def test_the_stream_has_headers_against_caching_and_buffering(run: LiveService) -> None:
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


@pytest.mark.parametrize("mode", MESSAGES)
async def test_a_client_may_ask_for_the_main_prose_alone(shared: LiveService, mode: str) -> None:
    body = {"userId": "u1", "projectId": "p1", "message": MESSAGES[mode]}
    headers = {"Accept": "text/event-stream"}
    answer = await shared.client.post("/v1/chat-plan?view=text", json=body, headers=headers)
    events = events_of(answer.text)
    final = events[-1][1]
    main = MAIN_TEXT[final["mode"]].removeprefix("/")
    assert (
        "".join(data["text"] for name, data, _ in events if name == "chunk") == final["data"][main]
    )
    whole = await shared.join(final["messageId"])
    assert [each for each in whole if each[0] != "chunk"] == [
        each for each in events if each[0] != "chunk"
    ]
    assert {at for _, _, at in events} <= {at for _, _, at in whole}


async def test_json_is_the_same_envelope(run: LiveService) -> None:
    answer = await run.chat("Add a login page")
    streamed = law.lawful(await run.stream("Add a login page"))
    assert answer.status_code == 200
    assert answer.json()["data"] == streamed["data"]
    assert set(answer.json()) == set(streamed)


async def test_every_view_shows_the_reply_when_its_final_event_has_come(run: LiveService) -> None:
    events = await run.stream("Add a login page")
    final = law.lawful(events)
    session = (await run.client.get(f"/v1/chat-plan/session/{final['sessionId']}")).json()
    assert session["messageCount"] == 1
    assert session["billing"]["aiSeconds"] == final["metadata"]["billed_seconds"] == 1
    assert session["billing"]["costUsd"] == "0.000000"
    page = (await run.client.get("/v1/project/p1/timeline?userId=u1")).json()
    assert [item["kind"] for item in page["items"]] == ["reply", "user_message", "system_message"]
    assert page["items"][0]["aiResponse"]["data"] == final["data"]
    assert page["items"][0]["aiResponse"]["text"] == final["data"]["summary"]
    assert (await run.account())["consumedSeconds"] == 1


async def test_a_second_message_includes_the_first_turn(run: LiveService) -> None:
    await run.stream("Add a login page")
    final = law.lawful(await run.stream("And now?", locale="fr"))
    sent = run.model.requests[-1]
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["messages"][0]["content"] == "Add a login page"
    assert "cache_control" in sent["messages"][1]["content"][0]
    assert all("cache_control" in block for block in sent["system"])
    assert "Reply in fr." in sent["system"][1]["text"]
    assert sent["output_config"]["format"]["type"] == "json_schema"
    assert final["metadata"]["cache_hits"] > 0


@pytest.mark.parametrize(
    ("mode", "seconds"),
    [("question", 30), ("feature", 120), ("fix", 90), ("analysis", 180), ("general", 60)],
)
async def test_a_hint_decides_the_estimate(run: LiveService, mode: str, seconds: int) -> None:
    events = await run.stream("Hello", chatMode=mode)
    assert events[0][1]["reservedSeconds"] == seconds


async def test_a_message_that_is_sent_again_goes_on_after_the_last_event_id(
    run: LiveService,
) -> None:
    body = {"userId": "u1", "projectId": "p1", "message": "Add a login page"}
    headers = {"Accept": "text/event-stream", "Idempotency-Key": "again"}

    async def post(**more: str) -> httpx.Response:
        return await run.client.post("/v1/chat-plan", json=body, headers=headers | more)

    first = await post()
    whole = events_of(first.text)
    assert first.text.startswith(": throughline\n\nretry: 1000\nid: ")
    cut = len(whole) // 2
    rest = await post(**{"Last-Event-ID": whole[cut][2]})
    assert events_of(rest.text) == whole[cut + 1 :]
    ended = await post(**{"Last-Event-ID": whole[-1][2]})
    assert (ended.status_code, ended.text) == (204, "")
    assert ended.headers["Location"] == first.headers["Location"]
    wrong = await post(**{"Last-Event-ID": "other.7"})
    assert problem(wrong) == (422, "bad_cursor")
    headers["Idempotency-Key"] = "new"
    new = await post(**{"Last-Event-ID": whole[cut][2]})
    assert events_of(new.text)[0][0] == "accepted", "a new message has no earlier event"
