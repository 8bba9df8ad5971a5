"""Erasure of a session, of a prompt with the sessions made of it, and of a whole project.

The append that has the marker masks the log and takes the rows out of the read models, so a
session is gone at once or not at all. A project, or a prompt, is closed first and then emptied
session by session, and a project then run by run. When a process dies in between, another
process does the rest.

The log itself tells what is in a project: a read model may lack a session, because it is halted or
has set the session's stream aside.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, Final

import structlog

from domain.deciders import build, project, prompt, session
from domain.deciders.project import Project
from domain.errors import (
    PromptUnknown,
    Refused,
    ReplyInProgress,
    ReplyUnknown,
    RunUnknown,
    SessionUnknown,
)
from domain.events import (
    Event,
    ProjectEvent,
    PromptCreated,
    RunQueued,
    SessionInstructed,
    SessionOpened,
)
from projections import prompts
from projections.projects import erasing
from service.chat.turns import Turns
from service.commands import runs
from service.commands.late_openings import Closed, LateOpenings
from service.commands.prompts import request_erasure
from service.eventlog.errors import (
    DATABASE_AWAY,
    Contended,
    OutcomeUnknown,
    ReplyStillEnding,
    answering,
)
from service.eventlog.store import EventStore
from service.eventlog.stream_ids import build_stream, project_stream, prompt_stream, session_stream
from service.eventlog.transactions import (
    BY_ITSELF,
    RequestContext,
    Transaction,
    Transactions,
    decode,
)
from service.postgres.connections import Pool, service_transaction

_AT_A_TIME: Final = 100
_CANCELS: Final = 10
"""Attempts to cancel running replies, while new ones begin, before giving up."""

_log = structlog.stdlib.get_logger(__name__)


class Erasure:
    """Owned by the service's loop."""

    def __init__(
        self, store: EventStore, transactions: Transactions, pool: Pool, turns: Turns
    ) -> None:
        self._store = store
        self._transactions = transactions
        self._pool = pool
        self._turns = turns
        self.late_openings = LateOpenings()

    async def session(
        self, tenant_id: str, project_id: str, session_id: str, cause: RequestContext = BY_ITSELF
    ) -> int:
        """Erase a session; returns the position that says so. Its running replies are ended first.

        Raises SessionUnknown, and BuildInProgress while its plan is being built.
        """
        work = partial(_erase_session, project_id=project_id, session_id=session_id)
        for _ in range(_CANCELS):
            try:
                _, appended = await self._transactions.transact(tenant_id, work, cause=cause)
            except ReplyInProgress as running:
                await self._end(
                    tenant_id, running.message_id, RequestContext(metadata=cause.metadata)
                )
            else:
                assert appended is not None
                return appended.last_position
        raise Contended("others kept beginning replies in the session")

    async def _end(self, tenant_id: str, message_id: str, cause: RequestContext) -> None:
        row = await self._turns.find(tenant_id, message_id)
        if row is None:
            return
        with suppress(ReplyUnknown):  # another caller has erased the session meanwhile
            if await self._turns.cancel(row, "cancelled", cause) is None:
                raise ReplyStillEnding

    async def project(self, tenant_id: str, project_id: str, cause: RequestContext) -> int:
        """Erase a project with all its sessions and runs; returns the position that closed it.

        Raises ProjectUnknown, and BuildInProgress while it is being built.
        """
        work = partial(_decide, project_id=project_id, decision=project.request_erasure)
        _, appended = await self._transactions.transact(tenant_id, work, cause=cause)
        assert appended is not None
        with answering(appended.last_position):
            await self._empty(tenant_id, project_id)
        return appended.last_position

    async def prompt(
        self,
        tenant_id: str,
        project_id: str,
        prompt_id: str,
        user_id: str | None,
        cause: RequestContext,
    ) -> int:
        """Erase a prompt with its versions, and the sessions of all users made of it, for a user or
        for the tenant; returns the position that closed the prompt.

        Raises NotAMember, ViewerOnly, OwnersOnly, PromptUnknown.
        """
        work = partial(request_erasure, project_id=project_id, prompt_id=prompt_id, user_id=user_id)
        _, appended = await self._transactions.transact(tenant_id, work, cause=cause)
        assert appended is not None
        with answering(appended.last_position):
            await self._empty_prompt(tenant_id, project_id, prompt_id)
        return appended.last_position

    async def finish(self) -> int:
        """Empty the projects and prompts of all tenants that are to be erased, and erase what came
        into them late; returns how many it emptied."""
        async with service_transaction(self._pool) as connection:
            found = await erasing(connection, limit=_AT_A_TIME)
            closed = await prompts.erasing(connection, limit=_AT_A_TIME)
        work = [partial(self._empty, *each) for each in found]
        work += [partial(self._empty_prompt, *each) for each in closed]
        work += [partial(self._erase_late, each) for each in self.late_openings.late]
        emptied = 0
        for empty in work:
            _log.info("erasure_resumed")
            try:
                await empty()
                emptied += 1
            except (Refused, ReplyStillEnding) as waits:
                _log.warning("erasure_waits", code=waits.code)
            except (*DATABASE_AWAY, OutcomeUnknown):
                raise
            except Exception as error:  # noqa: BLE001 - the other projects have their turn
                _log.error("erasure_failed", error=type(error).__name__)
        return emptied

    async def _empty(self, tenant_id: str, project_id: str) -> None:
        closed_at = await self._store.head()
        await self._erase_texts(tenant_id, project_id)
        work = partial(_decide, project_id=project_id, decision=project.erase)
        await self._transactions.transact(tenant_id, work)
        # What had read the project before the project was closed can come to its end now.
        await self._erase_texts(tenant_id, project_id, after=closed_at)

    async def _erase_late(self, closed: Closed) -> None:
        """Erase what came late into a closed project, or was made late of a closed prompt."""
        tenant_id, project_id, prompt_id = closed
        position = self.late_openings.claim(closed)
        if position is None:
            return
        try:
            if prompt_id is None:
                await self._erase_texts(tenant_id, project_id, after=position - 1)
            else:
                await self._erase_sessions_of(tenant_id, project_id, prompt_id, after=position - 1)
        except Exception:
            self.late_openings.put_back(closed, position)
            raise

    async def _erase_texts(self, tenant_id: str, project_id: str, *, after: int = 0) -> None:
        """Erase the sessions of a project that began after a position; then the runs and prompts,
        whose texts sessions have, too."""
        place = tenant_id, project_id
        async with aclosing(self._events(*place, SessionOpened, after=after)) as sessions:
            async for opened in sessions:
                await self._erase_session(*place, opened.session_id)
        async with aclosing(self._events(*place, RunQueued, after=after)) as all_runs:
            async for queued in all_runs:
                work = partial(runs.erase, run_id=queued.run_id, user_id=None)
                with suppress(RunUnknown):  # it is erased
                    await self._transactions.transact(tenant_id, work)
        async with aclosing(self._events(*place, PromptCreated, after=after)) as all_prompts:
            async for created in all_prompts:
                await self._erase_prompt(*place, created.prompt_id)

    async def _empty_prompt(self, tenant_id: str, project_id: str, prompt_id: str) -> None:
        closed_at = await self._store.head()
        await self._erase_sessions_of(tenant_id, project_id, prompt_id)
        await self._erase_prompt(tenant_id, project_id, prompt_id)
        # An opening that had read the prompt before the prompt was closed can come to its end now.
        await self._erase_sessions_of(tenant_id, project_id, prompt_id, after=closed_at)

    async def _erase_sessions_of(
        self, tenant_id: str, project_id: str, prompt_id: str, *, after: int = 0
    ) -> None:
        """Erase the sessions of all users that were made of a prompt after a position. A session
        that was opened about the prompt is a conversation of its own, and stays."""
        place = tenant_id, project_id
        async with aclosing(self._events(*place, SessionInstructed, after=after)) as events:
            async for instructed in events:
                if instructed.prompt_id == prompt_id:
                    await self._erase_session(*place, instructed.session_id)

    async def _erase_session(self, tenant_id: str, project_id: str, session_id: str) -> None:
        with suppress(SessionUnknown):  # it is erased
            await self.session(tenant_id, project_id, session_id)

    async def _erase_prompt(self, tenant_id: str, project_id: str, prompt_id: str) -> None:
        work = partial(_erase_prompt, project_id=project_id, prompt_id=prompt_id)
        await self._transactions.transact(tenant_id, work)

    async def _events(
        self, tenant_id: str, project_id: str, kind: type[Event], *, after: int
    ) -> AsyncGenerator[Any]:
        """The events of a kind in a project after a position, in order."""
        while page := await self._store.range(
            tenant_id=tenant_id,
            project_id=project_id,
            types=[kind.__name__],
            after=after,
            limit=_AT_A_TIME,
        ):
            for event in page:
                yield decode(event.type, event.state)
            after = page[-1].position


async def _erase_session(transaction: Transaction, *, project_id: str, session_id: str) -> None:
    """Erase the session and its builds. The session's own refusal comes first."""
    stream = session_stream(session_id, project_id)
    state = await transaction.load(stream)
    deleted = session.delete(state)
    for build_id in state.builds:
        await transaction.decide(build_stream(build_id, project_id), build.erase)
    transaction.append(stream, deleted)


async def _decide(
    transaction: Transaction,
    *,
    project_id: str,
    decision: Callable[[Project], Sequence[ProjectEvent]],
) -> None:
    await transaction.decide(project_stream(project_id), decision)


async def _erase_prompt(transaction: Transaction, *, project_id: str, prompt_id: str) -> None:
    """Erase the texts of a prompt, which is closed first unless it was closed before."""
    stream = prompt_stream(prompt_id, project_id)
    with suppress(PromptUnknown):
        await transaction.decide(stream, prompt.request_erasure)
    await transaction.decide(stream, prompt.erase)
