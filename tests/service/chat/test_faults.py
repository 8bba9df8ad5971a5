"""Every way in which the model can fail, and how the reply then ends: one table."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import pytest

from service.model.offline.replies import reply
from tests.running import LiveService, running
from tests.service import law

SAID = reply("general", "en", "Good morning")["response"]
ODD = reply("general", "en", "Good morning 🧵🧵")["response"]
NUL = reply("general", "en", "Good morning\ufffd")["response"]
RETRY = "provider_retry"


@dataclass(frozen=True)
class End:
    """The expected end of a reply. `code` is the reason of a partial or the code of an error.

    `notices` are the codes of notices and the reasons of resets. `data` is the expected data. With
    `begins`, a partial's prose is instead the beginning of the whole prose.
    """

    subtype: str
    code: str | None = None
    _: KW_ONLY
    calls: int = 1
    notices: tuple[str, ...] = ()
    data: Any = field(default_factory=lambda: SAID)
    begins: bool = True
    retry_after: float | None = None
    warnings: tuple[str, ...] = ()
    has_tokens: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


def success(**how: Any) -> End:
    return End("success", **how)


def partial(reason: str, **how: Any) -> End:
    return End("partial", reason, **{"has_tokens": False} | how)


def error(code: str, **how: Any) -> End:
    return End("error", code, **{"has_tokens": False} | how)


SILENCE = {"first_text_seconds": 2.0, "next_text_seconds": 1.0}

TABLE: dict[str, End] = {
    # The provider answers with an error: the service asks again while nothing was shown.
    "status code=429 retry_after=1 times=1": success(calls=2, notices=(RETRY,)),
    "status code=429 retry_after=3600": error("provider_busy", retry_after=3600.0),
    "status code=529": error("provider_busy", calls=3, notices=(RETRY, RETRY)),
    "status code=529 times=2": success(calls=3, notices=(RETRY, RETRY)),
    "status code=500 times=1": success(calls=2, notices=(RETRY,)),
    "status code=500 retry_after=0": error(
        "provider_failed", calls=3, notices=(RETRY, RETRY), retry_after=0.0
    ),
    "status code=400": error("provider_refused_request"),
    "status code=401": error("provider_refused_key"),
    "status code=403": error("provider_refused_key"),
    "status code=413": error("provider_refused_request"),
    # The connection or the stream ends before anything was shown.
    "cut_before times=1": success(calls=2, notices=(RETRY,)),
    "cut after=2 times=1": success(calls=2, notices=(RETRY,)),
    "eof times=1": success(calls=2, notices=(RETRY,)),
    "eof after=2 times=1": success(calls=2, notices=(RETRY,)),
    "error_event times=1": success(calls=2, notices=(RETRY,)),
    "bad_json times=1": success(calls=2, notices=(RETRY,)),
    "html times=1": success(calls=2, notices=(RETRY,)),
    "html": error("provider_broke_off", calls=3, notices=(RETRY, RETRY)),
    # The connection or the stream ends after a chunk: the shown part is kept and billed.
    "cut after=8": partial("provider_unreachable"),
    "eof after=8": partial("provider_broke_off"),
    "bad_json after=8": partial("provider_unreadable"),
    "error_event after=8": partial("provider_busy"),
    "error_event after=8 type=rate_limit_error": partial("provider_busy"),
    "error_event after=8 type=api_error": partial("provider_failed"),
    "error_event after=8 type=invalid_request_error": partial("provider_refused_request"),
    "max_tokens": partial("truncated", has_tokens=True),
    # All text and the stop reason came, but not the last event of the stream.
    "eof stop=1": success(),
    # Silence means silence of text: pings do not end it.
    "hang ping=0.05": error("provider_silent", settings={"first_text_seconds": 0.3}),
    "hang ping=0.05 times=1": success(calls=2, notices=(RETRY,), settings=SILENCE),
    "hang after=8 ping=0.05": partial("provider_silent", settings=SILENCE),
    "slow seconds=0.05": success(),
    "slow_first seconds=0.05": success(),
    # The model refuses.
    "refusal": error("refused", has_tokens=True),
    "refusal after=2": error("refused", has_tokens=True),
    "refusal after=8": error("refused", has_tokens=True, notices=("provider",)),
    # The answer has another form than the contract.
    "broken_contract times=1": success(calls=2, notices=("schema",)),
    "broken_contract": partial(
        "broken_contract",
        calls=2,
        notices=("schema",),
        data={"feasibility": "surely"},
        begins=False,
        has_tokens=True,
    ),
    "prose": success(warnings=("unstructured_reply",)),
    "fenced": success(),
    "odd": success(data=ODD),
    "nul": success(data=NUL),
    "wrong_language": success(),
    "no_usage": success(has_tokens=False),
}


@dataclass(frozen=True)
class Seen:
    """The events of one fault's reply, as its reader got them. A fault has its own project."""

    live: LiveService
    user_id: str
    events: list[law.Event] | BaseException


@pytest.fixture(scope="module")
async def seen(shared_url: str) -> AsyncIterator[dict[str, Seen]]:
    """Run all faults at once on one database, with a service for each kind of settings."""
    users = {fault: f"u{number}" for number, fault in enumerate(TABLE)}
    async with AsyncExitStack() as services:
        first = await services.enter_async_context(running(shared_url))
        for user in users.values():
            await first.project(f"p-{user}", user)
        lives: dict[str, LiveService] = {str({}): first}
        for end in TABLE.values():
            if str(end.settings) not in lives:
                service = running(shared_url, **end.settings)
                lives[str(end.settings)] = await services.enter_async_context(service)
        asked = {fault: lives[str(TABLE[fault].settings)] for fault in TABLE}
        for user in users.values():
            await first.credit(user)
        all_events = await asyncio.gather(
            *(
                live.stream(
                    f"Good morning [[offline: {fault}]]",
                    userId=users[fault],
                    projectId=f"p-{users[fault]}",
                )
                for fault, live in asked.items()
            ),
            return_exceptions=True,
        )
        yield {
            fault: Seen(live, users[fault], events)
            for (fault, live), events in zip(asked.items(), all_events, strict=True)
        }


@pytest.mark.parametrize("fault", TABLE)
async def test_every_model_fault_ends_its_reply_as_the_table_says(
    seen: dict[str, Seen], fault: str
) -> None:
    end, live, events = TABLE[fault], seen[fault].live, seen[fault].events
    assert not isinstance(events, BaseException), events
    final = law.lawful(events)
    assert final["subtype"] == end.subtype
    assert ends_with(final) == end.code
    if end.code == "provider_silent" and end.subtype == "error":
        # On a busy machine the patience for the first text can end before the first call.
        assert calls(live, fault) <= end.calls
    else:
        assert calls(live, fault) == end.calls
    assert notices(events) == end.notices
    assert final["metadata"]["warnings"] == list(end.warnings)
    assert ("tokens_used" in final["metadata"]) == end.has_tokens
    if end.subtype == "error":
        assert final["error"].get("retryAfterSeconds") == end.retry_after
    elif end.subtype == "partial" and end.begins:
        said, whole = final["data"]["markdown"], SAID["markdown"]
        assert said
        assert whole.startswith(said)
        assert said != whole
    else:
        assert final["data"] == end.data
    await law.stored(live, final)
    await law.billed(live, final, user_id=seen[fault].user_id)


async def test_every_read_model_equals_the_log_after_all_faults(
    seen: dict[str, Seen], shared_url: str
) -> None:
    for live in {id(each.live): each.live for each in seen.values()}.values():
        await law.healthy(live, shared_url)


async def test_every_reply_and_reservation_has_ended_after_all_faults(
    seen: dict[str, Seen], shared_url: str
) -> None:
    kinds = ("TimeReserved", "ReplyStarted", "UserMessagePosted")
    names = [name for name, _ in await law.logged(shared_url, *kinds)]
    assert {kind: names.count(kind) for kind in kinds} == dict.fromkeys(kinds, len(TABLE))
    ended = await law.logged(shared_url, "ReplyCompleted", "ReplyFailed")
    settled = await law.logged(shared_url, "TimeConsumed", "ReservationReleased")
    assert len(ended) == len(settled) == len(TABLE)
    errors = sum(end.subtype == "error" for end in TABLE.values())
    assert [name for name, _ in ended].count("ReplyFailed") == errors
    assert [name for name, _ in settled].count("ReservationReleased") == errors


@pytest.mark.parametrize("fault", ["status code=400", "cut after=8", "fenced"])
async def test_the_reply_as_json_ends_as_its_stream_does(url: str, fault: str) -> None:
    end = TABLE[fault]
    async with running(url) as live:
        await live.project()
        await live.credit()
        answer = await live.chat(f"Good morning [[offline: {fault}]]")
        assert answer.status_code == 200
        final = answer.json()
        law.whole(final)
        assert (final["subtype"], ends_with(final)) == (end.subtype, end.code)
        await law.ended_as_shown(live, url, final)


def calls(live: LiveService, fault: str) -> int:
    """The number of model calls with this fault's message."""
    texts = [body["messages"][-1]["content"] for body in live.model.requests]
    return sum(text.endswith(f"[[offline: {fault}]]") for text in texts)


def ends_with(final: law.Final) -> str | None:
    code = final["error"]["code"] if "error" in final else final.get("reason")
    return None if code is None else str(code)


def notices(events: list[law.Event]) -> tuple[str, ...]:
    """The codes of the notices and the reasons of the resets, in their order."""
    return tuple(
        data["code"] if name == "notice" else data["reason"]
        for name, data, _ in events
        if name in ("notice", "reset")
    )
