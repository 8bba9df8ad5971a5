"""From a plan or an idea to a build, and what its workers say of it: each decision one append.

A project has one build at a time. The lock stands on the project's own stream, in the same append
as the build that takes it or ends: so two conversions that race cannot both win.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from domain import build, project, session
from domain.build import Build, Report
from domain.errors import SessionUnknown
from domain.events import Json
from service.eventlog.transactions import (
    BUILD,
    PROJECT,
    SESSION,
    RequestContext,
    Transaction,
    Transactions,
    build_stream,
    project_stream,
    session_stream,
)
from service.ids import new_id

GREETING: Final = "initial_build_greeting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Who wants a build of which project."""

    tenant_id: str
    project_id: str
    user_id: str
    locale: str


class Builds:
    """Owned by the service's loop."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def convert(
        self, order: Order, *, session_id: str, plan: Json, cause: RequestContext
    ) -> tuple[str, int | None]:
        """Turn a plan of the session into a build; without a plan its last one.

        Returns the build's id and where it was queued; no position where this plan was turned into
        that build before. Raises SessionUnknown, SessionEnded, ReplyInProgress, PlanMissing,
        BuildInProgress.
        """
        build_id, message_id = new_id(), new_id()

        async def work(transaction: Transaction) -> str:
            stream = session_stream(session_id)
            state = await transaction.load(SESSION, stream)
            if (state.project_id, state.user_id) != (order.project_id, order.user_id):
                raise SessionUnknown
            chosen = state.plan if plan is None else plan
            if before := session.converted_before(state, chosen):
                return before
            session.require_plan(state)
            prompt = build.order(chosen)
            decided = session.convert(
                state,
                build_id=build_id,
                message_id=message_id,
                plan=chosen,
                prompt=prompt,
                locale=order.locale,
            )
            transaction.append(stream, decided, order.project_id)
            await _queue(
                transaction,
                order,
                build_id=build_id,
                session_id=session_id,
                message_id=message_id,
                prompt=prompt,
                plan=chosen,
                converted_from_session_id=session_id,
            )
            return build_id

        chosen_id, appended = await self._transactions.transact(order.tenant_id, work, cause=cause)
        return chosen_id, appended.first_position if appended else None

    async def begin(self, order: Order, *, idea: str, cause: RequestContext) -> tuple[str, int]:
        """Begin a project's build from an idea, in a session of its own, with a greeting.

        Returns the build's id and where it was queued. Raises BuildInProgress.
        """
        build_id, session_id, message_id, greeting_id = new_id(), new_id(), new_id(), new_id()

        async def work(transaction: Transaction) -> str:
            stream = session_stream(session_id)
            state = await transaction.load(SESSION, stream)
            opened = session.open_session(
                state,
                session_id=session_id,
                project_id=order.project_id,
                user_id=order.user_id,
                mode="build",
            )
            state = session.fold(opened, state)
            asked = session.request_build(
                state, build_id=build_id, message_id=message_id, text=idea, locale=order.locale
            )
            greeted = session.post_system_message(
                state,
                message_id=greeting_id,
                type="greeting",
                template=GREETING,
                variables={"business_idea_summary": build.summary(idea)},
                build_id=build_id,
            )
            transaction.append(stream, (*opened, *asked, *greeted), order.project_id)
            await _queue(
                transaction,
                order,
                build_id=build_id,
                session_id=session_id,
                message_id=message_id,
                prompt=idea,
            )
            return build_id

        chosen_id, appended = await self._transactions.transact(order.tenant_id, work, cause=cause)
        assert appended is not None
        return chosen_id, appended.first_position

    async def claim(
        self, tenant_id: str, build_id: str, *, worker_id: str, cause: RequestContext
    ) -> None:
        """Give the build to a worker. Raises BuildUnknown, BuildTaken, BuildEnded."""

        async def work(transaction: Transaction) -> None:
            stream = build_stream(build_id)
            state = await transaction.load(BUILD, stream)
            transaction.append(stream, build.claim(state, worker_id=worker_id), state.project_id)

        await self._transactions.transact(tenant_id, work, cause=cause)

    async def report(
        self, tenant_id: str, build_id: str, reports: Sequence[Report], cause: RequestContext
    ) -> dict[str, Any]:
        """Take what a worker reports; its end unlocks the project. Raises BuildUnknown, BuildFull.

        Returns the build's `status` then, and how many of the reports were new: `accepted`.
        """
        reference_id = new_id()

        async def work(transaction: Transaction) -> dict[str, Any]:
            stream = build_stream(build_id)
            state = await transaction.load(BUILD, stream)
            told = build.report(state, reports, reference_id=reference_id)
            after = await _tell(transaction, state, told)
            return {"status": after.status, "accepted": len(after.seen) - len(state.seen)}

        result, _ = await self._transactions.transact(tenant_id, work, cause=cause)
        return result

    async def time_out(self, tenant_id: str, build_id: str, *, error: str) -> None:
        """End a build of which nobody has heard, and unlock its project."""

        async def work(transaction: Transaction) -> None:
            state = await transaction.load(BUILD, build_stream(build_id))
            await _tell(transaction, state, build.time_out(state, error=error))

        await self._transactions.transact(tenant_id, work)


async def _queue(transaction: Transaction, order: Order, *, build_id: str, **asked: Any) -> None:
    """Queue the build and lock its project."""
    stream = build_stream(build_id)
    queued = build.queue(
        await transaction.load(BUILD, stream),
        build_id=build_id,
        project_id=order.project_id,
        user_id=order.user_id,
        locale=order.locale,
        **asked,
    )
    transaction.append(stream, queued, order.project_id)
    await _lock(transaction, order.project_id, build_id)


async def _lock(transaction: Transaction, project_id: str, build_id: str) -> None:
    stream = project_stream(project_id)
    locked = project.lock(await transaction.load(PROJECT, stream), build_id=build_id)
    transaction.append(stream, locked, project_id)


async def _tell(transaction: Transaction, state: Build, told: build.Decided) -> Build:
    """Append what became of a build; where it has ended by that, its project is free again."""
    transaction.append(build_stream(state.build_id), told, state.project_id)
    after = build.fold(told, state)
    if after.has_ended and not state.has_ended:
        stream = project_stream(state.project_id)
        unlocked = project.unlock(await transaction.load(PROJECT, stream), build_id=state.build_id)
        transaction.append(stream, unlocked, state.project_id)
    return after
