"""Erasure of a session, of a prompt with the sessions made of it, and of a whole project.

The append that has the marker masks the log and takes the rows out of the read models, so a
session is gone at once or not at all. A project, or a prompt, is closed first and then emptied
session by session, and a project then run by run. When a process dies in between, the next
process that looks does the rest.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

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
from domain.events import ProjectEvent
from projections import prompts
from projections.projects import erasing
from projections.runs import unerased
from projections.sessions import of_prompt, undeleted
from service.chat.turns import Turns
from service.commands import runs
from service.commands.prompts import request_erasure
from service.eventlog.errors import (
    DATABASE_AWAY,
    Contended,
    OutcomeUnknown,
    ReplyStillEnding,
    answering,
)
from service.eventlog.stream_ids import build_stream, project_stream, prompt_stream, session_stream
from service.eventlog.transactions import BY_ITSELF, RequestContext, Transaction, Transactions
from service.postgres.connections import Pool, service_transaction, tenant_transaction

_AT_A_TIME: Final = 100
_CANCELS: Final = 10
"""Attempts to cancel running replies, while new ones begin, before giving up."""

_log = structlog.stdlib.get_logger(__name__)


class Erasure:
    """Owned by the service's loop."""

    def __init__(self, transactions: Transactions, pool: Pool, turns: Turns) -> None:
        self._transactions = transactions
        self._pool = pool
        self._turns = turns

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
        """Empty the projects and prompts of all tenants that are to be erased; returns how many it
        emptied."""
        async with service_transaction(self._pool) as connection:
            found = await erasing(connection, limit=_AT_A_TIME)
            closed = await prompts.erasing(connection, limit=_AT_A_TIME)
        work = [partial(self._empty, *each) for each in found]
        work += [partial(self._empty_prompt, *each) for each in closed]
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
        while True:
            async with tenant_transaction(self._pool, tenant_id) as connection:
                left = await undeleted(
                    connection, tenant_id=tenant_id, project_id=project_id, limit=_AT_A_TIME
                )
            if not left:
                break
            await self._erase_sessions(tenant_id, project_id, left)
        await self._erase_runs(tenant_id, project_id)
        await self._erase_prompts(tenant_id, project_id)
        work = partial(_decide, project_id=project_id, decision=project.erase)
        await self._transactions.transact(tenant_id, work)

    async def _erase_sessions(self, tenant_id: str, project_id: str, ids: Sequence[str]) -> None:
        for session_id in ids:
            with suppress(SessionUnknown):  # another caller was faster
                await self.session(tenant_id, project_id, session_id)

    async def _erase_runs(self, tenant_id: str, project_id: str) -> None:
        """Erase the runs of a project, after all its sessions."""
        while True:
            async with tenant_transaction(self._pool, tenant_id) as connection:
                left = await unerased(
                    connection, tenant_id=tenant_id, project_id=project_id, limit=_AT_A_TIME
                )
            if not left:
                return
            for run_id in left:
                work = partial(runs.erase, run_id=run_id, user_id=None)
                with suppress(RunUnknown):  # another caller was faster
                    await self._transactions.transact(tenant_id, work)

    async def _erase_prompts(self, tenant_id: str, project_id: str) -> None:
        """Erase the prompts of a project, after all its sessions."""
        while True:
            async with tenant_transaction(self._pool, tenant_id) as connection:
                left = await prompts.unerased(
                    connection, tenant_id=tenant_id, project_id=project_id, limit=_AT_A_TIME
                )
            if not left:
                return
            for prompt_id in left:
                work = partial(_erase_prompt, project_id=project_id, prompt_id=prompt_id)
                await self._transactions.transact(tenant_id, work)

    async def _empty_prompt(self, tenant_id: str, project_id: str, prompt_id: str) -> None:
        await self._erase_sessions_of(tenant_id, project_id, prompt_id)
        work = partial(_erase_prompt, project_id=project_id, prompt_id=prompt_id)
        await self._transactions.transact(tenant_id, work)
        # An opening that had read the prompt before the prompt was closed can come to its end now.
        await self._erase_sessions_of(tenant_id, project_id, prompt_id)

    async def _erase_sessions_of(self, tenant_id: str, project_id: str, prompt_id: str) -> None:
        """Erase the sessions of all users that are made of a prompt."""
        while True:
            async with tenant_transaction(self._pool, tenant_id) as connection:
                left = await of_prompt(
                    connection, tenant_id=tenant_id, prompt_id=prompt_id, limit=_AT_A_TIME
                )
            if not left:
                return
            await self._erase_sessions(tenant_id, project_id, left)


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
