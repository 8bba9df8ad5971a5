"""Taking a message: session found, limits held, seconds reserved, message stored, in one append."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

from domain import account, project, rate_limits, session
from domain.account import Account
from domain.errors import (
    ProjectLimitReached,
    ProjectUnknown,
    SessionEnded,
    SessionFull,
    SessionSpent,
    SessionUnknown,
    UserLimitReached,
)
from domain.events import ChatMode, Context
from domain.metering import ESTIMATES
from domain.project import Project
from domain.rate_limits import LimitStatus, RateLimit
from domain.session import INITIAL, Session
from projections import projects
from projections.projects import ProjectRow
from projections.replies import ReplyRef
from projections.sessions import active_session
from service.eventlog.store import SQL, Overloaded
from service.eventlog.transactions import (
    ACCOUNT,
    BY_ITSELF,
    CONTENTION_SECONDS,
    PROJECT,
    SESSION,
    RequestContext,
    Transaction,
    Transactions,
    account_stream,
    project_stream,
    session_stream,
)
from service.ids import new_id
from service.postgres.connections import Pool, tenant_transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a user asks. `session_id` only if the client insists on one; `may_wait` if it may be
    taken while another reply of the session runs."""

    tenant_id: str
    user_id: str
    project_id: str
    text: str
    locale: str
    chat_mode: ChatMode | None = None
    session_id: str | None = None
    context: tuple[Context, ...] = ()
    may_wait: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A message that was taken, and the reply that it will have; `is_again` if it was before.

    `standings` are those of the limits with it, unless it was taken before.
    """

    message: Message
    project: ProjectRow
    session_id: str
    user_message_id: str
    reply_id: str
    reservation_id: str
    reserved_seconds: int
    position: int
    is_again: bool = False
    standings: tuple[LimitStatus, ...] = ()

    @property
    def ref(self) -> ReplyRef:
        """Where the reply belongs."""
        return ReplyRef(
            tenant_id=self.message.tenant_id,
            project_id=self.message.project_id,
            session_id=self.session_id,
            reply_id=self.reply_id,
        )


class _Admissible(Exception):
    """Nothing is in the way of a message; it was only asked."""


class Admission:
    """Decides whether a message is taken. Owned by the service's loop."""

    def __init__(
        self,
        transactions: Transactions,
        pool: Pool,
        *,
        model: str,
        lease_id: int,
        idle_seconds: float,
        user_messages: int,
        project_messages: int,
    ) -> None:
        self._transactions = transactions
        self._pool = pool
        self._model = model
        self._lease_id = lease_id
        self._idle_seconds = idle_seconds
        self._of_user = RateLimit(quota=user_messages, refusal=UserLimitReached)
        self._of_project = RateLimit(quota=project_messages, refusal=ProjectLimitReached)
        self._taking: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def admit(self, message: Message, cause: RequestContext) -> Admitted:
        """Store the message with its reservation and the start of its reply, or refuse it.

        What is refused has stored nothing and counts for no limit. Raises ProjectUnknown,
        BuildInProgress, SessionUnknown, SessionEnded, SessionFull, SessionSpent, ReplyInProgress,
        UserLimitReached, ProjectLimitReached, BalanceInsufficient.
        """
        async with self._turn_in(message.tenant_id, message.project_id):
            return await self._admit(message, cause)

    async def require_admissible(self, message: Message) -> None:
        """Raises what `admit` would if no reply of the session ran, whose seconds are then free."""
        with suppress(_Admissible):
            await self._admit(replace(message, may_wait=True), BY_ITSELF, is_trial=True)

    async def _admit(
        self, message: Message, cause: RequestContext, *, is_trial: bool = False
    ) -> Admitted:
        known, now = await self._project(message)
        minted = {name: new_id() for name in ("user_message", "reply", "reservation", "session")}
        standings: tuple[LimitStatus, ...] = ()

        async def take(transaction: Transaction) -> dict[str, Any]:
            nonlocal standings
            # The account first: whoever takes another message of this user meanwhile is met there,
            # so that the session that is found is the one there is.
            funds = await transaction.load(ACCOUNT, _account_of(message))
            place = await transaction.load(PROJECT, project_stream(message.project_id))
            at = rate_limits.not_before(now, funds.messages, place.messages)
            _join_in(transaction, place, message, minted["reply"], at)
            session_id, state = await self._session(transaction, message, minted["session"])
            started = self._conversation(message, session_id, state, minted)
            standings = self._within_limits(funds, place, at)
            if is_trial:
                funds = account.without(
                    funds, {run.reservation_id for run in state.running.values()}
                )
            seconds = _reserve(transaction, funds, message, session_id, minted, at)
            if is_trial:
                raise _Admissible
            transaction.append(session_stream(session_id), started, message.project_id)
            return minted | {"session": session_id, "seconds": seconds}

        taken, appended = await self._transactions.transact(message.tenant_id, take, cause=cause)
        assert appended is not None
        is_again = taken["reply"] != minted["reply"]
        return Admitted(
            message=message,
            project=known,
            session_id=taken["session"],
            user_message_id=taken["user_message"],
            reply_id=taken["reply"],
            reservation_id=taken["reservation"],
            reserved_seconds=taken["seconds"],
            position=appended.first_position,
            is_again=is_again,
            standings=() if is_again else standings,
        )

    @asynccontextmanager
    async def _turn_in(self, tenant_id: str, project_id: str) -> AsyncGenerator[None]:
        """One message of a project at a time, in this process: they would meet in the log anyway,
        where all but one would have to try again."""
        lock = self._taking.setdefault((tenant_id, project_id), asyncio.Lock())
        try:
            async with asyncio.timeout(CONTENTION_SECONDS):
                await lock.acquire()
        except TimeoutError:
            raise Overloaded("too many messages of one project are waiting") from None
        try:
            yield
        finally:
            lock.release()

    async def _project(self, message: Message) -> tuple[ProjectRow, datetime]:
        """The project, if the user may act in it, and the time by the database's clock."""
        async with tenant_transaction(self._pool, message.tenant_id) as connection:
            known = await projects.project(
                connection,
                tenant_id=message.tenant_id,
                project_id=message.project_id,
                user_id=message.user_id,
            )
            row = await (await connection.execute(SQL["clock"])).fetchone()
        if known is None or row is None:
            raise ProjectUnknown
        return known, row[0]

    def _within_limits(
        self, funds: Account, place: Project, at: datetime
    ) -> tuple[LimitStatus, ...]:
        """How the limits stand with one message more. Raises the refusal of one that is reached."""
        counted = ((self._of_user, funds.messages), (self._of_project, place.messages))
        for limit, times in counted:
            rate_limits.require_room(limit, times, at)
        return tuple(
            rate_limits.standing(limit, rate_limits.with_time(times, at), at)
            for limit, times in counted
        )

    async def _session(
        self, transaction: Transaction, message: Message, new_session_id: str
    ) -> tuple[str, Session]:
        """The session that was asked for; else the active one; else a new one."""
        if message.session_id is not None:
            return message.session_id, await _own_session(transaction, message, message.session_id)
        async with tenant_transaction(self._pool, message.tenant_id) as connection:
            active = await active_session(
                connection,
                tenant_id=message.tenant_id,
                project_id=message.project_id,
                user_id=message.user_id,
                idle_seconds=self._idle_seconds,
            )
        if active is not None:
            state = await _own_session(transaction, message, active)
            try:
                session.require_room(state)
            except (SessionEnded, SessionFull, SessionSpent):
                pass
            else:
                return active, state
        await transaction.load(SESSION, session_stream(new_session_id))
        return new_session_id, INITIAL

    def _conversation(
        self, message: Message, session_id: str, state: Session, ids: dict[str, str]
    ) -> session.Decided:
        """The message and the start of its reply, in a session that is opened if it is new."""
        opened: session.Decided = ()
        if state.status == "new":
            opened = session.open_session(
                state,
                session_id=session_id,
                project_id=message.project_id,
                user_id=message.user_id,
            )
            state = session.fold(opened, state)
        posted = session.post_message(
            state,
            message_id=ids["user_message"],
            text=message.text,
            locale=message.locale,
            chat_mode=message.chat_mode,
            context=message.context,
        )
        started = session.start_reply(
            session.fold(posted, state),
            reply_id=ids["reply"],
            in_reply_to=ids["user_message"],
            model=self._model,
            reservation_id=ids["reservation"],
            lease_id=self._lease_id,
            may_wait=message.may_wait,
        )
        return (*opened, *posted, *started)


async def _own_session(transaction: Transaction, message: Message, session_id: str) -> Session:
    state = await transaction.load(SESSION, session_stream(session_id))
    if (state.project_id, state.user_id) != (message.project_id, message.user_id):
        raise SessionUnknown
    return state


def _account_of(message: Message) -> str:
    return account_stream(message.tenant_id, message.user_id)


def _join_in(
    transaction: Transaction, place: Project, message: Message, reply_id: str, at: datetime
) -> None:
    """The message among those of its project, where builds are met."""
    admitted = project.admit_message(place, user_id=message.user_id, reply_id=reply_id, at=at)
    transaction.append(project_stream(message.project_id), admitted, message.project_id)


def _reserve(
    transaction: Transaction,
    funds: Account,
    message: Message,
    session_id: str,
    ids: dict[str, str],
    at: datetime,
) -> int:
    """Reserve what such a message may need, before anybody knows what it is."""
    seconds = ESTIMATES[message.chat_mode or "general"]
    reserved = account.reserve(
        funds,
        user_id=message.user_id,
        reservation_id=ids["reservation"],
        session_id=session_id,
        reply_id=ids["reply"],
        seconds=seconds,
        at=at,
    )
    transaction.append(_account_of(message), reserved, message.project_id)
    return seconds
