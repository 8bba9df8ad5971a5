"""The requests to the model, as the model's server receives them from the real SDK."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import anthropic
import orjson
import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from domain.modes import PLANNER
from domain.replies.contracts import reply_schema
from domain.replies.questions import HINTS, RULES, Project, question
from service.app import key_fault
from service.model.client import ModelCall, ModelClient, ModelError
from service.model.offline.app import Fault, OfflineModel, serving
from service.model.offline.requests import parts
from service.settings import Settings
from tests.running import LiveService, SharedService, running
from tests.service import law
from tests.service.chat.test_faults import SAID, ends_with

MARK = {"type": "ephemeral"}


async def ready(live: LiveService) -> None:
    await live.project()
    await live.credit()


async def said(live: LiveService, message: str, **members: Any) -> law.Final:
    return law.lawful(await live.stream(message, **members))


def turns(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(turn["role"], parts(turn["content"])[0]["text"]) for turn in body["messages"]]


async def test_a_request_has_the_model_the_prompt_and_the_format(url: str) -> None:
    async with running(url, max_tokens=1_234) as live:
        await ready(live)
        await said(live, "Good morning")
        (body,) = live.model.requests
        assert body["model"] == "offline"
        assert body["max_tokens"] == 1_234
        assert body["stream"] is True
        assert body["output_config"] == {
            "format": {"type": "json_schema", "schema": reply_schema(PLANNER)}
        }
        assert body["system"] == [
            {"type": "text", "text": RULES, "cache_control": MARK},
            {
                "type": "text",
                "text": (
                    "Project: A project.\nFramework: unknown.\n"
                    "Current version: none, nothing was deployed yet.\nLast build: none.\n"
                    "Reply in en."
                ),
                "cache_control": MARK,
            },
        ]
        assert turns(body) == [("user", "Good morning")]
        assert "cache_control" not in parts(body["messages"][0]["content"])[0]


async def test_the_second_message_carries_the_first_turn_and_hits_the_cache(url: str) -> None:
    async with running(url) as live:
        await ready(live)
        first = await said(live, "Good morning")
        second = await said(live, "How does the login work?")
        third = await said(live, "Add a search field")
        assert first["sessionId"] == second["sessionId"] == third["sessionId"]
        one, two, three = live.model.requests
        answer = {"intent": "general", "response": SAID}
        assert turns(two)[:1] == turns(one)
        assert turns(two)[1][0] == "assistant"
        assert orjson.loads(turns(two)[1][1]) == answer
        assert turns(two)[2:] == [("user", "How does the login work?")]
        assert turns(three)[:3] == turns(two)
        # The prefix that the next request shares with this one: everything before its message.
        for body in (two, three):
            marked = ["cache_control" in parts(turn["content"])[0] for turn in body["messages"]]
            assert marked == [False] * (len(marked) - 2) + [True, False]
        hits = [final["metadata"]["cache_hits"] for final in (first, second, third)]
        assert hits[0] == 0
        assert 0 < hits[1] < hits[2]
        await law.ended_as_shown(live, url, first, second, third)


async def test_users_share_the_cache_of_their_project(url: str) -> None:
    async with running(url) as live:
        await live.project("p1", "u1", "u2")
        await live.credit("u1")
        await live.credit("u2")
        await said(live, "Good morning")
        final = await said(live, "Good evening", userId="u2")
        assert final["metadata"]["cache_hits"] > 0
        assert turns(live.model.requests[-1]) == [("user", "Good evening")]


async def test_a_reply_that_failed_is_not_in_the_history(url: str) -> None:
    async with running(url) as live:
        await ready(live)
        first = await said(live, "Good morning")
        failed = await said(live, "Good grief [[offline: status code=400]]")
        assert ends_with(failed) == "provider_refused_request"
        await said(live, "Good evening")
        body = live.model.requests[-1]
        assert [role for role, _ in turns(body)] == ["user", "assistant", "user"]
        assert "Good grief" not in orjson.dumps(body).decode()
        assert first["data"] == orjson.loads(turns(body)[1][1])["response"]


async def test_the_history_keeps_to_its_budget(url: str) -> None:
    size = len("Good morning") + len(orjson.dumps({"intent": "general", "response": SAID}))
    async with running(url, history_tokens=size // 4 + 20) as live:
        await ready(live)
        for message in ("Good morning", "Good day", "Good evening"):
            await said(live, message)
        third = turns(live.model.requests[-1])
        assert [text for role, text in third if role == "user"] == ["Good day", "Good evening"]


async def test_without_a_budget_every_message_stands_alone(url: str) -> None:
    async with running(url, history_tokens=0) as live:
        await ready(live)
        await said(live, "Good morning")
        await said(live, "Good evening")
        assert turns(live.model.requests[-1]) == [("user", "Good evening")]


async def test_the_language_is_asked_for(url: str) -> None:
    async with running(url) as live:
        await ready(live)
        for locale in ("en", "fr", "es-MX", "ar-EG", "AR_eg"):
            final = await said(live, "Good morning", locale=locale)
            language = locale[:2].lower()
            asked = live.model.requests[-1]["system"][1]["text"]
            assert asked.endswith(f"\nReply in {language}.")
            assert (final["data"] == SAID) == (language == "en")


async def test_the_hint_is_passed_on_and_the_model_decides(url: str) -> None:
    async with running(url) as live:
        await ready(live)
        message = "Add a search field [[offline: prose]]"
        final = await said(live, message, chatMode="question")
        assert turns(live.model.requests[0])[0][1] == f"{HINTS['question']}\n\n{message}"
        assert final["mode"] == "general"


async def test_the_model_gets_no_secrets_of_the_project(url: str) -> None:
    async with running(url) as live:
        await ready(live)
        final = await said(live, "Good morning")
        sent = orjson.dumps(live.model.requests[0]).decode()
        for inner in ("u1", "t1", "p1", final["sessionId"], final["messageId"]):
            assert f'"{inner}"' not in sent


# Strange answers of a model ----------------------------------------------------------------------


def raw(text: str, *more: str) -> Fault:
    return Fault("raw", pieces=(text, *more))


GENERAL = '{"intent":"general","response":{"markdown":"Hello'

STRANGE: dict[str, Fault] = {
    "nothing at all": Fault("raw", pieces=()),
    "an unknown intent": raw('{"intent":"riddle","response":{"a":"b"}}'),
    "an intent that is no word": raw('{"intent":1,"response":{}}'),
    "no response": raw('{"intent":"general"}'),
    "an empty response": raw('{"intent":"general","response":{}}'),
    "the response first": raw('{"response":{"markdown":"a"},"intent":"x"}'),
    "half of an answer": raw(GENERAL),
    "two answers": raw(GENERAL + '"}}', GENERAL + '"}}'),
    "a member too many": raw(GENERAL + '","b":1}}'),
    "a member twice": raw(GENERAL, '","markdown":"b"}}'),
    "the other mode's response": raw('{"intent":"fix","response":{"markdown":"a"}}'),
    "depths": raw('{"intent":"general","response":' + '{"a":' * 40),
}


async def test_a_strange_answer_is_requested_once_more(url: str) -> None:
    script = [each for fault in STRANGE.values() for each in (fault, Fault("normal"))]
    async with running(url, OfflineModel(script=script), history_tokens=0) as live:
        await ready(live)
        finals = []
        for number, answer in enumerate(STRANGE):
            finals.append(await said(live, "Good morning"))
            assert (finals[-1]["subtype"], finals[-1]["data"]) == ("success", SAID), answer
            assert live.model.calls == 2 * (number + 1), answer
        await law.ended_as_shown(live, url, *finals)


async def test_a_strange_answer_given_twice_breaks_the_contract(url: str) -> None:
    script = [each for fault in STRANGE.values() for each in (fault, fault)]
    async with running(url, OfflineModel(script=script), history_tokens=0) as live:
        await ready(live)
        finals = []
        for number, answer in enumerate(STRANGE):
            finals.append(await said(live, "Good morning"))
            assert finals[-1]["subtype"] in ("partial", "error"), answer
            assert ends_with(finals[-1]) == "broken_contract", answer
            assert live.model.calls == 2 * (number + 1), answer
        await law.ended_as_shown(live, url, *finals)


async def test_the_response_may_come_before_the_intent(url: str) -> None:
    answer = raw('{"response":{"markdown":"Hel', 'lo"},"intent":"general"}')
    async with running(url, OfflineModel(script=[answer])) as live:
        await ready(live)
        final = await said(live, "Good morning")
        assert (final["subtype"], final["data"]) == ("success", {"markdown": "Hello"})
        await law.ended_as_shown(live, url, final)


# Strange streams of a server ---------------------------------------------------------------------


def sse(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def text_of(text: str) -> bytes:
    return sse("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def ended(**usage: Any) -> bytes:
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    return sse("message_delta", delta=delta, usage=usage) + sse("message_stop")


USAGE = {"input_tokens": 1, "output_tokens": 1}
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "offline", "content": []}
BEGUN = sse("message_start", message={**MESSAGE, "stop_reason": None, "usage": USAGE})
SHOWN = BEGUN + text_of(GENERAL)
BAD_BYTES = b'event: content_block_delta\ndata: {"type": "content_block_delta", "\xff"}\n\n'


class Says(OfflineModel):
    """A server that answers every request with the same bytes, as an event stream."""

    def __init__(self, stream: bytes) -> None:
        super().__init__()
        self.stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the whole request, then answer."""
        self.calls += 1
        await Request(scope, receive).body()
        await Response(self.stream, media_type="text/event-stream")(scope, receive, send)


IGNORED: dict[str, bytes] = {
    "an event of a new type": SHOWN + sse("brand_new", more=1) + text_of('"}}') + ended(),
    "a delta of a new type": SHOWN
    + sse("content_block_delta", index=0, delta={"type": "brand_new"})
    + text_of('"}}')
    + ended(),
    "a delta without a text": SHOWN
    + sse("content_block_delta", index=0, delta={"type": "text_delta"})
    + text_of('"}}')
    + ended(),
    "no usage at all": SHOWN + text_of('"}}') + ended(),
    "tokens in words": SHOWN + text_of('"}}') + ended(output_tokens="many"),
    "a part of a token": SHOWN + text_of('"}}') + ended(output_tokens=1.5),
    "more tokens than there are": SHOWN + text_of('"}}') + ended(output_tokens=2**40),
}

UNREADABLE: dict[str, bytes] = {
    "bytes that are no text": BAD_BYTES,
    "a text that is no string": sse(
        "content_block_delta", index=0, delta={"type": "text_delta", "text": 5}
    ),
    "a start without a message": sse("message_start"),
    "an end that does not say how": sse("message_delta", delta=None),
}


@pytest.mark.parametrize("strange", IGNORED)
async def test_odd_events_do_not_cost_a_whole_reply(
    shared_service: SharedService, shared_url: str, strange: str
) -> None:
    async with shared_service.tenant(Says(IGNORED[strange])) as live:
        await ready(live)
        final = await said(live, "Good morning")
        assert (final["subtype"], final["data"]) == ("success", {"markdown": "Hello"})
        await law.ended_as_shown(live, shared_url, final)


@pytest.mark.parametrize("strange", UNREADABLE)
async def test_text_before_an_unreadable_event_is_kept(
    shared_service: SharedService, shared_url: str, strange: str
) -> None:
    async with shared_service.tenant(Says(SHOWN + UNREADABLE[strange])) as live:
        await ready(live)
        final = await said(live, "Good morning")
        assert (final["subtype"], final["data"]) == ("partial", {"markdown": "Hello"})
        assert final["reason"] == "provider_unreadable"
        await law.ended_as_shown(live, shared_url, final)


async def test_an_unreadable_event_at_the_start_is_tried_again(url: str) -> None:
    async with running(url, Says(BEGUN + BAD_BYTES)) as live:
        await ready(live)
        final = await said(live, "Good morning")
        assert ends_with(final) == "provider_unreadable"
        assert live.model.calls == 3
        await law.ended_as_shown(live, url, final)


# Time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["inf", "1e300", "-1e300", "nan", "soon"])
async def test_a_busy_provider_with_an_absurd_retry_after_is_busy(
    shared_service: SharedService, shared_url: str, header: str
) -> None:
    async with shared_service.tenant(Busy(header)) as live:
        await ready(live)
        final = await said(live, "Good morning")
        assert ends_with(final) == "provider_busy"
        waits = {"inf": 86_400, "1e300": 86_400, "-1e300": 0}
        assert final["error"].get("retryAfterSeconds") == waits.get(header)
        await law.ended_as_shown(live, shared_url, final)


class Busy(OfflineModel):
    """A server that is busy, and says for how long in its own way."""

    def __init__(self, retry_after: str) -> None:
        super().__init__()
        self.retry_after = retry_after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request."""
        body = {"type": "error", "error": {"type": "rate_limit_error", "message": "Busy."}}
        headers = {"retry-after": self.retry_after}
        answer = Response(orjson.dumps(body), 429, headers, "application/json")
        await answer(scope, receive, send)


async def test_the_time_of_the_caller_is_no_silence_of_the_provider() -> None:
    async with serving(OfflineModel()) as model_url, asking(model_url, seconds=0.3) as client:
        call, text = ModelCall(), ""
        async with aclosing(client.ask(QUESTION, call)) as pieces:
            async for piece in pieces:
                if not text:
                    # The time-out is over while the caller works; no event could tell that.
                    await asyncio.sleep(0.6)
                text += piece
        assert orjson.loads(text)["response"] == SAID
        assert call.stop_reason == "end_turn"


async def test_a_provider_that_falls_silent_while_the_caller_works_is_noticed_afterwards() -> None:
    model = OfflineModel(script=[Fault("hang", after=8)])
    async with serving(model) as model_url, asking(model_url, seconds=0.3) as client:
        pieces = client.ask(QUESTION, ModelCall())
        assert await anext(pieces)
        await asyncio.sleep(0.6)
        with pytest.raises(ModelError, match="provider_silent"):
            async for _ in pieces:
                pass


QUESTION = question(
    project=Project(name="Shop", framework=None),
    locale="en",
    history=(),
    message="Good morning",
    chat_mode=None,
)


@asynccontextmanager
async def asking(model_url: str, *, seconds: float) -> AsyncGenerator[ModelClient]:
    """A client whose provider may be silent for so long, once it has begun to write."""
    async with anthropic.AsyncAnthropic(api_key="k", base_url=model_url, max_retries=0) as client:
        yield ModelClient(
            client,
            model="offline",
            max_tokens=100,
            first_text_seconds=10,
            next_text_seconds=seconds,
        )


async def test_a_failed_call_is_logged_with_the_answer_of_the_provider(url: str) -> None:
    async with running(url) as live:
        await ready(live)
        with capture_logs() as lines:
            failed = await said(live, "Good grief [[offline: status code=401]]")
    assert ends_with(failed) == "provider_refused_key"
    (call,) = (each for each in lines if each["event"] == "model_failed")
    assert (call["code"], call["answer_status"]) == ("provider_refused_key", 401)
    assert 0 < len(call["answer_text"]) <= 200
    assert "Good grief" not in str(lines)
    (end,) = (each for each in lines if each["event"] == "reply_ended")
    assert end["log_level"] == call["log_level"] == "warning"


@pytest.mark.parametrize(
    ("status", "is_told"), [(401, True), (403, True), (404, False), (500, False), (200, False)]
)
async def test_a_refused_key_is_told_at_the_start(status: int, is_told: bool) -> None:
    """A gateway without a list of models, and a provider that is away, are no fault of the key."""
    key = f"sk-ant-{'x' * 40}"

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        error = {"type": "error", "error": {"type": "any", "message": f"{key} is\nwrong " * 9}}
        body = {"data": [], "has_more": False, "first_id": None, "last_id": None}
        content = orjson.dumps(body if status == 200 else error)
        headers = [(b"content-type", b"application/json"), (b"request-id", b"req_1")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async with serving(cast(OfflineModel, answer)) as address:
        settings = Settings(anthropic_api_key=SecretStr(key), anthropic_base_url=address)
        with capture_logs() as lines:
            told = await key_fault(settings)
    assert (told is not None) is is_told
    assert len(lines) == (status not in (200, 404))
    assert key not in f"{told} {lines}"
    assert told is None or ("ANTHROPIC_API_KEY" in told and "req_1" in told and "\n" not in told)


async def test_a_provider_that_cannot_be_reached_is_one_warning() -> None:
    settings = Settings(anthropic_api_key=SecretStr("k"), anthropic_base_url="http://127.0.0.1:1")
    with capture_logs() as lines:
        assert await key_fault(settings) is None
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("model_not_asked", "warning")
    assert "127.0.0.1" in line["why"]
