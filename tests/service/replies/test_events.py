"""The events of a reply as bytes: the same bytes as ever, in field order, with nothing absent."""

import pytest

from domain.replies.operations import Operation
from service.replies.events import (
    REPLY_EVENTS,
    Accepted,
    Chunk,
    Intent,
    ReplyEvent,
    Reset,
    Snapshot,
    ToolCallStatus,
    encoded,
    notice,
)
from service.replies.text_view import seen_as

OPS: list[Operation] = [
    {"op": "open", "path": "", "kind": "object"},
    {"op": "set", "path": "/severity", "value": None},
    {"op": "append", "path": "/markdown", "text": "Là, “here”\n"},
]
GOLDEN: dict[bytes, ReplyEvent] = {
    b"id: r1.7\nevent: accepted\n"
    b'data: {"messageId":"r1","userMessageId":"m1","sessionId":"s1","position":9,'
    b'"reservedSeconds":60,"contract":"chat-plan-stream/1"}\n\n': Accepted(
        message_id="r1",
        user_message_id="m1",
        session_id="s1",
        position=9,
        reserved_seconds=60,
        contract="chat-plan-stream/1",
    ),
    b'id: r1.7\nevent: intent\ndata: {"mode":"fix"}\n\n': Intent(mode="fix"),
    (
        "id: r1.7\nevent: chunk\n"
        'data: {"ops":[{"op":"open","path":"","kind":"object"},'
        '{"op":"set","path":"/severity","value":null},'
        '{"op":"append","path":"/markdown","text":"Là, “here”\\n"}]}\n\n'
    ).encode(): Chunk(ops=OPS),
    b'id: r1.7\nevent: snapshot\ndata: {"mode":null,"data":null,"through":7}\n\n': Snapshot(
        mode=None, data=None, through=7
    ),
    b"id: r1.7\nevent: snapshot\n"
    b'data: {"mode":"general","data":{"markdown":"a","n":[1,1.5,null]},"through":7}\n\n': Snapshot(
        mode="general", data={"markdown": "a", "n": [1, 1.5, None]}, through=7
    ),
    b"id: r1.7\nevent: tool\n"
    b'data: {"name":"list_files","summary":"list_files src","status":"running"}\n\n': (
        ToolCallStatus(name="list_files", summary="list_files src", status="running")
    ),
    b"id: r1.7\nevent: notice\n"
    b'data: {"code":"queued","template":"queued","variables":{}}\n\n': notice("queued"),
    b"id: r1.7\nevent: notice\n"
    b'data: {"code":"reservation_used","template":"reservation_used",'
    b'"variables":{"percent":80,"reserved_seconds":60}}\n\n': notice(
        "reservation_used", percent=80, reserved_seconds=60
    ),
    b'id: r1.7\nevent: reset\ndata: {"reason":"schema"}\n\n': Reset(reason="schema"),
}


@pytest.mark.parametrize("expected", GOLDEN)
def test_every_event_has_its_bytes(expected: bytes) -> None:
    assert encoded(GOLDEN[expected], b"r1", 7) == expected


def test_the_bytes_of_every_event_are_tested() -> None:
    made = {type(event) for event in GOLDEN.values()} - {dict}
    elsewhere = {"chunk", "final", "renew", "goaway"}
    assert made == {model for name, model in REPLY_EVENTS.items() if name not in elsewhere}


def test_the_text_view_has_the_prose_of_a_chunk_and_every_other_event_as_it_is() -> None:
    other = encoded(Intent(mode="general"), b"r1", 1)
    chunk = encoded(Chunk(ops=OPS), b"r1", 2)
    without_prose = encoded(Chunk(ops=OPS[:2]), b"r1", 3)
    text = 'id: r1.2\nevent: chunk\ndata: {"text":"Là, “here”\\n"}\n\n'.encode()
    assert seen_as("text", [other, chunk, without_prose]) == [other, text, b""]
    assert seen_as("ops", [other, chunk]) == [other, chunk]
