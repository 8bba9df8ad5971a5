"""A reply's events for a client that shows one text: of each chunk the main prose alone."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Final, Literal

from domain.reply_contracts import MAIN_TEXT
from service.replies.sse import frame, told

View = Literal["ops", "text"]

_MAIN: Final = frozenset(MAIN_TEXT.values())


async def viewed(events: AsyncIterable[bytes], view: View) -> AsyncIterator[bytes]:
    """The events as they are, or with `{"text": ...}` in the place of operations.

    Chunks without such text are left out; the others keep their ids, so that either view resumes
    where the other one stopped.
    """
    async for each in events:
        if shown := each if view == "ops" else _text_alone(each):
            yield shown


def _text_alone(events: bytes) -> bytes:
    return b"".join(_shown(each) for each in events.split(b"\n\n") if each)


def _shown(event: bytes) -> bytes:
    if b"\nevent: chunk\n" not in event:
        return event + b"\n\n"
    event_id = event.partition(b"\n")[0].removeprefix(b"id: ").decode()
    ops = told(event)[1]["ops"]
    text = "".join(op["text"] for op in ops if op["op"] == "append" and op["path"] in _MAIN)
    return frame("chunk", {"text": text}, event_id) if text else b""
