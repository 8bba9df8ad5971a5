"""A request that was named by its client: done once, however often it is sent."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, assert_never

from domain.errors import KeyReused
from domain.events import Json, RequestCompleted, RequestEvent

Decided = tuple[RequestEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`fingerprint` names what was asked, `result` is what it came to; None before it is done."""

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
    """Whether this very request was done before. Raises KeyReused if another one was."""
    if state.fingerprint not in (None, fingerprint):
        raise KeyReused
    return state.fingerprint is not None


def finish(state: Request, *, key: str, fingerprint: str, result: Json, offset: int) -> Decided:
    """Note what the request came to. Raises KeyReused."""
    if is_done(state, fingerprint=fingerprint):
        return ()
    return (RequestCompleted(key=key, fingerprint=fingerprint, result=result, offset=offset),)
