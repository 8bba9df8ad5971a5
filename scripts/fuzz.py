"""Look for bytes that break a parser: `python -m scripts.fuzz TARGET... --runs N`.

A target is one parser of bytes from outside. A parser may refuse its input with its documented
exception; any other exception is a fault. Coverage of branches guides the choice of the bytes
(Atheris, libFuzzer). A fault ends the run with its traceback and the bytes in base64.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]
from pydantic import SecretStr

LONGEST: Final = 4_096
Attempt = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`make` imports the parser from the watched `modules`; `seeds` are valid inputs."""

    make: Callable[[], Attempt]
    modules: tuple[str, ...]
    seeds: tuple[bytes, ...]


def _signature() -> Attempt:
    from service.access import signatures

    def attempt(data: bytes) -> None:
        found = signatures.parse(data.decode("latin-1"))
        if found is not None:
            assert found.time >= 0
            assert found.key_id
            assert found.nonce
            assert found.signatures
            signatures.matches(found, ["0" * 64])

    return attempt


def _token() -> Attempt:
    from service.access.authentication import Unauthenticated
    from service.access.browser_tokens import BrowserTokens
    from service.settings import Key

    key = Key(secret=SecretStr("nobody signs with this"), tenant="t", scopes=frozenset({"chat"}))
    tokens = BrowserTokens({"k1": key})

    def attempt(data: bytes) -> None:
        try:
            tokens.read(data.decode("latin-1"))
        except Unauthenticated:
            return
        raise AssertionError("a token of nobody's was taken")

    return attempt


def _reply() -> Attempt:
    from domain.replies.operations import Operation, fold
    from domain.replies.parser import Malformed, ReplyParser

    def read(pieces: list[str]) -> tuple[str | None, Any] | None:
        """The intent and the reply; None when it is malformed."""
        parser, found = ReplyParser(), list[Operation]()
        try:
            for piece in pieces:
                found += parser.feed(piece)
        except Malformed:
            fold(found)
            return None
        found += parser.close()
        return parser.intent, fold(found)

    def attempt(data: bytes) -> None:
        """The reply does not depend on where the text is cut."""
        size, text = data[:1], data[1:].decode("utf-8", "replace")
        step = 1 + sum(size) % 16
        in_pieces = read([text[at : at + step] for at in range(0, len(text), step)])
        # Compared as JSON, because in Python NaN is not equal to itself, and 1 equals True.
        assert json.dumps(in_pieces) == json.dumps(read([text]))

    return attempt


def _cursor() -> Attempt:
    from service.wire import position_of

    def attempt(data: bytes) -> None:
        try:
            position = position_of(data.decode("utf-8", "replace"))
        except ValueError:
            return
        assert 0 <= position < 10**18

    return attempt


def _frame() -> Attempt:
    from projections.replies import ReplyRef
    from service.api.replies import _frame_in
    from service.http.problems import BadRequest

    place = ReplyRef(tenant_id="t", project_id="p", session_id="s", reply_id="m.1")

    def attempt(data: bytes) -> None:
        try:
            number = _frame_in(data.decode("utf-8", "replace"), place)
        except BadRequest:
            return
        assert 0 <= number < 2**31

    return attempt


def _request() -> Attempt:
    """The first byte chooses the operation, and its body or its query."""
    from starlette.requests import Request

    from service.access.authentication import Caller
    from service.app import OPERATIONS
    from service.http.operation import _parsed, _queried
    from service.http.problems import BadRequest

    bodies = [each.body for each in OPERATIONS if each.body is not None]
    queries = [each.query for each in OPERATIONS if each.query is not None]
    caller = Caller(key_id="k", tenant_id="t", scopes=frozenset({"chat"}), user_id="u1")

    def attempt(data: bytes) -> None:
        chosen, content = sum(data[:1]) % (len(bodies) + len(queries)), data[1:]
        scope = {"type": "http", "headers": [], "query_string": content}
        try:
            if chosen < len(bodies):
                _parsed(bodies[chosen], Request(scope), content)
            else:
                _queried(queries[chosen - len(bodies)], Request(scope), caller)
        except BadRequest:
            return

    return attempt


def _planted() -> Attempt:
    """A parser with a fault that random bytes would miss. It shows that the fuzzer finds faults."""

    def attempt(data: bytes) -> None:
        if data[:1] == b"f" and data[1:2] == b"o" and data[2:3] == b"e":
            raise RuntimeError("the planted fault")

    watched: Attempt = atheris.instrument_func(attempt)
    return watched


_MESSAGE: Final = b'{"userId":"u1","projectId":"p1","message":"Hello","locale":"en"}'
_EVENTS: Final = (
    b'{"events":[{"eventId":"e","phase":"deploy","type":"completed","title":"t",'
    b'"at":"2026-01-01T00:00:00Z","versionId":"v"}]}'
)
_QUERY: Final = b"userId=u1&limit=3&before=a.1&types=a"
TARGETS: Final[Mapping[str, Target]] = {
    "signature": Target(
        make=_signature,
        modules=("service.access.signatures",),
        seeds=(b"t=1,kid=k1,n=1,v1=" + b"0" * 64, b"t=1,kid=k1,n=1,v1=0,v1=1"),
    ),
    "token": Target(
        make=_token,
        modules=("service.access.browser_tokens", "jwt"),
        seeds=(
            b"eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJzdWIiOiJ1MSJ9.AAAA",
            b"eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.e30.",
        ),
    ),
    "reply": Target(
        make=_reply,
        modules=("domain.replies.operations",),
        seeds=(
            b'\x03{"intent":"question","response":{"answer":"a\\u00e9\\n","n":[1,-2.5e3,null]}}',
            b'\x07```json\n{"response":{"a":[{}]},"intent":"fix"}\n```',
            b"\x01prose",
        ),
    ),
    "cursor": Target(make=_cursor, modules=("service.wire",), seeds=(b"13.4907f9c4", b"0.1")),
    "frame": Target(make=_frame, modules=("service.api.replies",), seeds=(b"m.1.7", b".7", b"7")),
    "request": Target(
        make=_request,
        modules=("service.http.operation", "service.http.problems", "service.api.schemas"),
        seeds=tuple(bytes([n]) + each for n in range(40) for each in (_MESSAGE, _EVENTS, _QUERY)),
    ),
    "planted": Target(make=_planted, modules=(), seeds=(b"f",)),
}


def fuzz(target: Target, attempt: Attempt, runs: int, folder: str) -> None:
    """Try `runs` inputs. Ends the process: with 0, or at the first fault."""
    for number, seed in enumerate(target.seeds):
        Path(folder, f"seed-{number}").write_bytes(seed)

    def found(data: bytes) -> None:
        try:
            attempt(data)
        except Exception:
            print("Base64:", b64encode(data).decode(), file=sys.stderr, flush=True)
            raise

    options = (f"-runs={runs}", "-seed=1", f"-max_len={LONGEST}", "-timeout=10")
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", folder], found)
    atheris.Fuzz()


def main() -> None:
    """Fuzz each target in a fork of its own, because libFuzzer ends its process.

    The imports take longer than a short run, so all targets share them.
    """
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("targets", choices=TARGETS, nargs="+", metavar="target")
    arguments.add_argument("--runs", type=int, required=True)
    chosen = arguments.parse_args()
    targets = [TARGETS[name] for name in chosen.targets]
    watched = [module for target in targets for module in target.modules]
    with atheris.instrument_imports(include=watched):
        attempts = [target.make() for target in targets]
    forks = multiprocessing.get_context("fork")
    for name, target, attempt in zip(chosen.targets, targets, attempts, strict=True):
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            process = forks.Process(target=fuzz, args=(target, attempt, chosen.runs, folder))
            process.start()
            process.join()
        if process.exitcode:
            sys.exit(f"target {name} ended with {process.exitcode}")


if __name__ == "__main__":
    main()
