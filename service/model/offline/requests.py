"""Parses requests of the Messages API, and the directives in them."""

import hashlib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Literal, cast, get_args

import orjson

from domain.replies.questions import HINTS
from service.model.offline.replies import INTENTS, LANGUAGES, Intent, Json, Language

Name = Literal[
    "normal", "status", "slow", "slow_first", "hang", "cut_before", "cut", "eof", "error_event",
    "html", "bad_json", "refusal", "max_tokens", "broken_contract", "prose", "fenced", "odd", "nul",
    "no_usage", "wrong_language", "raw", "tool",
]  # fmt: skip

MAX_SECONDS: Final = 600.0
"""The longest silence of a stream, in seconds."""

ERRORS: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}

_BREAKING: Final = frozenset({"hang", "cut", "eof", "error_event", "bad_json"})

_READS: Final[Mapping[str, frozenset[str]]] = {
    "status": frozenset({"code", "retry_after"}),
    "slow": frozenset({"seconds"}),
    "slow_first": frozenset({"seconds"}),
    "hang": frozenset({"after", "ping"}),
    "cut": frozenset({"after"}),
    "eof": frozenset({"after", "stop"}),
    "error_event": frozenset({"after", "type"}),
    "bad_json": frozenset({"after"}),
    "refusal": frozenset({"after"}),
}

_VALUES: Final[Mapping[str, Callable[[str], Any]]] = {
    "code": int,
    "retry_after": int,
    "after": int,
    "times": int,
    "seconds": float,
    "ping": float,
    "stop": "1".__eq__,
    "type": str,
}

_DIRECTIVE: Final = re.compile(r"\[\[offline:([^\]]*)\]\]")
_FILE: Final = re.compile(r"[\w/.-]+\.(?:py|md|toml|ts|js|txt|html|css|sql)\b")
_LINE: Final = re.compile(r"^\s*(\d+)\W+(\S.*)$", re.MULTILINE)
_LANGUAGE: Final = re.compile(rf"\bReply in ({'|'.join(LANGUAGES)})\b")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the list in `service.model.offline.app`. Raises ValueError for a malformed fault.

    `after` counts text deltas, `seconds`, `ping` and `retry_after` are seconds, `pieces` are the
    deltas of `raw`. A script ignores `times`: each of its faults is used once.
    """

    name: Name
    _: KW_ONLY
    code: int = 529
    retry_after: int | None = None
    after: int | None = None
    seconds: float = 1.0
    ping: float = 1.0
    stop: bool = False
    type: str = "overloaded_error"
    times: int | None = None
    pieces: tuple[str, ...] = ()
    tool: str = ""
    input: Mapping[str, Json] = field(default_factory=dict[str, Json])

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise ValueError(f"no such fault: {self.name or 'none is named'}")
        if self.code not in ERRORS or self.type not in ERRORS.values():
            raise ValueError(f"no such error: {self.code} {self.type}")
        if self.after is not None and self.after < 0:
            raise ValueError("after counts deltas: 0 or more")
        if not (0.0 < self.seconds <= MAX_SECONDS and 0.01 <= self.ping <= MAX_SECONDS):
            raise ValueError("seconds: above 0 and at most 600; ping: at least 0.01")
        if (self.name == "tool") != bool(self.tool):
            raise ValueError("tool needs the name of one")

    @property
    def breaks(self) -> bool:
        """Whether the stream ends without its last events."""
        return self.name in _BREAKING

    @property
    def through(self) -> int | None:
        """The number of text deltas that are sent; None for all."""
        if not self.breaks or (self.stop and self.after is None):
            return None
        return self.after or 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A parsed request.

    `digest` names its bytes. `hint` is the mode that the user asked for, if any. `tools` are the
    tool calls that have no result yet, `faults` the other directives in their order, and `seen` the
    lines of files that tools have shown. `contracts` are the intents that the answer may have;
    without any it is Markdown.
    """

    body: Json
    digest: str
    message: str
    language: Language
    hint: Intent | None
    contracts: tuple[Intent, ...]
    tools: tuple[Fault, ...]
    faults: tuple[Fault, ...]
    seen: tuple[Json, ...] = ()


def read(raw: bytes) -> Asked:
    """Parse the request in `raw`. Raises ValueError for a malformed one."""
    try:
        return _asked(orjson.loads(raw), hashlib.sha256(raw).hexdigest()[:24])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a request for a message: {error!r}") from error


def _asked(body: Json, digest: str) -> Asked:
    text, results = _last_text(body["messages"])
    system = "\n".join(part["text"] for part in parts(body.get("system")))
    found = [_directive(inside) for inside in _DIRECTIVE.findall(text)]
    message = _last_paragraph(_DIRECTIVE.sub("", text))
    offered = {tool["name"] for tool in body.get("tools") or ()}
    tools = [fault for fault in found if fault.name == "tool"] if offered else []
    if not found:
        tools = _natural(message, offered)
    if body.get("tool_choice", {}).get("type") == "none":
        tools = []
    return Asked(
        body=body,
        digest=digest,
        message=message,
        language=_language(system),
        hint=_hint(text),
        contracts=_contracts(body),
        tools=tuple(tools[results:]),
        faults=tuple(fault for fault in found if fault.name != "tool"),
        seen=tuple(_seen(body["messages"])),
    )


def _natural(message: str, offered: set[str]) -> list[Fault]:
    """The tool calls before an answer: for the file that the message names, or for all files."""
    if {"read_file", "list_files"} <= offered:
        if named := _FILE.search(message):
            return [Fault("tool", tool="read_file", input={"path": named[0]})]
        return [Fault("tool", tool="list_files", input={})]
    return []


def _seen(messages: Json) -> Iterator[Json]:
    """The first line with text of each file that was read."""
    paths: dict[str, str] = {}
    for block in (block for message in messages for block in parts(message["content"])):
        if block["type"] == "tool_use" and block["name"] == "read_file":
            paths[block["id"]] = block["input"].get("path", "")
        elif block["type"] == "tool_result" and block["tool_use_id"] in paths:
            shown = "".join(part["text"] for part in parts(block["content"]))
            if line := _LINE.search(shown):
                file = paths[block["tool_use_id"]]
                yield {"file": file, "line": int(line[1]), "snippet": line[2].strip()}


def parts(content: Json) -> list[Json]:
    """The blocks of `content`, which may be a bare text or missing."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())


def _last_text(messages: Json) -> tuple[str, int]:
    """The last text of the user, and the number of tool results after it."""
    results = 0
    for message in reversed(messages):
        blocks = parts(message["content"])
        new = sum(block["type"] == "tool_result" for block in blocks)
        texts = [block["text"] for block in blocks if block["type"] == "text"]
        if message["role"] == "user" and texts and not new:
            return texts[-1], results
        results += new
    raise ValueError("no message of the user's")


def _last_paragraph(text: str) -> str:
    return re.split(r"\n\s*\n", text.strip())[-1]


def _hint(text: str) -> Intent | None:
    """The mode that a paragraph before the message names."""
    earlier = re.split(r"\n\s*\n", text.strip())[:-1]
    return next((mode for mode, said in HINTS.items() if said in earlier), None)


def _contracts(body: Json) -> tuple[Intent, ...]:
    """The intents that the request's schema allows."""
    config: Json = body.get("output_config")
    if not config:
        return ()
    members: Json = config["format"]["schema"].get("properties", {})
    return tuple(members["intent"]["enum"]) if "intent" in members else INTENTS


def _language(system: str) -> Language:
    found = _LANGUAGE.search(system)
    return cast(Language, found[1]) if found else "en"


def _directive(text: str) -> Fault:
    """The fault that the inside of a directive names. Raises ValueError."""
    name, *words = shlex.split(text) or [""]
    pairs = dict(_pair(word) for word in words)
    if name == "tool":
        tool = pairs.pop("name", "")
        return Fault("tool", tool=tool, input={key: _loose(pairs[key]) for key in pairs})
    if unread := pairs.keys() - _READS.get(name, frozenset()) - {"times"}:
        raise ValueError(f"{name} does not read {', '.join(sorted(unread))}")
    values: dict[str, Any] = {key: _VALUES[key](pairs[key]) for key in pairs}
    return Fault(cast(Name, name), **values)


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise ValueError(f"not key=value: {word}")
    return key, value


def _loose(value: str) -> Json:
    """A number or a truth value where `value` reads as one, else the text itself."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


@dataclass(frozen=True, slots=True)
class Prefix:
    """A request up to the end of one of its blocks; `length` in characters.

    `marked`: the block has cache_control, so the prefix is cached.
    """

    digest: str
    length: int
    marked: bool


def prefixes(body: Json) -> Iterator[Prefix]:
    """Every prefix of a request, shortest first; the last is the whole of it."""
    digest, length = hashlib.sha256(), 0
    for block in _blocks(body):
        # The mark is not part of the cached prefix: it moves as a conversation grows.
        text = orjson.dumps({key: block[key] for key in block if key != "cache_control"})
        digest.update(text)
        length += len(text.decode())
        yield Prefix(digest.hexdigest(), length, bool(block.get("cache_control")))


def _blocks(body: Json) -> Iterator[Json]:
    """All blocks of the request, in the order in which the API caches them."""
    yield {"model": body.get("model"), "output_config": body.get("output_config")}
    yield from body.get("tools") or ()
    yield from parts(body.get("system"))
    for message in body["messages"]:
        for part in parts(message["content"]):
            yield {"role": message["role"], **part}
