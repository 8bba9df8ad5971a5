"""The provider's events are split from its bytes, in whatever pieces the bytes come."""

import gzip
from collections.abc import AsyncIterator

import httpx2
import pytest
from anthropic._streaming import SSEDecoder
from hypothesis import given
from hypothesis import strategies as st

from service.model.client import body
from service.model.events import MOST_BYTES, ServerSentEvent, Splitter

LINES = st.sampled_from(
    [
        *(b"event: a", b"event:b", b"event", b"data: {}", b'data:{"x": 1}', b"data", b"data:  two"),
        *(b": a comment", b"id: 7", b"retry: 5", b"unknown: field", "data: é€".encode(), b""),
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=20).map(b"".join)


def split(*pieces: bytes) -> list[ServerSentEvent]:
    splitter = Splitter()
    return [event for piece in pieces for event in splitter.feed(piece)]


def by_the_sdk(stream: bytes) -> list[tuple[bytes, bytes]]:
    """What the SDK's own decoder finds, without the events that have neither a name nor data."""
    found = SSEDecoder().iter_bytes(iter([stream]))
    events = [((each.event or "").encode(), each.data.encode()) for each in found]
    return [each for each in events if each != (b"", b"")]


@given(STREAMS, st.data())
def test_the_events_are_those_of_the_sdk_however_the_bytes_come(
    stream: bytes, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    found = [each for each in split(*pieces) if each != (b"", b"")]
    assert found == by_the_sdk(stream)


def test_half_a_character_is_read() -> None:
    event = ServerSentEvent(b"x", rb'{"text":"\ud83d"}')
    assert event.json() == {"text": "\ud83d"}


def test_an_event_without_an_end_has_a_limit() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: " + b"x" * (MOST_BYTES - 6)) == []
    with pytest.raises(ValueError, match="too large"):
        splitter.feed(b"x")


class Stream(httpx2.AsyncByteStream):
    """The bytes of a response, in one piece."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The one piece."""
        yield self.data


@pytest.mark.parametrize("encoding", [None, "gzip"])
async def test_a_response_may_be_compressed(encoding: str | None) -> None:
    plain = b"data: {}\n\n"
    response = httpx2.Response(
        200,
        headers={"content-encoding": encoding} if encoding else {},
        stream=Stream(gzip.compress(plain) if encoding else plain),
        request=httpx2.Request("POST", "http://model"),
    )
    assert b"".join([each async for each in body(response)]) == plain
