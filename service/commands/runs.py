"""Runs: queued by users, claimed and reported on by engines, discussed in sessions, erased."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from domain.deciders import run, session
from domain.deciders.run import Report, Run
from domain.errors import RunUnknown, SessionPrivate, SessionUnknown
from domain.events import Json, RunEvent
from domain.modes import MODES
from projections.runs import is_silent
from service.commands.projects import require_actor
from service.commands.sessions import Opening, RunMaterial, give_run_material, open_session
from service.eventlog.stream_ids import StreamId, project_stream, run_stream, session_stream
from service.eventlog.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """A run that a user asks for. `given` is its input; `answers` are the values of the
    placeholders of the prompt version."""

    project_id: str
    user_id: str
    title: str
    session_id: str | None
    prompt_version_id: str | None
    answers: Json
    settings: Json
    given: Json


async def queue(transaction: Transaction, *, run_id: str, order: RunOrder) -> dict[str, Any]:
    """Queue a run; returns its id as `run`.

    Raises NotAMember, ViewerOnly, SessionUnknown, and SessionPrivate for a private session of the
    user's own: every member sees the run.
    """
    await require_actor(transaction, order.project_id, order.user_id)
    if order.session_id is not None:
        await _require_public(transaction, order, order.session_id)
    stream = run_stream(run_id, order.project_id)
    transaction.begin(stream)
    queueing = partial(
        run.queue,
        run_id=run_id,
        project_id=order.project_id,
        user_id=order.user_id,
        title=order.title,
        session_id=order.session_id,
        prompt_version_id=order.prompt_version_id,
        answers=order.answers,
        settings=order.settings,
        given=order.given,
    )
    await transaction.decide(stream, queueing)
    return {"run": run_id}


async def _require_public(transaction: Transaction, order: RunOrder, session_id: str) -> None:
    state = await transaction.load(session_stream(session_id))
    if state.project_id != order.project_id or state.status == "deleted":
        raise SessionUnknown
    if MODES[state.mode].is_private:
        raise SessionPrivate if state.user_id == order.user_id else SessionUnknown


async def claim(transaction: Transaction, *, run_id: str, worker_id: str) -> None:
    """Give the run to an engine. Raises RunUnknown, RunTaken, RunEnded."""
    stream, _ = await _load(transaction, run_id)
    await transaction.decide(stream, partial(run.claim, worker_id=worker_id))


async def report(
    transaction: Transaction, *, run_id: str, reports: Sequence[Report]
) -> dict[str, Any]:
    """Store what an engine reports.

    Returns the run's `status` then, the `code` of a failed run, and how many of the reports were
    new: `accepted`. Raises RunUnknown, RunFull.
    """
    stream, before = await _load(transaction, run_id)
    await transaction.decide(stream, partial(run.report, reported=reports))
    after = await transaction.load(stream)
    accepted = len(after.seen) - len(before.seen)
    return {"status": after.status, "code": after.code, "accepted": accepted}


async def cancel(transaction: Transaction, *, run_id: str, user_id: str | None) -> None:
    """End a run for a member, or for the tenant's own service. A run that has ended stays as it is.

    Raises RunUnknown, NotAMember, ViewerOnly.
    """
    stream, state = await _load(transaction, run_id)
    if user_id is not None:
        await require_actor(transaction, state.project_id, user_id)
    await transaction.decide(stream, run.cancel)


async def time_out(
    transaction: Transaction, *, tenant_id: str, run_id: str, silent_seconds: float
) -> None:
    """End a run that no engine has reported on for so long. A run that has ended, or that an engine
    has reported on meanwhile, stays as it is."""
    error = f"Nothing was heard of the run for {silent_seconds:g} seconds."
    read = is_silent(tenant_id=tenant_id, run_id=run_id, silent_seconds=silent_seconds)
    await transaction.recall(run_stream(run_id), beside=(read,))
    if not await read.row():
        return
    stream, _ = await _load(transaction, run_id)
    await transaction.decide(stream, partial(run.time_out, error=error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Discussion:
    """The results of a run, to be told to the session `session_id` of the user; without one to the
    session that `opening` opens or finds, which has the same material."""

    material: RunMaterial
    candidate_id: str | None
    user_id: str
    session_id: str | None
    opening: Opening


async def discuss(transaction: Transaction, *, asked: Discussion) -> dict[str, Any]:
    """Tell a session the results of a run, once. Returns its id as `session`, and `is_new`.

    Raises NotAMember, ViewerOnly, RunUnknown, CandidateUnknown, RunNotEnded, SessionUnknown, and
    what refuses one more message of the session.
    """
    project_id = asked.material.project_id
    stream = run_stream(asked.material.run_id, project_id)
    await transaction.recall(project_stream(project_id), stream)
    await require_actor(transaction, project_id, asked.user_id)
    state = await transaction.load(stream)
    run.require_parts(state, step_id=None, candidate_id=asked.candidate_id)
    run.require_over(state)
    if asked.session_id is None:
        return await open_session(transaction, opening=asked.opening)
    await _require_own(transaction, project_id, asked.session_id, asked.user_id)
    await give_run_material(transaction, asked.material, session_id=asked.session_id)
    return {"session": asked.session_id, "is_new": False}


async def _require_own(
    transaction: Transaction, project_id: str, session_id: str, user_id: str
) -> None:
    state = await transaction.load(session_stream(session_id, project_id))
    if (state.project_id, state.user_id) != (project_id, user_id):
        raise SessionUnknown
    session.require_capacity(session.fold(session.resume(state), state))


async def erase(transaction: Transaction, *, run_id: str, user_id: str | None) -> None:
    """Erase a run, and the texts about the run in sessions.

    The user of the run and the tenant's service may do it.

    Raises RunUnknown.
    """
    stream, state = await _load(transaction, run_id)
    if user_id not in (None, state.user_id):
        raise RunUnknown
    for each in state.materials:
        stream_of_session = session_stream(each.session_id, state.project_id)
        decision = partial(session.erase_material, message_id=each.message_id)
        await transaction.decide(stream_of_session, decision)
    await transaction.decide(stream, run.erase)


async def _load(transaction: Transaction, run_id: str) -> tuple[StreamId[Run, RunEvent], Run]:
    """The stream of a run with its project, and its state. Raises RunUnknown."""
    state = await transaction.load(run_stream(run_id))
    run.require_known(state)
    return run_stream(run_id, state.project_id), state
