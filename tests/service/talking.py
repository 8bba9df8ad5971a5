"""Sessions of every mode for tests, and what is said in them over HTTP."""

from functools import partial
from typing import Any, Final

import httpx

from domain import modes
from domain.deciders import session
from domain.deciders.session_state import Session
from domain.events import SessionMode
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import Transaction
from service.ids import new_id
from tests.running import Event, LiveService, events_of
from tests.service.watching import SSE


async def begun(
    live: LiveService,
    mode: SessionMode,
    *,
    user_id: str = "u1",
    project_id: str = "p1",
    **instructions: Any,
) -> str:
    """Open a session of a mode, with its instructions if there are any; returns its id."""
    stream = session_stream(modes.session_id(mode, new_id()), project_id)

    async def work(transaction: Transaction) -> None:
        opening = partial(
            session.open_session,
            session_id=stream.id,
            project_id=project_id,
            user_id=user_id,
            mode=mode,
        )
        await transaction.decide(stream, opening)
        if instructions:
            await transaction.decide(stream, partial(session.instruct, **instructions))

    await live.service.transactions.transact(live.tenant_id, work)
    return stream.id


async def forked(live: LiveService, parent_id: str, *, version: int, mode: SessionMode) -> str:
    """Fork a session after the event with this version of its stream; returns the fork's id."""
    stream = session_stream(modes.session_id(mode, new_id()), "p1")

    async def work(transaction: Transaction) -> None:
        parent = await transaction.load(session_stream(parent_id, "p1"))
        forking = partial(
            session.open_fork,
            session_id=stream.id,
            user_id=parent.user_id,
            mode=mode,
            parent=parent,
            message_id="m",
            version=version,
        )
        await transaction.decide(stream, forking)

    await live.service.transactions.transact(live.tenant_id, work)
    return stream.id


async def state_of(live: LiveService, session_id: str) -> Session:
    """The session as the log has it."""
    return await live.service.transactions.current(live.tenant_id, session_stream(session_id))


BOTH: Final[tuple[dict[str, Any], ...]] = ({}, {"reply": False})
"""Both ways to say something: with a reply, and appended."""


def path(session_id: str) -> str:
    """The address of a session's messages."""
    return f"/v1/sessions/{session_id}/messages"


async def say(
    live: LiveService,
    session_id: str,
    message: str,
    *,
    client: httpx.AsyncClient | None = None,
    headers: dict[str, str] | None = None,
    **members: Any,
) -> httpx.Response:
    """Say something in a session, and wait for the whole answer."""
    body = {"userId": "u1", "message": message} | members
    return await (client or live.client).post(path(session_id), json=body, headers=headers)


async def streamed(live: LiveService, session_id: str, message: str, **members: Any) -> list[Event]:
    """Say something in a session, and read the stream of its reply to the end."""
    answer = await say(live, session_id, message, headers=SSE, **members)
    assert answer.status_code == 200, answer.text
    return events_of(answer.text)


async def said(
    live: LiveService, session_id: str, client: httpx.AsyncClient | None = None, **query: Any
) -> list[Any]:
    """A page of the messages of a session."""
    params: dict[str, Any] = {"userId": "u1", "limit": 200} | query
    answer = await (client or live.client).get(path(session_id), params=params)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["messages"])


def texts(messages: list[Any]) -> list[str]:
    """What each message says."""
    return [
        each["userMessage"]["text"] if "userMessage" in each else each["aiResponse"].get("text", "")
        for each in messages
    ]
