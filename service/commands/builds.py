"""Builds: a plan or an idea becomes a build, and workers report on it. A decision is one append.

A project has one build at a time. The append that queues or ends a build also locks or unlocks the
project, on the project's own stream: so of two conversions that race only one succeeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from domain import announcements, build, project, session
from domain.build import Build
from domain.errors import SessionUnknown
from domain.events import Event, Json, Report, SessionEvent
from domain.session import Session
from service.eventlog.stream_ids import StreamId, build_stream, project_stream, session_stream
from service.eventlog.transactions import RequestContext, Transaction, Transactions
from service.ids import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The user who orders a build, and the project."""

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

        stream = session_stream(session_id, order.project_id)

        async def work(transaction: Transaction) -> str:
            # Both as of one moment: between two reads the same plan can lock the project.
            await transaction.recall(stream, project_stream(order.project_id))
            state = await transaction.load(stream)
            if (state.project_id, state.user_id) != (order.project_id, order.user_id):
                raise SessionUnknown
            chosen = state.plan if plan is None else plan
            if before := session.converted_before(state, chosen):
                return before
            session.require_plan(state)
            prompt = build.order(chosen)
            decision = partial(
                session.convert,
                build_id=build_id,
                message_id=message_id,
                plan=chosen,
                prompt=prompt,
                locale=order.locale,
            )
            converted = await transaction.decide(stream, decision)
            queued = await _queue(
                transaction,
                order,
                build_id=build_id,
                session_id=session_id,
                message_id=message_id,
                prompt=prompt,
                plan=chosen,
                converted_from_session_id=session_id,
            )
            await _announce(transaction, stream, (*converted, *queued))
            return build_id

        chosen_id, appended = await self._transactions.transact(order.tenant_id, work, cause=cause)
        return chosen_id, appended.last_position if appended else None

    async def begin(self, order: Order, *, idea: str, cause: RequestContext) -> tuple[str, int]:
        """Begin a project's build from an idea, in a session of its own; the first with a greeting.

        Returns the build's id and where it was queued. Raises BuildInProgress.
        """
        build_id, session_id, message_id = new_id(), new_id(), new_id()

        async def work(transaction: Transaction) -> str:
            stream = session_stream(session_id, order.project_id)
            transaction.begin(stream)
            opening = partial(
                session.open_session,
                session_id=session_id,
                project_id=order.project_id,
                user_id=order.user_id,
                mode="build",
            )
            request = partial(
                session.request_build,
                build_id=build_id,
                message_id=message_id,
                text=idea,
                locale=order.locale,
            )
            await transaction.decide(stream, opening)
            await transaction.decide(stream, request)
            known = await transaction.load(project_stream(order.project_id))
            queued = await _queue(
                transaction,
                order,
                build_id=build_id,
                session_id=session_id,
                message_id=message_id,
                prompt=idea,
            )
            facts = {} if known.was_built else {"business_idea_summary": build.summary(idea)}
            await _announce(transaction, stream, queued, facts)
            return build_id

        chosen_id, appended = await self._transactions.transact(order.tenant_id, work, cause=cause)
        assert appended is not None
        return chosen_id, appended.last_position

    async def claim(
        self, tenant_id: str, build_id: str, *, worker_id: str, cause: RequestContext
    ) -> int | None:
        """Give the build to a worker. Returns the position that says so; None where the worker had
        the build before. Raises BuildUnknown, BuildTaken, BuildEnded.
        """
        work = partial(
            _decide, build_id=build_id, decision=partial(build.claim, worker_id=worker_id)
        )
        _, appended = await self._transactions.transact(tenant_id, work, cause=cause)
        return appended.last_position if appended else None

    async def report(
        self, tenant_id: str, build_id: str, reports: Sequence[Report], cause: RequestContext
    ) -> dict[str, Any]:
        """Store what a worker reports; the build's end unlocks the project.

        Returns the build's `status` then, and how many of the reports were new: `accepted`. Raises
        BuildUnknown, BuildFull.
        """
        decision = partial(build.report, reports=reports, reference_id=new_id())

        async def work(transaction: Transaction) -> dict[str, Any]:
            before, after = await _decide(transaction, build_id=build_id, decision=decision)
            return {"status": after.status, "accepted": len(after.seen) - len(before.seen)}

        result, _ = await self._transactions.transact(tenant_id, work, cause=cause)
        return result

    async def time_out(self, tenant_id: str, build_id: str, *, silent_seconds: float) -> bool:
        """End a build that no worker has reported on for so long, and unlock its project.

        False where the build has ended before.
        """
        error = f"Nothing was heard of the build for {silent_seconds:g} seconds."
        work = partial(
            _decide,
            build_id=build_id,
            decision=partial(build.time_out, error=error),
            facts={"minutes": f"{silent_seconds / 60:.1f}".removesuffix(".0")},
        )
        _, appended = await self._transactions.transact(tenant_id, work)
        return appended is not None


async def _queue(
    transaction: Transaction, order: Order, *, build_id: str, **asked: Any
) -> Sequence[Event]:
    """Queue the build and lock its project. Returns the events of the build."""
    stream = build_stream(build_id, order.project_id)
    transaction.begin(stream)
    decision = partial(
        build.queue,
        build_id=build_id,
        project_id=order.project_id,
        user_id=order.user_id,
        locale=order.locale,
        **asked,
    )
    queued = await transaction.decide(stream, decision)
    await transaction.decide(
        project_stream(order.project_id), partial(project.lock, build_id=build_id)
    )
    return queued


async def _decide(
    transaction: Transaction,
    *,
    build_id: str,
    decision: Callable[[Build], build.Decided],
    facts: Mapping[str, str] | None = None,
) -> tuple[Build, Build]:
    """Decide on a build; where that ends the build, its project is unlocked, and its session says
    so. `facts` are for what the session says.

    Returns the build before and after.
    """
    before = await transaction.load(build_stream(build_id))
    stream = build_stream(build_id, before.project_id)
    decided = await transaction.decide(stream, decision)
    after = await transaction.load(stream)
    if after.has_ended and not before.has_ended:
        unlocking = partial(project.unlock, build_id=build_id)
        await transaction.decide(project_stream(before.project_id), unlocking)
        speaking = session_stream(before.session_id, before.project_id)
        await _announce(transaction, speaking, decided, facts)
    return before, after


async def _announce(
    transaction: Transaction,
    stream: StreamId[Session, SessionEvent],
    events: Sequence[Event],
    facts: Mapping[str, str] | None = None,
) -> None:
    """Say in the session what these events mean to its user."""
    decision = partial(announcements.announced, events=events, new_id=new_id, facts=facts)
    await transaction.decide(stream, decision)
