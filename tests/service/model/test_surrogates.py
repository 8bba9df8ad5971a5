"""The provider splits a character over two deltas. The events go through the real SDK over HTTP."""

import orjson
import pytest

from service.model.client import ModelCall
from service.model.offline.app import serving
from service.model.surrogates import Pairs
from tests.running import running
from tests.service import law
from tests.service.model.exact import TOOL, Exact
from tests.service.model.test_client import QUESTION, asking


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
    read = [*(pairs.join(piece) for piece in pieces), pairs.end()]
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
    model = Exact(('{"path":"\ud83d', '\ude00.py"}'), TOOL, ["tool_use"])
    async with serving(model) as model_url, asking(model_url, seconds=10) as client:
        call = ModelCall()
        assert [piece async for piece in client.ask(QUESTION, call)] == []
        (use,) = call.uses
        assert orjson.dumps(use.input) == '{"path":"\U0001f600.py"}'.encode()
