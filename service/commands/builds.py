"""Builds: a plan or an idea becomes a build, and workers report on it. A decision is one append.

A project has one build at a time. The append that queues or ends a build also locks or unlocks the
project, on the project's own stream: so of two conversions that race only one succeeds. The same
append reserves the seconds of the build, or settles them, on the account of the user that ordered
the build.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from domain.deciders import account, build, project, session
from domain.deciders.account import Account
from domain.deciders.build import Build
from domain.deciders.session import Session
from domain.errors import SessionUnknown
from domain.events import AccountEvent, BuildOperation, Event, Json, Report, SessionEvent
from domain.metering import BUILD_ESTIMATES
from domain.modes import MODES
from domain.texts import announcements
from projections.builds import is_silent
from service.commands.projects import require_actor
from service.eventlog.stream_ids import (
    StreamId,
    account_stream,
    build_stream,
    project_stream,
    session_stream,
)
from service.eventlog.transactions import RequestContext, Transaction, Transactions
from service.ids import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The user who orders and pays a build, and the project."""

    tenant_id: str
    project_id: str
    user_id: str
    locale: str


class Ordered(NamedTuple):
    """The build that an order led to, and the position that says so, if the order stored anything.

    `is_new` is false where the build was ordered before.
    """

    build_id: str
    position: int | None
    is_new: bool


class Builds:
    """Owned by the service's loop."""

    def __init__(
        self,
        transactions: Transactions,
        estimates: Mapping[BuildOperation, int] = BUILD_ESTIMATES,
    ) -> None:
        """`estimates` are the AI seconds to reserve, by operation."""
        self._transactions = transactions
        self._estimates = estimates

    async def convert(
        self, order: Order, *, session_id: str, plan: Json, cause: RequestContext
    ) -> Ordered:
        """Turn a plan of the session into a build; without a plan its last one.

        The same plan again is the same build, unless that build has failed. Raises NotAMember,
        ViewerOnly, SessionUnknown, SessionEnded, ReplyInProgress, PlanMissing, BuildInProgress,
        BalanceInsufficient.
        """
        build_id, message_id = new_id(), new_id()

        stream = session_stream(session_id, order.project_id)

        async def work(transaction: Transaction) -> str:
            # All as of one moment: between two reads the same plan can lock the project.
            await transaction.recall(stream, project_stream(order.project_id), _payer(order))
            await require_actor(transaction, order.project_id, order.user_id)
            state = await transaction.load(stream)
            is_hidden = MODES[state.mode].is_private and state.user_id != order.user_id
            if state.project_id != order.project_id or is_hidden:
                raise SessionUnknown
            chosen = state.plan if plan is None else plan
            failed = await _failed_build(transaction, state)
            before = session.converted_before(state, chosen)
            if before not in (None, failed):
                return before
            session.require_plan(state, failed_build_id=failed)
            prompt = build.order(chosen)
            decision = partial(
                session.convert,
                build_id=build_id,
                message_id=message_id,
                user_id=order.user_id,
                plan=chosen,
                prompt=prompt,
                locale=order.locale,
                failed_build_id=failed,
            )
            converted = await transaction.decide(stream, decision)
            queued = await _queue(
                transaction,
                order,
                operation="update",
                seconds=self._estimates["update"],
                build_id=build_id,
                session_id=session_id,
                message_id=message_id,
                prompt=prompt,
                plan=chosen,
                converted_from_session_id=session_id,
            )
            await _announce(transaction, stream, (*converted, *queued))
            return build_id

        found_id, appended = await self._transactions.transact(order.tenant_id, work, cause=cause)
        position = appended.last_position if appended else None
        return Ordered(found_id, position, is_new=found_id == build_id)

    async def begin(
        self, order: Order, *, idea: str, operation: BuildOperation, cause: RequestContext
    ) -> Ordered:
        """Begin a project's build from an idea, in a session of its own; a first one with a
        greeting.

        Raises NotAMember, ViewerOnly, BuildInProgress, BalanceInsufficient.
        """
        build_id, session_id, message_id = new_id(), new_id(), new_id()

        async def work(transaction: Transaction) -> str:
            await transaction.recall(project_stream(order.project_id), _payer(order))
            await require_actor(transaction, order.project_id, order.user_id)
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
                operation=operation,
                seconds=self._estimates[operation],
                build_id=build_id,
                session_id=session_id,
                message_id=message_id,
                prompt=idea,
            )
            is_greeted = operation == "main_build" and not known.was_built
            facts = {"business_idea_summary": build.summary(idea)} if is_greeted else {}
            await _announce(transaction, stream, queued, facts)
            return build_id

        found_id, appended = await self._transactions.transact(order.tenant_id, work, cause=cause)
        assert appended is not None
        return Ordered(found_id, appended.last_position, is_new=found_id == build_id)

    async def claim(
        self, tenant_id: str, build_id: str, *, worker_id: str, cause: RequestContext
    ) -> int | None:
        """Give the build to a worker. Returns the position that says so; None where the worker had
        the build before. Raises BuildUnknown, BuildTaken, BuildEnded.
        """
        work = partial(
            _decide,
            tenant_id=tenant_id,
            build_id=build_id,
            decision=partial(build.claim, worker_id=worker_id),
        )
        _, appended = await self._transactions.transact(tenant_id, work, cause=cause)
        return appended.last_position if appended else None

    async def cancel(
        self, tenant_id: str, build_id: str, *, user_id: str | None, cause: RequestContext
    ) -> int | None:
        """End a build for a member, or for the tenant's own service; its project is unlocked.

        Returns the position that says so; None where the build had ended before. Raises
        BuildUnknown, NotAMember, ViewerOnly.
        """

        async def work(transaction: Transaction) -> None:
            if user_id is not None:
                state = await transaction.load(build_stream(build_id))
                await require_actor(transaction, state.project_id, user_id)
            await _decide(
                transaction, tenant_id=tenant_id, build_id=build_id, decision=build.cancel
            )

        _, appended = await self._transactions.transact(tenant_id, work, cause=cause)
        return appended.last_position if appended else None

    async def report(
        self, tenant_id: str, build_id: str, reports: Sequence[Report], cause: RequestContext
    ) -> dict[str, Any]:
        """Store what a worker reports; the build's end unlocks the project and is billed.

        Returns the build's `status` then, the `code` of a failed one, and how many of the reports
        were new: `accepted`. Raises BuildUnknown, BuildFull.
        """
        decision = partial(build.report, reported=reports, reference_id=new_id())

        async def work(transaction: Transaction) -> dict[str, Any]:
            before, after = await _decide(
                transaction, tenant_id=tenant_id, build_id=build_id, decision=decision
            )
            accepted = len(after.seen) - len(before.seen)
            return {"status": after.status, "code": after.code, "accepted": accepted}

        result, _ = await self._transactions.transact(tenant_id, work, cause=cause)
        return result

    async def time_out(self, tenant_id: str, build_id: str, *, silent_seconds: float) -> bool:
        """End a build that no worker has reported on for so long, and unlock its project.

        False where the build has ended before, or a worker has reported meanwhile.
        """
        asked = {"tenant_id": tenant_id, "build_id": build_id}
        error = f"Nothing was heard of the build for {silent_seconds:g} seconds."
        decision = partial(build.time_out, error=error)
        facts = {"minutes": f"{silent_seconds / 60:.1f}".removesuffix(".0")}

        async def work(transaction: Transaction) -> None:
            read = is_silent(**asked, silent_seconds=silent_seconds)
            await transaction.recall(build_stream(build_id), beside=(read,))
            if await read.row():
                await _decide(transaction, **asked, decision=decision, facts=facts)

        _, appended = await self._transactions.transact(tenant_id, work)
        return appended is not None


def _payer(order: Order) -> StreamId[Account, AccountEvent]:
    return account_stream(order.tenant_id, order.user_id, order.project_id)


async def _failed_build(transaction: Transaction, state: Session) -> str | None:
    """The id of the session's last build, if that build has failed. A failed build stays failed."""
    if state.converted_to is None:
        return None
    former = await transaction.load(build_stream(state.converted_to))
    return state.converted_to if former.status == "failed" else None


async def _queue(
    transaction: Transaction,
    order: Order,
    *,
    operation: BuildOperation,
    seconds: int,
    build_id: str,
    session_id: str,
    message_id: str,
    **asked: Any,
) -> Sequence[Event]:
    """Queue the build, lock its project, and reserve its seconds. Returns the build's events."""
    stream = build_stream(build_id, order.project_id)
    transaction.begin(stream)
    queueing = partial(
        build.queue,
        build_id=build_id,
        project_id=order.project_id,
        session_id=session_id,
        message_id=message_id,
        user_id=order.user_id,
        locale=order.locale,
        operation=operation,
        reservation_id=build_id,
        **asked,
    )
    reserving = partial(
        account.reserve,
        user_id=order.user_id,
        reservation_id=build_id,
        session_id=session_id,
        reply_id=message_id,
        build_id=build_id,
        seconds=seconds,
    )
    locking = partial(project.lock, build_id=build_id)
    queued = await transaction.decide(stream, queueing)
    await transaction.decide(project_stream(order.project_id), locking)
    await transaction.decide(_payer(order), reserving)
    return queued


async def _decide(
    transaction: Transaction,
    *,
    tenant_id: str,
    build_id: str,
    decision: Callable[[Build], build.Decided],
    facts: Mapping[str, str] | None = None,
) -> tuple[Build, Build]:
    """Decide on a build; where that ends the build, its project is unlocked, its bill is made, and
    its session says so. `facts` are for what the session says.

    Returns the build before and after.
    """
    before = await transaction.load(build_stream(build_id))
    stream = build_stream(build_id, before.project_id)
    decided = await transaction.decide(stream, decision)
    after = await transaction.load(stream)
    if after.has_ended and not before.has_ended:
        unlocking = partial(project.unlock, build_id=build_id)
        await transaction.decide(project_stream(before.project_id), unlocking)
        if after.reservation_id is not None:
            payer = account_stream(tenant_id, after.user_id, after.project_id)
            await transaction.decide(payer, partial(build.bill, ended=after))
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
