"""Forks: a session that begins with what another one had said."""

from dataclasses import replace
from functools import partial
from typing import Any

from domain import modes
from domain.deciders import session
from domain.deciders.session import About
from domain.errors import MessageUnknown, SessionUnknown
from domain.events import Json, SessionMode
from domain.modes import MODES
from service.commands.projects import require_actor
from service.eventlog.lineage import ForkPoint, fork_point, lineage
from service.eventlog.store import EventStore
from service.eventlog.stream_ids import project_stream, session_stream
from service.eventlog.transactions import Transaction
from service.ids import new_id


async def point(
    store: EventStore, *, tenant_id: str, session_id: str, message_id: str
) -> tuple[ForkPoint, int]:
    """Where a fork at this message leaves the session, or the session that this one shares the
    message with; and how many forks that session is the last of.

    Raises SessionUnknown, MessageUnknown.
    """
    parts = await lineage(store, tenant_id, session_id)
    if not parts:
        raise SessionUnknown
    found = await fork_point(store, tenant_id, parts, message_id)
    if found is None:
        raise MessageUnknown
    ids = [each.session_id for each in parts]
    return found, len(parts) - 1 - ids.index(found.session_id)


async def fork(
    transaction: Transaction,
    *,
    project_id: str,
    session_id: str,
    user_id: str,
    message_id: str,
    mode: SessionMode | None,
    context: About,
    point: ForkPoint,
    forks: int,
) -> str:
    """Open a session of a user, which leaves the session `session_id` at a point; returns its id.

    Without a mode the fork has the mode `what_if`, and the fork of a private session the mode of
    that session. Raises NotAMember, ViewerOnly, SessionUnknown, ModeFixed, TooManyForks.
    """
    forked, left = session_stream(session_id), session_stream(point.session_id)
    await transaction.recall(project_stream(project_id), forked, left)
    await require_actor(transaction, project_id, user_id)
    state = await transaction.load(forked)
    parent = await transaction.load(left)
    mode = mode or (state.mode if MODES[state.mode].is_private else "what_if")
    fork_id = modes.session_id(mode, new_id())
    stream = session_stream(fork_id, project_id)
    transaction.begin(stream)
    opening = partial(
        session.open_fork,
        session_id=fork_id,
        user_id=user_id,
        mode=mode,
        parent=parent,
        message_id=message_id,
        version=point.version,
        forks=forks,
        context=context,
    )
    await transaction.decide(stream, opening)
    settings = _without_texts(state.settings)
    used = None if state.prompt is None else replace(state.prompt, answers=None)
    if (state.model, state.max_tokens, settings, used) != (None, None, None, None):
        decision = partial(
            session.instruct,
            model=state.model,
            max_tokens=state.max_tokens,
            settings=settings,
            prompt=used,
        )
        await transaction.decide(stream, decision)
    return fork_id


def _without_texts(settings: Json) -> Json:
    """The settings that a fork has, too: the numbers and the booleans; None if there are none.

    Texts stay where they can be erased.
    """
    known: dict[str, Any] = settings or {}
    kept = {name: each for name, each in known.items() if isinstance(each, bool | int | float)}
    return kept or None
