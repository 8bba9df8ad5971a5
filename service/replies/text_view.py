"""A reply's events for a client that shows one text: of each chunk the main prose alone."""

from collections.abc import Sequence
from typing import Final, Literal

from domain.replies.contracts import MAIN_TEXT
from service.replies.sse import decode, encode

View = Literal["ops", "text"]
"""What the chunks of a stream carry: operations on the reply's data, or the main prose alone."""

_MAIN: Final = frozenset(MAIN_TEXT.values())


def seen_as(view: View, frames: Sequence[bytes]) -> Sequence[bytes]:
    """Stored frames as a view shows them, one for one.

    In the view `text` a chunk has `{"text": ...}` in place of operations, and a chunk without
    prose is empty. All frames keep their ids, so that either view resumes where the other stopped.
    """
    return frames if view == "ops" else [_text_alone(each) for each in frames]


def _text_alone(frame: bytes) -> bytes:
    if b"\nevent: chunk\n" not in frame:
        return frame
    event_id = frame.partition(b"\n")[0].removeprefix(b"id: ").decode()
    ops = decode(frame)[1]["ops"]
    text = "".join(op["text"] for op in ops if op["op"] == "append" and op["path"] in _MAIN)
    return encode("chunk", {"text": text}, event_id) if text else b""
