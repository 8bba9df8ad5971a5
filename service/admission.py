"""Taking a message: session found, seconds reserved, message stored, all in one append."""

from dataclasses import dataclass
from typing import Any

from domain import account, session
from domain.errors import BuildInProgress, ProjectUnknown, SessionEnded, SessionFull, SessionUnknown
from domain.events import ChatMode, Context
from domain.metering import ESTIMATES
from domain.session import INITIAL, Session
from projections.projects import ProjectRow, project
from projections.sessions import active_session
from service.database import Pool, of_tenant
from service.ids import new_id
from service.streams import (
    ACCOUNT,
    SESSION,
    Cause,
    Streams,
    Transaction,
    account_stream,
    session_stream,
)


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
    """A message that was taken, and the reply that it will have; `is_again` if it was before."""

    message: Message
    project: ProjectRow
    session_id: str
    user_message_id: str
    message_id: str
    reservation_id: str
    reserved_seconds: int
    position: int
    is_again: bool = False


class Admission:
    """Decides whether a message is taken. Owned by the service's loop."""

    def __init__(
        self,
        streams: Streams,
        pool: Pool,
        *,
        model: str,
        epoch: int,
        idle_seconds: float,
    ) -> None:
        self._streams = streams
        self._pool = pool
        self._model = model
        self._epoch = epoch
        self._idle_seconds = idle_seconds

    async def admit(self, message: Message, cause: Cause) -> Admitted:
        """Store the message with its reservation and the start of its reply, or refuse it.

        What is refused has stored nothing. Raises ProjectUnknown, BuildInProgress, SessionUnknown,
        SessionEnded, SessionFull, ReplyInProgress, BalanceInsufficient.
        """
        known = await self._project(message)
        minted = {name: new_id() for name in ("user_message", "reply", "reservation", "session")}

        async def take(transaction: Transaction) -> dict[str, Any]:
            if known.active_build_id is not None:
                raise BuildInProgress(build_id=known.active_build_id)
            # The account first: whoever takes another message of this user meanwhile is met there,
            # so that the session that is found is the one there is.
            funds = await transaction.load(ACCOUNT, _account_of(message))
            session_id, state = await self._session(transaction, message, minted["session"])
            seconds = _reserve(transaction, funds, message, session_id, minted)
            self._post(transaction, message, session_id, state, minted)
            return minted | {"session": session_id, "seconds": seconds}

        taken, appended = await self._streams.transact(message.tenant_id, take, cause=cause)
        assert appended is not None
        return Admitted(
            message=message,
            project=known,
            session_id=taken["session"],
            user_message_id=taken["user_message"],
            message_id=taken["reply"],
            reservation_id=taken["reservation"],
            reserved_seconds=taken["seconds"],
            position=appended.first_position,
            is_again=taken["reply"] != minted["reply"],
        )

    async def _project(self, message: Message) -> ProjectRow:
        async with of_tenant(self._pool, message.tenant_id) as connection:
            known = await project(
                connection,
                tenant_id=message.tenant_id,
                project_id=message.project_id,
                user_id=message.user_id,
            )
        if known is None:
            raise ProjectUnknown
        return known

    async def _session(
        self, transaction: Transaction, message: Message, new_session_id: str
    ) -> tuple[str, Session]:
        """The session that was asked for; else the active one; else a new one."""
        if message.session_id is not None:
            return message.session_id, await _own_session(transaction, message, message.session_id)
        async with of_tenant(self._pool, message.tenant_id) as connection:
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
            except (SessionEnded, SessionFull):
                pass
            else:
                return active, state
        await transaction.load(SESSION, session_stream(new_session_id))
        return new_session_id, INITIAL

    def _post(
        self,
        transaction: Transaction,
        message: Message,
        session_id: str,
        state: Session,
        ids: dict[str, str],
    ) -> None:
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
            message_id=ids["reply"],
            in_reply_to=ids["user_message"],
            model=self._model,
            reservation_id=ids["reservation"],
            epoch=self._epoch,
            may_wait=message.may_wait,
        )
        transaction.append(
            session_stream(session_id), (*opened, *posted, *started), message.project_id
        )


async def _own_session(transaction: Transaction, message: Message, session_id: str) -> Session:
    state = await transaction.load(SESSION, session_stream(session_id))
    if (state.project_id, state.user_id) != (message.project_id, message.user_id):
        raise SessionUnknown
    return state


def _account_of(message: Message) -> str:
    return account_stream(message.tenant_id, message.user_id)


def _reserve(
    transaction: Transaction,
    funds: account.Account,
    message: Message,
    session_id: str,
    ids: dict[str, str],
) -> int:
    """Reserve what such a message may need, before anybody knows what it is."""
    seconds = ESTIMATES[message.chat_mode or "general"]
    reserved = account.reserve(
        funds,
        user_id=message.user_id,
        reservation_id=ids["reservation"],
        session_id=session_id,
        message_id=ids["reply"],
        seconds=seconds,
    )
    transaction.append(_account_of(message), reserved, message.project_id)
    return seconds
