"""A request with an idempotency key: it is done once, however often the client sends it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, assert_never

from domain.errors import KeyReused
from domain.events import Json, RequestCompleted, RequestEvent

Decided = tuple[RequestEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`fingerprint` is a digest of the request, None before it is done; `result` is its result."""

    fingerprint: str | None = None
    result: Json = None


INITIAL: Final = Request()


def evolve(state: Request, event: RequestEvent) -> Request:  # noqa: ARG001 - done once
    """The request after one more event."""
    match event:
        case RequestCompleted():
            return Request(fingerprint=event.fingerprint, result=event.result)
        case _:
            assert_never(event)


def fold(events: Iterable[RequestEvent], state: Request = INITIAL) -> Request:
    """The request after all of `events`."""
    for event in events:
        state = evolve(state, event)
    return state


def is_done(state: Request, *, fingerprint: str) -> bool:
    """Whether this request was done before. Raises KeyReused if the key's request was another."""
    if state.fingerprint not in (None, fingerprint):
        raise KeyReused
    return state.fingerprint is not None


def finish(state: Request, *, key: str, fingerprint: str, result: Json, offset: int) -> Decided:
    """Record the result of the request. Raises KeyReused."""
    if is_done(state, fingerprint=fingerprint):
        return ()
    return (RequestCompleted(key=key, fingerprint=fingerprint, result=result, offset=offset),)
