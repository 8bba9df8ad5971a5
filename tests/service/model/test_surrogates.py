"""The provider splits a character over two deltas. The events go through the real SDK over HTTP."""

import json
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.model.client import ModelCall
from service.model.offline.app import OfflineModel, serving
from service.model.surrogates import Pairs
from tests.running import running
from tests.service import law
from tests.service.model.test_client import QUESTION, asking

TEXT = {"type": "text", "text": ""}
TOOL = {"type": "tool_use", "id": "t1", "name": "read_file", "input": {}}


class Exact(OfflineModel):
    """A server that streams one block in exactly these deltas. It escapes each half by itself, as
    JSON allows and the offline model does not."""

    def __init__(self, pieces: Sequence[str], block: dict[str, Any] = TEXT) -> None:
        super().__init__()
        self._pieces, self._block = pieces, block

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer every request with the same stream."""
        body = "".join(
            f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in self._events()
        )
        await Response(body, media_type="text/event-stream")(scope, receive, send)

    def _events(self) -> list[dict[str, Any]]:
        is_text = self._block is TEXT
        kind, member = ("text_delta", "text") if is_text else ("input_json_delta", "partial_json")
        usage = {"input_tokens": 1, "output_tokens": 1}
        message = {"id": "m", "type": "message", "role": "assistant", "model": "offline"}
        message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": self._block},
            *(
                {"type": "content_block_delta", "index": 0, "delta": {"type": kind, member: piece}}
                for piece in self._pieces
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn" if is_text else "tool_use"},
                "usage": usage,
            },
            {"type": "message_stop"},
        ]


@pytest.mark.parametrize(
    ("pieces", "joined"),
    [
        (("a\ud83d", "\ude00b"), "a\U0001f600b"),
        (("a", "\ud83d", "\ude00", "b"), "a\U0001f600b"),
        (("a\ud83d", "", "\ude00"), "a\U0001f600"),
        (("a\ud83d",), "a\ufffd"),
        (("a\ud83d", "b"), "a\ufffdb"),
        (("\ude00", "\ud83d", "\ud83d\ude00"), "\ufffd\ufffd\U0001f600"),
    ],
    ids=["split", "alone", "empty", "end", "no second half", "wrong order"],
)
def test_halves_are_joined_or_replaced(pieces: tuple[str, ...], joined: str) -> None:
    pairs = Pairs()
    read = [*map(pairs.join, pieces), pairs.end()]
    assert "".join(read) == joined
    assert all(orjson.dumps(each) for each in read), "each piece can be stored"


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (("Hello \ud83d", "\ude00!"), "Hello \U0001f600!"),
        (("Hello \ud83d",), "Hello \ufffd"),
        (
            ('{"intent":"general","response":{"markdown":"Hello \ud83d', "\ude00 \ud83d", '"}}'),
            "Hello \U0001f600 \ufffd",
        ),
    ],
    ids=["prose", "the end of prose", "JSON"],
)
async def test_a_split_character_is_one_character_in_the_stream_and_in_the_end(
    url: str, pieces: tuple[str, ...], shown: str
) -> None:
    async with running(url, Exact(pieces)) as live:
        await live.project()
        await live.credit()
        final = law.lawful(await live.stream("Good morning"))
        assert final["data"] == {"markdown": shown}
        await law.ended_as_shown(live, url, final)


async def test_a_split_character_is_one_character_in_the_input_of_a_tool() -> None:
    model = Exact(('{"path":"\ud83d', '\ude00.py"}'), TOOL)
    async with serving(model) as model_url, asking(model_url, seconds=10) as client:
        call = ModelCall()
        assert [piece async for piece in client.ask(QUESTION, call)] == []
        (use,) = call.uses
        assert orjson.dumps(use.input) == '{"path":"\U0001f600.py"}'.encode()
