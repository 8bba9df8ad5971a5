"""The offline model, called like a real model: through the real SDK, over real HTTP."""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import anthropic
import httpx2
import orjson
import pytest
from anthropic import AsyncAnthropic, omit
from anthropic.types import RawMessageStreamEvent
from pydantic import BaseModel, ConfigDict, ValidationError

from domain.replies.contracts import check
from service.model.offline.app import Fault, OfflineModel, serving
from service.model.offline.replies import INTENTS, LANGUAGES, MARKS, Intent, Language

MESSAGES: dict[Language, dict[Intent, str]] = {
    "en": {
        "question": "Where are sessions kept?",
        "feature": "Add a dark mode to the settings page",
        "fix": "The login page is broken since Monday",
        "analysis": "Review the payment code",
        "general": "Good morning",
    },
    "fr": {
        "question": "Comment marche la session ?",
        "feature": "Ajoute un mode sombre aux réglages",
        "fix": "Corrige la page de connexion",
        "analysis": "Analyse le code des paiements",
        "general": "Bonjour",
    },
    "es": {
        "question": "¿Dónde se guardan las sesiones?",
        "feature": "Añade un modo oscuro a los ajustes",
        "fix": "Arregla la página de acceso",
        "analysis": "Revisa el código de los pagos",
        "general": "Buenos días",
    },
    "ar": {
        "question": "كيف تُحفظ الجلسات؟",
        "feature": "أضف وضعًا داكنًا إلى صفحة الإعدادات",
        "fix": "أصلح صفحة الدخول من فضلك",
        "analysis": "راجع شيفرة المدفوعات",
        "general": "صباح الخير",
    },
}


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Reference(Closed):
    file: str
    line: int
    snippet: str


class Question(Closed):
    answer: str
    references: list[Reference] = []
    relatedTopics: list[str] = []  # noqa: N815


class Step(Closed):
    order: int
    title: str
    description: str
    files: list[str]
    estimatedEffort: Literal["low", "medium", "high"]  # noqa: N815
    newFiles: list[str]  # noqa: N815


class Dependency(Closed):
    name: str
    version: str | None = None
    reason: str


class Plan(Closed):
    overview: str
    steps: list[Step]
    dependencies: list[Dependency]
    risks: list[str]
    alternatives: list[str] = []


class Feature(Closed):
    summary: str
    feasibility: Literal["simple", "moderate", "complex"]
    plan: Plan
    buildPrompt: str | None = None  # noqa: N815


class Issue(Closed):
    description: str
    severity: Literal["low", "medium", "high", "critical"]
    category: str


class Change(Closed):
    file: str
    changeType: Literal["modify", "create", "delete"]  # noqa: N815
    description: str


class Solution(Closed):
    approach: str
    changes: list[Change]
    testingStrategy: str  # noqa: N815


class Fix(Closed):
    issue: Issue
    rootCause: str  # noqa: N815
    solution: Solution
    preventionTips: list[str] = []  # noqa: N815
    buildPrompt: str | None = None  # noqa: N815


class Finding(Closed):
    category: str
    title: str
    description: str
    impact: str | None = None
    recommendations: list[str] = []


class Metric(Closed):
    name: str
    value: str | int | float


class Visualization(Closed):
    type: Literal["chart", "graph", "table"]
    title: str
    labels: list[str]
    values: list[float]


class Analysis(Closed):
    overview: str
    findings: list[Finding]
    metrics: list[Metric] = []
    visualizations: list[Visualization] = []


class General(Closed):
    markdown: str


SHAPES: dict[Intent, type[Closed]] = {
    "question": Question,
    "feature": Feature,
    "fix": Fix,
    "analysis": Analysis,
    "general": General,
}

TOOLS: Any = [{"name": "read_file", "input_schema": {"type": "object"}}]


class Talk:
    """A client of one offline model."""

    def __init__(self, model: OfflineModel, client: AsyncAnthropic) -> None:
        self.model = model
        self.client = client

    async def stream(self, message: str, **more: Any) -> Any:
        return await self.client.messages.create(stream=True, **asking(message, **more))

    async def events(self, message: str, **more: Any) -> list[RawMessageStreamEvent]:
        return [event async for event in await self.stream(message, **more)]

    async def text(self, message: str, **more: Any) -> str:
        return "".join(deltas(await self.events(message, **more)))

    async def until_it_fails(self, message: str) -> tuple[list[str], Exception]:
        """The deltas that arrived, and the error that ended the stream."""
        seen: list[RawMessageStreamEvent] = []
        try:
            await collect(await self.stream(message), seen)
        except Exception as error:  # noqa: BLE001
            return deltas(seen), error
        raise AssertionError("the stream ended quietly")


async def collect(stream: Any, seen: list[RawMessageStreamEvent]) -> None:
    """Collect into the caller's list, so that the events before a failure are kept."""
    async for event in stream:
        seen.append(event)  # noqa: PERF401


def asking(message: str, language: str = "en", **more: Any) -> dict[str, Any]:
    shape = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    request = {
        "model": "offline",
        "max_tokens": 4096,
        "system": [{"type": "text", "text": f"You plan software.\nReply in {language}.\n"}],
        "messages": [{"role": "user", "content": f"The project: a shop.\n\n{message}"}],
        "output_config": shape,
    }
    return {**request, **more}


def deltas(events: list[RawMessageStreamEvent]) -> list[str]:
    found = [event.delta for event in events if event.type == "content_block_delta"]
    return [delta.text for delta in found if delta.type == "text_delta"]


def start_usage(events: list[RawMessageStreamEvent]) -> Any:
    """The usage in message_start."""
    assert events[0].type == "message_start"
    return events[0].message.usage


def ending(events: list[RawMessageStreamEvent]) -> Any:
    """The last message_delta."""
    return [event for event in events if event.type == "message_delta"][-1]


TLS = ssl.create_default_context()
"""Unused over plain HTTP, but the SDK's slowest step when every client makes its own."""


def talker(url: str) -> AsyncAnthropic:
    http = anthropic.DefaultAsyncHttpxClient(verify=TLS)
    return AsyncAnthropic(base_url=url, api_key="offline", max_retries=0, http_client=http)


@asynccontextmanager
async def talking(model: OfflineModel) -> AsyncIterator[Talk]:
    async with serving(model) as url, talker(url) as client:
        yield Talk(model, client)


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    async with talking(OfflineModel()) as talk:
        yield talk


# Replies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("intent", INTENTS)
async def test_every_intent_is_answered_in_its_shape_in_every_language(
    talk: Talk, intent: Intent, language: Language
) -> None:
    message = MESSAGES[language][intent]
    text = await talk.text(message, language=language)
    answer = orjson.loads(text)
    assert answer["intent"] == intent
    SHAPES[intent].model_validate(answer["response"])
    assert MARKS[language] in text
    assert message in text
    assert 300 <= len(text) <= 1400


def schema_of(*intents: Intent) -> Any:
    schema = {"type": "object", "properties": {"intent": {"enum": list(intents)}}}
    return {"format": {"type": "json_schema", "schema": schema}}


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_request_for_an_improvement_gets_one_in_every_language(
    talk: Talk, language: Language
) -> None:
    config = schema_of("improvement")
    text = await talk.text("Add a haiku", language=language, output_config=config)
    answer = orjson.loads(text)
    assert answer["intent"] == "improvement"
    check("improvement", answer["response"])
    assert "Add a haiku" in answer["response"]["improvedPrompt"]
    assert "{{input}}" in answer["response"]["improvedPrompt"]


async def test_a_request_without_a_schema_gets_markdown(talk: Talk) -> None:
    text = await talk.text("Add a page", output_config=omit)
    assert text.startswith("(offline model) ")


async def test_arabic_replies_are_mostly_arabic(talk: Talk) -> None:
    answer = orjson.loads(await talk.text("How does the cache work in main.py?", language="ar"))
    letters = [c for c in answer["response"]["answer"] if c.isalpha()]
    assert sum("\u0600" <= c <= "\u06ff" for c in letters) > 0.8 * len(letters)


async def test_the_first_key_word_decides_the_intent(talk: Talk) -> None:
    asked = {
        "How do I add a page?": "question",
        "Fix the error when I add a page": "fix",
        "Review what is broken": "analysis",
        "Really?": "question",
        "An address book": "general",
    }
    for message, intent in asked.items():
        assert orjson.loads(await talk.text(message))["intent"] == intent


async def test_a_long_message_is_shortened_and_a_directive_is_not_repeated(talk: Talk) -> None:
    text = await talk.text(
        "Add " + "very " * 40 + "long lists [[offline: slow_first seconds=0.01]]"
    )
    assert "Add very very" in text
    assert "…" in text
    assert "very " * 15 not in text
    assert "[[offline" not in text


async def test_the_same_request_gives_the_same_bytes() -> None:
    bodies: list[bytes] = []
    for _ in range(2):
        async with serving(OfflineModel()) as url, httpx2.AsyncClient() as client:
            request = asking("Add a page", stream=True)
            bodies.append((await client.post(f"{url}/v1/messages", json=request)).content)
    assert bodies[0] == bodies[1]
    assert bodies[0].startswith(b"event: message_start\n")
    assert b"event: ping\n" in bodies[0]


async def test_a_stream_has_the_events_of_the_api_in_their_order(talk: Talk) -> None:
    events = await talk.events("Add a page")
    kinds = [event.type for event in events]
    count = kinds.count("content_block_delta")
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * count,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert max(map(len, deltas(events))) == 12
    assert ending(events).delta.stop_reason == "end_turn"


async def test_without_a_stream_the_same_answer_comes_whole(talk: Talk) -> None:
    message = await talk.client.messages.create(**asking("Add a page"))
    assert message.content[0].text == await talk.text("Add a page")
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == len(message.content[0].text) // 4


async def test_delay_and_pace_spread_a_stream_over_time() -> None:
    async with talking(OfflineModel(delay=0.1, pace=0.005, size=40)) as talk:
        began = time.monotonic()
        count = len(deltas(await talk.events("Good morning")))
        assert time.monotonic() - began >= 0.1 + 0.005 * (count - 1)


async def test_the_last_requests_are_kept_and_all_are_counted(talk: Talk) -> None:
    for number in range(3):
        await talk.events(f"Message {number}")
    assert talk.model.calls == 3
    assert talk.model.requests[-1]["messages"][0]["content"].endswith("Message 2")
    assert talk.model.requests.maxlen == 256


# Usage -------------------------------------------------------------------------------------------


def marked(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}


async def test_usage_counts_four_characters_a_token(talk: Talk) -> None:
    short = start_usage(await talk.events("Hello"))
    long = await talk.events("Hello" + " again" * 400)
    assert start_usage(long).input_tokens - short.input_tokens == 600
    assert start_usage(long).output_tokens == 1
    assert ending(long).usage.output_tokens == len("".join(deltas(long))) // 4
    assert ending(long).usage.input_tokens == start_usage(long).input_tokens


async def test_a_marked_prefix_is_written_to_the_cache_once_and_then_read(talk: Talk) -> None:
    system = [marked("The rules. " * 100)]
    first = start_usage(await talk.events("Hello", system=system))
    again = start_usage(await talk.events("Goodbye", system=system))
    assert first.cache_creation_input_tokens > 275
    assert first.cache_read_input_tokens == 0
    assert again.cache_read_input_tokens == first.cache_creation_input_tokens
    assert again.cache_creation_input_tokens == 0


async def test_a_growing_conversation_reads_its_earlier_prefix_from_the_cache(talk: Talk) -> None:
    turns: list[Any] = [{"role": "user", "content": [marked("Hello " * 100)]}]
    first = start_usage(await talk.events("", messages=turns))
    plain = {"type": "text", "text": "Hello " * 100}
    turns = [
        {"role": "user", "content": [plain]},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [marked("And then? " * 100)]},
    ]
    second = start_usage(await talk.events("", messages=turns))
    assert second.cache_read_input_tokens == first.cache_creation_input_tokens
    assert second.cache_creation_input_tokens > 250


async def test_the_three_input_counts_add_up_whatever_is_cached(talk: Talk) -> None:
    system = [marked("Rules. " * 33), {"type": "text", "text": "More."}]
    counts = [start_usage(await talk.events("Hello", system=system)) for _ in range(2)]
    sums = {
        usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens
        for usage in counts
    }
    assert len(sums) == 1


# Tools -------------------------------------------------------------------------------------------


async def test_a_tool_is_asked_for_and_its_result_is_followed_by_the_answer(talk: Talk) -> None:
    message = "Add a page [[offline: tool name=read_file path='src/my app.py' line=3]]"
    first = await talk.client.messages.create(**asking(message, tools=TOOLS))
    call = first.content[0]
    assert first.stop_reason == "tool_use"
    assert (call.name, call.input) == ("read_file", {"path": "src/my app.py", "line": 3})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "print()"}
    turns = [
        *asking(message)["messages"],
        {"role": "assistant", "content": [call.model_dump(exclude_none=True)]},
        {"role": "user", "content": [result]},
    ]
    answer = orjson.loads(await talk.text("", messages=turns, tools=TOOLS))
    Feature.model_validate(answer["response"])


async def test_a_tools_input_is_streamed_in_pieces(talk: Talk) -> None:
    message = "Add a page [[offline: tool name=read_file path=src/application.py]]"
    events = await talk.events(message, tools=TOOLS)
    found = [event.delta for event in events if event.type == "content_block_delta"]
    pieces = [delta.partial_json for delta in found if delta.type == "input_json_delta"]
    assert len(pieces) > 1
    assert orjson.loads("".join(pieces)) == {"path": "src/application.py"}
    assert events[1].type == "content_block_start"
    assert events[1].content_block.type == "tool_use"
    assert events[1].content_block.input == {}
    assert ending(events).delta.stop_reason == "tool_use"


async def test_no_tool_is_asked_for_when_none_is_offered(talk: Talk) -> None:
    Feature.model_validate(
        orjson.loads(await talk.text("Add a page [[offline: tool name=read_file]]"))["response"]
    )


# Faults before the stream ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (413, anthropic.RequestTooLargeError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.OverloadedError, "overloaded_error"),
    ],
)
async def test_a_status_is_the_sdks_own_error(
    talk: Talk, code: int, kind: type[anthropic.APIStatusError], word: str
) -> None:
    with pytest.raises(kind) as caught:
        await talk.stream(f"Hello [[offline: status code={code}]]")
    assert caught.value.status_code == code
    assert caught.value.type == word
    assert caught.value.request_id


async def test_a_rate_limit_says_when_to_come_back(talk: Talk) -> None:
    with pytest.raises(anthropic.RateLimitError) as caught:
        await talk.stream("Hello [[offline: status code=429 retry_after=3600]]")
    assert caught.value.response.headers["retry-after"] == "3600"


async def test_a_fault_with_times_hits_so_often_for_each_message(talk: Talk) -> None:
    message = "Hello [[offline: status code=529 times=1]] [[offline: refusal times=1]]"
    for text in (message, f"Again: {message}"):
        with pytest.raises(anthropic.OverloadedError):
            await talk.stream(text)
        assert ending(await talk.events(text)).delta.stop_reason == "refusal"
        assert ending(await talk.events(text)).delta.stop_reason == "end_turn"


async def test_the_sdks_own_retry_gets_past_a_fault_that_hits_once(talk: Talk) -> None:
    patient = talk.client.with_options(max_retries=1)
    message = await patient.messages.create(
        **asking("Hello [[offline: status code=529 retry_after=0 times=1]]")
    )
    assert message.stop_reason == "end_turn"
    assert talk.model.calls == 2


async def test_a_script_goes_first_and_is_used_up() -> None:
    script = [Fault("status", code=500), Fault("normal"), Fault("max_tokens")]
    async with talking(OfflineModel(script=script)) as talk:
        with pytest.raises(anthropic.InternalServerError):
            await talk.stream("Hello")
        reasons = [
            ending(await talk.events("Hello [[offline: refusal]]")).delta.stop_reason
            for _ in range(3)
        ]
    assert reasons == ["end_turn", "max_tokens", "refusal"]


@pytest.mark.parametrize(
    "directive",
    [
        "",
        "flood",
        "cut before=1",
        "cut after=soon",
        "cut after=-1",
        "cut after",
        "status code=418",
        "error_event type=oops",
        "slow seconds=601",
        "hang ping=0",
        "tool path=a",
        "slow seconds='1",
    ],
)
async def test_a_malformed_directive_gets_a_400(talk: Talk, directive: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match="offline model"):
        await talk.stream(f"Hello [[offline: {directive}]]")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"messages": []}', b'{"messages": [1]}', b'{"messages": {"a": 1}}',
     b'{"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}'],
)  # fmt: skip
async def test_a_body_that_is_not_a_request_is_refused(body: bytes) -> None:
    async with serving(OfflineModel()) as url, httpx2.AsyncClient() as client:
        answer = await client.post(f"{url}/v1/messages", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_the_slow_fault_is_silent_before_the_headers(talk: Talk) -> None:
    hasty = talk.client.with_options(timeout=0.1)
    with pytest.raises(anthropic.APITimeoutError):
        await hasty.messages.create(stream=True, **asking("Hello [[offline: slow seconds=5]]"))
    await asyncio.wait_for(talk.model.left.wait(), 1)


# Faults in the stream ----------------------------------------------------------------------------


async def test_the_slow_first_fault_is_silent_after_the_headers(talk: Talk) -> None:
    began = time.monotonic()
    stream = await talk.stream("Hello [[offline: slow_first seconds=0.3]]")
    assert time.monotonic() - began < 0.3
    assert [event async for event in stream][-1].type == "message_stop"
    assert time.monotonic() - began >= 0.3


async def test_a_hanging_stream_sends_only_pings(talk: Talk) -> None:
    stream = await talk.stream("Hello [[offline: hang after=2 ping=0.02]]")
    raw = stream.response.aiter_bytes()
    pings = 0
    while pings < 5:
        pings += (await asyncio.wait_for(anext(raw), 1)).count(b"event: ping")
    assert talk.model.aborted == 0
    await stream.close()
    await asyncio.wait_for(talk.model.left.wait(), 1)


async def test_the_sdk_does_not_notice_a_hang(talk: Talk) -> None:
    stream = await talk.stream("Hello [[offline: hang after=2 ping=0.02]]")
    seen: list[RawMessageStreamEvent] = []
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(collect(stream, seen), 0.2)
    assert len(deltas(seen)) == 2
    await asyncio.wait_for(talk.model.left.wait(), 1)


async def test_the_cut_before_fault_cuts_before_any_event(talk: Talk) -> None:
    said, error = await talk.until_it_fails("Hello [[offline: cut_before]]")
    assert isinstance(error, httpx2.RemoteProtocolError)
    assert said == []


@pytest.mark.parametrize("after", [0, 1, 7])
async def test_a_cut_connection_is_a_protocol_error(
    talk: Talk, after: int, caplog: pytest.LogCaptureFixture
) -> None:
    said, error = await talk.until_it_fails(f"Hello [[offline: cut after={after}]]")
    assert isinstance(error, httpx2.RemoteProtocolError)
    assert len(said) == after
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_clean_end_without_message_stop_is_quiet(talk: Talk) -> None:
    events = await talk.events("Hello [[offline: eof after=4]]")
    assert len(deltas(events)) == 4
    assert events[-1].type == "content_block_delta"


async def test_a_clean_end_may_come_after_the_stop_reason(talk: Talk) -> None:
    events = await talk.events("Hello [[offline: eof stop=1]]")
    assert events[-1].type == "message_delta"
    assert ending(events).delta.stop_reason == "end_turn"
    assert orjson.loads("".join(deltas(events)))["intent"] == "general"
    assert len(deltas(await talk.events("Hello [[offline: eof after=4 stop=1]]"))) == 4


@pytest.mark.parametrize("kind", ["overloaded_error", "rate_limit_error", "api_error"])
async def test_an_error_event_is_a_status_error_with_status_200(talk: Talk, kind: str) -> None:
    said, error = await talk.until_it_fails(f"Hello [[offline: error_event after=3 type={kind}]]")
    assert len(said) == 3
    assert type(error) is anthropic.APIStatusError
    assert (error.status_code, error.type) == (200, kind)


async def test_a_web_page_gives_no_event_and_no_error(talk: Talk) -> None:
    assert await talk.events("Hello [[offline: html]]") == []


async def test_garbage_in_a_data_line_is_a_decoding_error(talk: Talk) -> None:
    said, error = await talk.until_it_fails("Hello [[offline: bad_json after=2]]")
    assert len(said) == 2
    assert isinstance(error, ValueError)
    assert type(error).__name__ == "JSONDecodeError"


async def test_a_refusal_has_its_details(talk: Talk) -> None:
    events = await talk.events("Hello [[offline: refusal after=3]]")
    assert len(deltas(events)) == 3
    assert ending(events).delta.stop_reason == "refusal"
    assert ending(events).delta.stop_details.category == "cyber"
    assert deltas(await talk.events("Hello [[offline: refusal]]")) == []


async def test_the_max_tokens_fault_cuts_the_text_in_the_middle(talk: Talk) -> None:
    events = await talk.events("Hello [[offline: max_tokens]]")
    whole = await talk.text("Hello")
    assert ending(events).delta.stop_reason == "max_tokens"
    assert "".join(deltas(events)) == whole[: len(whole) // 2]


@pytest.mark.parametrize("intent", INTENTS)
async def test_a_broken_contract_is_json_of_the_wrong_shape(talk: Talk, intent: Intent) -> None:
    text = await talk.text(f"{MESSAGES['en'][intent]} [[offline: broken_contract]]")
    with pytest.raises(ValidationError):
        SHAPES[intent].model_validate(orjson.loads(text)["response"])


async def test_the_prose_fault_is_not_json(talk: Talk) -> None:
    text = await talk.text("Add a page [[offline: prose]]")
    assert text.startswith("(offline model) ")


async def test_a_fence_holds_the_same_json(talk: Talk) -> None:
    text = await talk.text("Add a page [[offline: fenced]]")
    assert text == f"```json\n{await talk.text('Add a page')}\n```"


async def test_a_reply_in_odd_pieces_is_the_same_reply(talk: Talk) -> None:
    events = await talk.events("Ajoute un café [[offline: odd]]", language="fr")
    text = "".join(deltas(events))
    assert {len(piece) for piece in deltas(events)} == {1, 2, 3}
    assert "\\ud83e\\uddf5" in text
    assert "🧵" in text
    assert any(piece.endswith("\\") for piece in deltas(events))
    whole = await talk.text("Ajoute un café 🧵🧵", language="fr")
    assert orjson.loads(text) == orjson.loads(whole)


async def test_an_odd_body_is_split_inside_characters(talk: Talk) -> None:
    stream = await talk.stream("Add a page [[offline: odd]]", language="ar")
    split = 0
    async for chunk in stream.response.aiter_raw():
        split += not is_utf8(chunk)
    assert split > 100


def is_utf8(chunk: bytes) -> bool:
    try:
        chunk.decode()
    except UnicodeDecodeError:
        return False
    return True


async def test_the_nul_fault_is_valid_json_with_a_nul_in_a_string(talk: Talk) -> None:
    text = await talk.text("Add a page [[offline: nul]]")
    assert "\\u0000" in text
    assert "\x00" in orjson.loads(text)["response"]["summary"]


async def test_the_no_usage_fault_leaves_the_tokens_unknown(talk: Talk) -> None:
    events = await talk.events("Hello [[offline: no_usage]]")
    assert start_usage(events).cache_read_input_tokens is None
    assert start_usage(events).cache_creation_input_tokens is None
    assert ending(events).usage is None
    assert ending(events).delta.stop_reason == "end_turn"


async def test_the_wrong_language_fault_answers_in_english(talk: Talk) -> None:
    message = MESSAGES["ar"]["question"]
    text = await talk.text(f"{message} [[offline: wrong_language times=1]]", language="ar")
    assert MARKS["en"] in text
    assert MARKS["ar"] in await talk.text(
        f"{message} [[offline: wrong_language times=1]]", language="ar"
    )


async def test_the_raw_directive_sends_exactly_its_pieces() -> None:
    pieces = ('{"intent": "gen', 'eral"', ", 🧵", "")
    async with talking(OfflineModel(script=[Fault("raw", pieces=pieces)])) as talk:
        assert tuple(deltas(await talk.events("Hello"))) == pieces


# Leaving and stopping ----------------------------------------------------------------------------


async def test_a_client_that_leaves_is_noticed_at_once() -> None:
    async with talking(OfflineModel(pace=0.02)) as talk:
        stream = await talk.stream("Add a page")
        async for event in stream:
            if event.type == "content_block_delta":
                break
        await stream.close()
        began = time.monotonic()
        await asyncio.wait_for(talk.model.left.wait(), 1)
        assert time.monotonic() - began < 0.2
        assert talk.model.aborted == 1


async def test_a_client_that_reads_to_the_end_has_not_left(talk: Talk) -> None:
    for _ in range(5):
        await talk.events("Add a page")
    assert talk.model.aborted == 0
    assert not talk.model.left.is_set()


async def test_serving_stops_soon_with_streams_open_and_leaves_no_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = asyncio.all_tasks()
    model = OfflineModel()
    async with talker("") as client:
        async with serving(model) as url:
            client.base_url = url
            message = "Hello [[offline: hang ping=600]]"
            for _ in range(20):
                await client.messages.create(stream=True, **asking(message))
            began = time.monotonic()
        assert time.monotonic() - began < 1
        assert model.aborted == 20
    assert asyncio.all_tasks() == before
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_two_models_are_served_side_by_side() -> None:
    async with talking(OfflineModel()) as one, talking(OfflineModel()) as other:
        await asyncio.gather(one.events("Hello"), other.events("Hello"))
        assert one.model.calls == other.model.calls == 1


async def test_a_taken_port_is_an_error() -> None:
    async with serving(OfflineModel()) as url:
        with pytest.raises(OSError, match="in use"):
            async with serving(OfflineModel(), port=int(url.rpartition(":")[2])):
                pass


async def test_many_streams_at_once_each_come_whole(talk: Talk) -> None:
    messages = [f"Add page number {number}" for number in range(50)]
    texts = await asyncio.gather(*map(talk.text, messages))
    for message, text in zip(messages, texts, strict=True):
        assert message in orjson.loads(text)["response"]["summary"]
