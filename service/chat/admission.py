"""Admission of a message: the session is found, the limits hold, seconds are reserved, and all of
it is stored in one append. A message that a client appends is admitted without a reply."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from psycopg.rows import scalar_row

from domain.deciders import account, place, project, rate_limits, session
from domain.deciders.account import Account
from domain.deciders.project import Project
from domain.deciders.rate_limits import LimitStatus, RateLimit, Times
from domain.deciders.session import AppendedRole, Session
from domain.errors import (
    BuildUnknown,
    NotAMember,
    ProjectLimitReached,
    SessionEnded,
    SessionFull,
    SessionSpent,
    SessionUnknown,
    UserLimitReached,
    VersionUnknown,
)
from domain.events import ChatMode, Context, SessionMode
from domain.modes import MODES, estimate
from domain.texts import announcements
from projections.builds import BuildRow, build_read
from projections.projects import ProjectRow, project_read
from projections.read import Read
from projections.replies import ReplyRef
from projections.sessions import active_session_read
from projections.versions import VersionRow, version_read
from service.eventlog.errors import Overloaded
from service.eventlog.store import SQL
from service.eventlog.stream_ids import (
    AnyStream,
    account_stream,
    place_stream,
    project_stream,
    session_stream,
)
from service.eventlog.transactions import (
    CONTENTION_SECONDS,
    RequestContext,
    Transaction,
    Transactions,
)
from service.ids import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a user asks. `session_id` is set where the client names the session, `version_id` and
    `build_id` where it says what the user looks at.

    `may_wait` says that the message is admitted also while another reply of the session runs.
    """

    tenant_id: str
    user_id: str
    project_id: str
    text: str
    locale: str
    chat_mode: ChatMode | None = None
    session_id: str | None = None
    context: tuple[Context, ...] = ()
    version_id: str | None = None
    build_id: str | None = None
    may_wait: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A message that was admitted, and the reply that it will have.

    `mode` is the mode of the session, and `model` the model that writes the reply. `is_again` says
    that the same request was admitted before. `limits` is how the rate limits stand with this
    message; empty where it was admitted before. `traceparent` comes from the request that asked
    first.
    """

    message: Message
    project: ProjectRow
    session_id: str
    user_message_id: str
    reply_id: str
    reservation_id: str
    mode: SessionMode
    model: str
    reserved_seconds: int
    position: int
    is_again: bool = False
    limits: tuple[LimitStatus, ...] = ()
    traceparent: str | None = None

    @property
    def cause(self) -> RequestContext:
        """What is stored beside the events of the reply, whoever writes it."""
        known = {"causationId": self.user_message_id, "traceparent": self.traceparent}
        return RequestContext(
            metadata={name: value for name, value in known.items() if value is not None}
        )

    @property
    def ref(self) -> ReplyRef:
        """Where the reply belongs."""
        return ReplyRef(
            tenant_id=self.message.tenant_id,
            project_id=self.message.project_id,
            session_id=self.session_id,
            reply_id=self.reply_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendedMessage:
    """A message that was appended without asking the model, and the position that says so.

    `limits` is how the rate limits stand; empty where the same request was done before.
    """

    session_id: str
    message_id: str
    position: int
    limits: tuple[LimitStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What holds for every message of this process."""

    model: str
    lease_id: int
    idle_seconds: float
    of_user: RateLimit
    of_project: RateLimit


class Admission:
    """Decides whether a message is admitted. Owned by the service's loop."""

    def __init__(
        self,
        transactions: Transactions,
        *,
        model: str,
        lease_id: int,
        idle_seconds: float,
        user_messages: int,
        project_messages: int,
    ) -> None:
        self._transactions = transactions
        self._rules = _Rules(
            model=model,
            lease_id=lease_id,
            idle_seconds=idle_seconds,
            of_user=RateLimit(quota=user_messages, refusal=UserLimitReached),
            of_project=RateLimit(quota=project_messages, refusal=ProjectLimitReached),
        )
        self._admitting: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def admit(self, message: Message, cause: RequestContext) -> Admitted:
        """Store the message with its reservation and the start of its reply, or refuse it.

        A refused message has stored nothing and counts for no limit. Raises ProjectUnknown,
        ViewerOnly, VersionUnknown, BuildUnknown, BuildInProgress, SessionUnknown, SessionEnded,
        SessionFull, SessionSpent, ReplyInProgress, UserLimitReached, ProjectLimitReached,
        BalanceInsufficient.
        """
        attempt = _Attempt(self._rules, message)
        async with self._turn_in(message.tenant_id, message.project_id):
            result, appended = await self._transactions.transact(
                message.tenant_id, attempt.admit, cause=cause
            )
        assert appended is not None
        admitted = attempt.admitted(result, appended.last_position)
        return replace(admitted, traceparent=cause.metadata.get("traceparent"))

    async def append(
        self, message: Message, role: AppendedRole, cause: RequestContext
    ) -> AppendedMessage:
        """Append what was said elsewhere to the session that the message names, or refuse it.

        The model is not asked, and nothing is reserved or billed. Raises ProjectUnknown,
        ViewerOnly, BuildInProgress, SessionUnknown, SessionEnded, SessionFull, SessionSpent,
        ReplyInProgress, UserLimitReached, ProjectLimitReached.
        """
        attempt = _Attempt(self._rules, message)
        async with self._turn_in(message.tenant_id, message.project_id):
            result, appended = await self._transactions.transact(
                message.tenant_id, partial(attempt.append, role=role), cause=cause
            )
        assert appended is not None
        return attempt.appended(result, appended.last_position)

    async def require_admissible(self, message: Message) -> None:
        """Raises what `admit` would raise if no reply of the session ran, with its seconds free."""
        attempt = _Attempt(self._rules, replace(message, may_wait=True))
        await self._transactions.rehearse(
            message.tenant_id, partial(attempt.admit, is_rehearsal=True)
        )

    @asynccontextmanager
    async def _turn_in(self, tenant_id: str, project_id: str) -> AsyncGenerator[None]:
        """One message of a project at a time, in this process: at the log all messages of a project
        but one would have to try again."""
        lock = self._admitting.setdefault((tenant_id, project_id), asyncio.Lock())
        try:
            async with asyncio.timeout(CONTENTION_SECONDS):
                await lock.acquire()
        except TimeoutError:
            raise Overloaded("too many messages of one project are waiting") from None
        try:
            yield
        finally:
            lock.release()


class Viewed:
    """The reads of the version and the build that a client names, if it names any."""

    def __init__(
        self, *, tenant_id: str, project_id: str, version_id: str | None, build_id: str | None
    ) -> None:
        self._project_id = project_id
        self._version: Read[VersionRow] | None = None
        self._build: Read[BuildRow] | None = None
        if version_id is not None:
            self._version = version_read(
                tenant_id=tenant_id, project_id=project_id, version_id=version_id
            )
        if build_id is not None:
            self._build = build_read(tenant_id=tenant_id, build_id=build_id)

    @property
    def reads(self) -> tuple[Read[Any], ...]:
        """The reads to send with others."""
        return tuple(each for each in (self._version, self._build) if each is not None)

    async def require(self) -> None:
        """Raises VersionUnknown, BuildUnknown for an id that the project does not have."""
        if self._version is not None and await self._version.row() is None:
            raise VersionUnknown
        if self._build is not None:
            row = await self._build.row()
            if row is None or row.project_id != self._project_id:
                raise BuildUnknown


class _Attempt:
    """A message with the ids of what it brings about. Each attempt at it decides anew."""

    def __init__(self, rules: _Rules, message: Message) -> None:
        self._rules = rules
        self._message = message
        self._ids = {each: new_id() for each in ("user_message", "reply", "reservation", "session")}
        self._account = account_stream(message.tenant_id, message.user_id, message.project_id)
        self._project = project_stream(message.project_id)
        key = place.key(
            project_id=message.project_id, user_id=message.user_id, mode="plan", context={}
        )
        self._place = place_stream(key, message.project_id)
        self._row: ProjectRow | None = None
        self._limits: tuple[LimitStatus, ...] = ()

    async def admit(
        self, transaction: Transaction, *, is_rehearsal: bool = False
    ) -> dict[str, Any]:
        """Decide on project, session and account; returns what a repeated request gets again.

        A rehearsal decides as if the session's running replies were cancelled and their seconds
        free.
        """
        message = self._message
        now, active = await self._recall(transaction)
        funds = await transaction.load(self._account)
        project_state = await transaction.load(self._project)
        at = rate_limits.not_before(now, funds.messages, project_state.messages)
        session_id, state = await self._session(transaction, active)
        await self._join(transaction, state, self._ids["reply"], at)
        model = state.model or self._rules.model
        begun = self._begun(session_id, state, model)
        self._limits = self._within_limits(funds, project_state, at)
        seconds = estimate(state.mode, message.chat_mode)
        reserving = self._reserving(session_id, seconds, at)
        if is_rehearsal:
            reserving(
                account.without(funds, {run.reservation_id for run in state.running.values()})
            )
        else:
            await transaction.decide(self._account, reserving)
        transaction.append(session_stream(session_id, message.project_id), begun)
        if state.status == "new":
            await transaction.decide(self._place, partial(place.give, session_id=session_id))
        ids = self._ids | {"session": session_id}
        return ids | {"seconds": seconds, "mode": state.mode, "model": model}

    def admitted(self, result: dict[str, Any], position: int) -> Admitted:
        """The message as it was admitted, by this request or by the same one before."""
        assert self._row is not None
        is_again = result["reply"] != self._ids["reply"]
        return Admitted(
            message=self._message,
            project=self._row,
            session_id=result["session"],
            user_message_id=result["user_message"],
            reply_id=result["reply"],
            reservation_id=result["reservation"],
            # An earlier version stored neither of them: its replies were the planner's.
            mode=result.get("mode", "plan"),
            model=result.get("model", self._rules.model),
            reserved_seconds=result["seconds"],
            position=position,
            is_again=is_again,
            limits=() if is_again else self._limits,
        )

    async def append(self, transaction: Transaction, *, role: AppendedRole) -> dict[str, Any]:
        """Decide on project and session; returns what a repeated request gets again.

        The project's limit counts the message. The user's limit counts reservations, and an
        appended message has none; above either limit it is refused.
        """
        message = self._message
        assert message.session_id is not None
        now, _ = await self._recall(transaction)
        funds = await transaction.load(self._account)
        project_state = await transaction.load(self._project)
        at = rate_limits.not_before(now, funds.messages, project_state.messages)
        session_id, state = await self._own_session(transaction, message.session_id)
        await self._join(transaction, state, self._ids["user_message"], at)
        of_user, of_project = self._counted(funds, project_state, at)
        self._limits = (rate_limits.status(*of_user, at), _with_message(*of_project, at))
        resumed = session.resume(state)
        said = session.append_message(
            session.fold(resumed, state),
            message_id=self._ids["user_message"],
            role=role,
            text=message.text,
            locale=message.locale,
        )
        transaction.append(session_stream(session_id, message.project_id), (*resumed, *said))
        return {"session": session_id, "message": self._ids["user_message"]}

    def appended(self, result: dict[str, Any], position: int) -> AppendedMessage:
        """The message as it was appended, by this request or by the same one before."""
        is_again = result["message"] != self._ids["user_message"]
        return AppendedMessage(
            session_id=result["session"],
            message_id=result["message"],
            position=position,
            limits=() if is_again else self._limits,
        )

    async def _join(
        self, transaction: Transaction, state: Session, counted_id: str, at: datetime
    ) -> None:
        """Let the project admit and count the message: that of a reply, or an appended one."""
        joining = partial(
            project.admit_message,
            user_id=self._message.user_id,
            reply_id=counted_id,
            at=at,
            waits_for_builds=MODES[state.mode].is_locked,
        )
        await transaction.decide(self._project, joining)

    async def _recall(self, transaction: Transaction) -> tuple[datetime, str | None]:
        """Load account and project in one round trip, with the reads of what no stream tells.

        Returns the time by the database's clock and the user's active session. The account comes
        first: another message of this user, admitted meanwhile, changes the account, so the append
        fails unless the session that was found is the right one.
        """
        message = self._message
        asked = {"tenant_id": message.tenant_id, "project_id": message.project_id}
        row = project_read(**asked, user_id=message.user_id)
        clock: Read[datetime] = Read(SQL["clock"], scalar_row)
        active = self._active_read()
        streams: tuple[AnyStream, ...] = (self._account, self._project)
        if message.session_id is not None:
            streams = (*streams, session_stream(message.session_id, message.project_id))
        viewed = Viewed(**asked, version_id=message.version_id, build_id=message.build_id)
        await transaction.recall(*streams, beside=(row, clock, active, *viewed.reads))
        self._row, now = await row.row(), await clock.row()
        if self._row is None or now is None:
            raise NotAMember
        await viewed.require()
        return now, await active.row()

    def _active_read(self) -> Read[str]:
        """The read of the session that gets the user's next message in the project."""
        message = self._message
        return active_session_read(
            tenant_id=message.tenant_id,
            project_id=message.project_id,
            user_id=message.user_id,
            idle_seconds=self._rules.idle_seconds,
        )

    async def _session(self, transaction: Transaction, active: str | None) -> tuple[str, Session]:
        """The session that the message names; else the active session; else a new one.

        A new session gets the place of the user's session, as does a session that is asked for
        without a message. So of two requests that race to open it, one finds the session of the
        other.
        """
        if self._message.session_id is not None:
            return await self._own_session(transaction, self._message.session_id)
        if found := await self._with_room(transaction, active):
            return found
        again = self._active_read()
        await transaction.recall(self._place, beside=(again,))
        if found := await self._with_room(transaction, await again.row()):
            return found
        stream = session_stream(self._ids["session"], self._message.project_id)
        transaction.begin(stream)
        return stream.id, await transaction.load(stream)

    async def _with_room(
        self, transaction: Transaction, session_id: str | None
    ) -> tuple[str, Session] | None:
        """The session, if there is one and it takes one more message."""
        if session_id is None:
            return None
        try:
            _, state = await self._own_session(transaction, session_id)
            session.require_capacity(state)
        except (SessionEnded, SessionFull, SessionSpent):
            return None
        return session_id, state

    async def _own_session(self, transaction: Transaction, session_id: str) -> tuple[str, Session]:
        message = self._message
        state = await transaction.load(session_stream(session_id, message.project_id))
        if (state.project_id, state.user_id) != (message.project_id, message.user_id):
            raise SessionUnknown
        return session_id, state

    def _begun(self, session_id: str, state: Session, model: str) -> session.Decided:
        """The message and the start of its reply; a new session is opened first, and an expired one
        is resumed."""
        opened = session.resume(state)
        if state.status == "new":
            opened = self._opened(session_id, state)
        state = session.fold(opened, state)
        posted = session.post_message(
            state,
            message_id=self._ids["user_message"],
            text=self._message.text,
            locale=self._message.locale,
            chat_mode=self._message.chat_mode,
            context=self._message.context,
            viewed_version_id=self._message.version_id,
            viewed_build_id=self._message.build_id,
        )
        started = session.start_reply(
            session.fold(posted, state),
            reply_id=self._ids["reply"],
            in_reply_to=self._ids["user_message"],
            model=model,
            reservation_id=self._ids["reservation"],
            lease_id=self._rules.lease_id,
            may_wait=self._message.may_wait,
        )
        return (*opened, *posted, *started)

    def _opened(self, session_id: str, state: Session) -> session.Decided:
        """A new session, with the service's greeting."""
        assert self._row is not None
        opened = session.open_session(
            state,
            session_id=session_id,
            project_id=self._message.project_id,
            user_id=self._message.user_id,
        )
        facts = {"project_name": self._row.name}
        greeting = announcements.announced(
            session.fold(opened, state), opened, new_id=new_id, facts=facts
        )
        return (*opened, *greeting)

    def _within_limits(
        self, funds: Account, project_state: Project, at: datetime
    ) -> tuple[LimitStatus, ...]:
        """How the limits stand with this message. Raises the refusal of a limit that is reached."""
        counted = self._counted(funds, project_state, at)
        return tuple(_with_message(*each, at) for each in counted)

    def _counted(
        self, funds: Account, project_state: Project, at: datetime
    ) -> tuple[tuple[RateLimit, Times], tuple[RateLimit, Times]]:
        """The limits of the user and of the project, with what they counted before this message.
        Raises the refusal of a limit that is reached."""
        counted = (
            (self._rules.of_user, funds.messages),
            (self._rules.of_project, project_state.messages),
        )
        for limit, times in counted:
            rate_limits.require_capacity(limit, times, at)
        return counted

    def _reserving(
        self, session_id: str, seconds: int, at: datetime
    ) -> Callable[[Account], account.Decided]:
        """The reservation of what such a message may need, before its reply is known."""
        return partial(
            account.reserve,
            user_id=self._message.user_id,
            reservation_id=self._ids["reservation"],
            session_id=session_id,
            reply_id=self._ids["reply"],
            seconds=seconds,
            at=at,
        )


def _with_message(limit: RateLimit, times: Times, at: datetime) -> LimitStatus:
    """How a limit stands with one more message."""
    return rate_limits.status(limit, rate_limits.with_time(times, at), at)
