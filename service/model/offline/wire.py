"""The answers of the offline model in the Messages API's format: bytes and silences."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson

from service.model.offline.replies import Json, intent_of, reply, subject_of
from service.model.offline.requests import MAX_SECONDS, Asked, Fault, Name

Step: TypeAlias = bytes | float
"""Bytes to send, or seconds of silence."""


_PAGE: Final = b"<!doctype html><title>502</title><h1>Bad gateway</h1>\n"


class Cut(Exception):
    """The connection is cut here, in the middle of the answer."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds before the first text and between deltas, and a delta's length in characters."""

    delay: float
    pace: float
    size: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """One content block, the pieces that it is sent in, and its stop reason."""

    block: Json
    pieces: tuple[str, ...]
    stop_reason: str = "end_turn"
    stop_details: Json = None

    def opening(self) -> Json:
        """The empty block at the start of its stream."""
        empty: Json = {"input": {}} if "input" in self.block else {"text": ""}
        return {**self.block, **empty}

    def delta(self, piece: str) -> Json:
        if "input" in self.block:
            return {"type": "input_json_delta", "partial_json": piece}
        return {"type": "text_delta", "text": piece}


def steps(asked: Asked, fault: Fault, usage: Mapping[str, int], pace: Pace) -> Iterator[Step]:
    """The bytes after the status, and the silences between them. Raises Cut at a cut.

    `usage` is the usage of the input, under the API's names.
    """
    if fault.name == "slow":
        yield fault.seconds
    if fault.name == "html":
        yield _PAGE
        return
    answer = _answer(asked, fault, pace.size)
    message = _message(asked, answer, _reported_usage(usage, fault))
    if not asked.body.get("stream"):
        yield orjson.dumps(message)
        return
    stream = _stream(answer, message, fault, pace)
    yield from _splinters(stream) if fault.name == "odd" else stream


def _reported_usage(usage: Mapping[str, int], fault: Fault) -> Mapping[str, int]:
    return {"input_tokens": sum(usage.values())} if fault.name == "no_usage" else usage


def _stream(answer: _Answer, message: Json, fault: Fault, pace: Pace) -> Iterator[Step]:
    if fault.name == "cut_before":
        yield b""  # the headers
        raise Cut
    yield _event("message_start", message=_begun(message))
    yield _event("content_block_start", index=0, content_block=answer.opening())
    yield _event("ping")
    yield fault.seconds if fault.name == "slow_first" else pace.delay
    for number, piece in enumerate(itertools.islice(answer.pieces, fault.through)):
        if number:
            yield pace.pace
        yield _event("content_block_delta", index=0, delta=answer.delta(piece))
    yield from _breaking_off(message, fault) if fault.breaks else _ending(message, fault)


def _ending(message: Json, fault: Fault) -> Iterator[Step]:
    yield _closing(message, fault)
    yield _event("message_stop")


def _message(asked: Asked, answer: _Answer, usage: Mapping[str, int]) -> Json:
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


def _begun(message: Json) -> Json:
    """`message` without content, as at the start of a stream."""
    usage = {**message["usage"], "output_tokens": 1}
    return {**message, "content": [], "stop_reason": None, "stop_details": None, "usage": usage}


def _closing(message: Json, fault: Fault) -> bytes:
    delta = {key: message[key] for key in ("stop_reason", "stop_sequence", "stop_details")}
    usage = {} if fault.name == "no_usage" else {"usage": message["usage"]}
    return _event("content_block_stop", index=0) + _event("message_delta", delta=delta, **usage)


def _event(kind: str, **fields: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def _breaking_off(message: Json, fault: Fault) -> Iterator[Step]:
    match fault.name:
        case "cut":
            raise Cut
        case "eof" if fault.stop:
            yield _closing(message, fault)
        case "error_event":
            error = {"type": fault.type, "message": "(offline model) As the request asked."}
            yield _event("error", error=error)
        case "bad_json":
            yield b'event: content_block_delta\ndata: {"type": "content_block_delta", "ind\n\n'
        case "hang":
            for _ in range(int(MAX_SECONDS / fault.ping)):
                yield _event("ping")
                yield fault.ping
        case _:
            return


def _splinters(whole: Iterator[Step]) -> Iterator[Step]:
    """The same bytes, cut after the first byte of every character that has several."""
    for step in whole:
        if isinstance(step, bytes):
            yield from re.split(rb"(?<=[\xc0-\xff])", step)
        else:
            yield step


# Answers -----------------------------------------------------------------------------------------


_SUFFIXES: Final[Mapping[Name, str]] = {"odd": " 🧵🧵", "nul": "\x00"}

_REFUSED: Final = {
    "type": "refusal",
    "category": "cyber",
    "explanation": "(offline model) Refused, as the request asked.",
}


def _answer(asked: Asked, fault: Fault, size: int) -> _Answer:
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
) -> _Answer:
    pieces = tuple(said)
    return _Answer({"type": "text", "text": "".join(pieces)}, pieces, stop_reason, stop_details)


def _tool_use(asked: Asked, fault: Fault, size: int) -> _Answer:
    call = {"type": "tool_use", "id": f"toolu_{asked.digest}"}
    written = orjson.dumps(fault.input).decode()
    block = {**call, "name": fault.tool, "input": fault.input}
    return _Answer(block, tuple(_pieces(written, (size,))), "tool_use")


def _pieces(text: str, sizes: Iterable[int]) -> Iterator[str]:
    """`text` in pieces of `sizes` characters, over and over."""
    rest = iter(text)
    for size in itertools.cycle(sizes):
        if not (piece := "".join(itertools.islice(rest, size))):
            return
        yield piece


def _text(asked: Asked, fault: Fault) -> str:
    """The whole text of the answer, without a cut."""
    language = "en" if fault.name == "wrong_language" else asked.language
    subject = subject_of(asked.message) + _SUFFIXES.get(fault.name, "")
    if fault.name == "prose" or not asked.contracts:
        return str(reply("general", language, subject)["response"]["markdown"])
    intent = asked.hint or intent_of(asked.message)
    said = reply(intent if intent in asked.contracts else asked.contracts[0], language, subject)
    if asked.seen and "references" in said["response"]:
        said["response"]["references"] = list(asked.seen)
    if asked.seen and "solution" in said["response"]:
        said["response"]["solution"]["changes"][0]["file"] = asked.seen[0]["file"]
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
