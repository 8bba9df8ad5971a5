"""The Messages API's format: what the offline model answers, and the bytes it is written in.

All of it is a function of the request; what happens when is said by steps, which are bytes to send
or seconds of silence.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson

from service.offline_replies import Json, intent_of, reply, subject_of
from service.offline_requests import ERRORS, MAX_SECONDS, Asked, Fault, Name

Step: TypeAlias = bytes | float
"""Bytes to send, or seconds of silence."""


class Cut(Exception):
    """The connection ends here, in the middle of the answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One content block, the pieces it is sent in, and why it ends there."""

    block: Json
    pieces: tuple[str, ...]
    stop_reason: str = "end_turn"
    stop_details: Json = None

    def opening(self) -> Json:
        """The block as a stream starts it: still empty."""
        return {**self.block, **({"input": {}} if "input" in self.block else {"text": ""})}

    def delta(self, piece: str) -> Json:
        if "input" in self.block:
            return {"type": "input_json_delta", "partial_json": piece}
        return {"type": "text_delta", "text": piece}


_SUFFIXES: Final[Mapping[Name, str]] = {"odd": " 🧵🧵", "nul": "\x00"}

_REFUSED: Final = {
    "type": "refusal",
    "category": "cyber",
    "explanation": "(offline model) Refused, as the request asked.",
}


def answer(asked: Asked, fault: Fault, size: int) -> Answer:
    if fault.name == "tool":
        return _tool_use(asked, fault, size)
    if fault.name == "raw":
        return _prose(fault.pieces)
    text = _text(asked, fault)
    if fault.name == "max_tokens":
        return _prose(_pieces(text[: len(text) // 2], (size,)), "max_tokens")
    if fault.name == "refusal":
        said = itertools.islice(_pieces(text, (size,)), fault.after or 0)
        return _prose(said, "refusal", _REFUSED)
    return _prose(_pieces(text, (1, 2, 3) if fault.name == "odd" else (size,)))


def _prose(
    said: Iterable[str], stop_reason: str = "end_turn", stop_details: Json = None
) -> Answer:
    pieces = tuple(said)
    return Answer({"type": "text", "text": "".join(pieces)}, pieces, stop_reason, stop_details)


def _tool_use(asked: Asked, fault: Fault, size: int) -> Answer:
    call = {"type": "tool_use", "id": f"toolu_{asked.digest}"}
    written = orjson.dumps(fault.input).decode()
    block = {**call, "name": fault.tool, "input": fault.input}
    return Answer(block, tuple(_pieces(written, (size,))), "tool_use")


def _pieces(text: str, sizes: Iterable[int]) -> Iterator[str]:
    """`text` in pieces of `sizes` characters, over and over."""
    rest = iter(text)
    for size in itertools.cycle(sizes):
        if not (piece := "".join(itertools.islice(rest, size))):
            return
        yield piece


def _text(asked: Asked, fault: Fault) -> str:
    """All that the model would write if nothing broke it off."""
    language = "en" if fault.name == "wrong_language" else asked.language
    subject = subject_of(asked.message) + _SUFFIXES.get(fault.name, "")
    if fault.name == "prose":
        return str(reply("general", language, subject)["response"]["markdown"])
    said = reply(intent_of(asked.message), language, subject)
    if fault.name == "broken_contract":
        said["response"] = _broken(said["response"])
    return _dressed(orjson.dumps(said).decode(), fault)


def _broken(response: Json) -> Json:
    """`response` without its first field, which every shape requires, and with an unknown word."""
    return {**dict(itertools.islice(response.items(), 1, None)), "feasibility": "surely"}


def _dressed(text: str, fault: Fault) -> str:
    if fault.name == "fenced":
        return f"```json\n{text}\n```"
    if fault.name == "odd":
        turns = itertools.cycle((False, True))
        return re.sub(r"[^\x00-\x7f]", lambda found: _escaped(found[0], next(turns)), text)
    return text


def _escaped(character: str, turn: bool) -> str:
    return json.dumps(character)[1:-1] if turn else character


PAGE: Final = b"<!doctype html><title>502</title><h1>Bad gateway</h1>\n"
"""What a proxy sends in the API's place."""


def message(asked: Asked, answer: Answer, usage: Mapping[str, int]) -> Json:
    output = max(1, sum(map(len, answer.pieces)) // 4)
    return {
        "id": f"msg_{asked.digest}",
        "type": "message",
        "role": "assistant",
        "model": asked.body.get("model"),
        "content": [answer.block],
        "stop_reason": answer.stop_reason,
        "stop_sequence": None,
        "stop_details": answer.stop_details,
        "usage": {**usage, "output_tokens": output},
    }


def begun(message: Json) -> Json:
    """`message` as a stream starts it: nothing said yet."""
    usage = {**message["usage"], "output_tokens": 1}
    return {**message, "content": [], "stop_reason": None, "stop_details": None, "usage": usage}


def closing(message: Json, fault: Fault) -> bytes:
    delta = {key: message[key] for key in ("stop_reason", "stop_sequence", "stop_details")}
    usage = {} if fault.name == "no_usage" else {"usage": message["usage"]}
    return event("content_block_stop", index=0) + event("message_delta", delta=delta, **usage)


def event(kind: str, **fields: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def breaking_off(message: Json, fault: Fault) -> Iterator[Step]:
    match fault.name:
        case "cut":
            raise Cut
        case "eof" if fault.stop:
            yield closing(message, fault)
        case "error_event":
            error = {"type": fault.type, "message": "(offline model) As the request asked."}
            yield event("error", error=error)
        case "bad_json":
            yield b'event: content_block_delta\ndata: {"type": "content_block_delta", "ind\n\n'
        case "hang":
            for _ in range(int(MAX_SECONDS / fault.ping)):
                yield event("ping")
                yield fault.ping
        case _:
            return


def splinters(steps: Iterator[Step]) -> Iterator[Step]:
    """The same bytes, cut after the first byte of every character that has several."""
    for step in steps:
        if isinstance(step, bytes):
            yield from re.split(rb"(?<=[\xc0-\xff])", step)
        else:
            yield step


