"""Why a request cannot be served now. Each error says what of the request is stored."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Final, Literal

import psycopg
from psycopg_pool import PoolTimeout

from service.wire import LOG_POSITION

Stored = Literal["nothing", "everything", "unknown"]


class NotServed(Exception):
    """The request was not served. A docstring is the message: what happened and what to do.

    `headers` tell the client where to read what is stored.
    """

    code: ClassVar[str]
    stored: ClassVar[Stored]

    def __init__(self, reason: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason or self.code)
        self.headers: Mapping[str, str] = headers or {}

    @property
    def detail(self) -> str:
        """The message for the client."""
        return " ".join((type(self).__doc__ or "").split())


# Nothing is stored -------------------------------------------------------------------------------


class Unavailable(NotServed):
    """The service cannot do this now. Nothing was stored. Try again in a moment."""

    code = "unavailable"
    stored = "nothing"


class DatabaseAway(Unavailable):
    """The database cannot be reached, or does not answer in time. Nothing was stored. Try again in
    a moment."""

    code = "database_away"


class Overloaded(Unavailable):
    """The server has too much to do. Nothing was stored. Try again after the seconds of
    Retry-After."""

    code = "overloaded"


class Contended(Unavailable):
    """Other requests kept changing the same project, account or session. Nothing was stored. Try
    again in a moment."""

    code = "contended"


class Stopping(Unavailable):
    """The server is stopping. Nothing was stored. Try again: another server answers."""

    code = "stopping"


class ReadModelBehind(Unavailable):
    """The read model has not come to this position yet. Nothing was stored. Try again in a moment,
    or read without minPosition."""

    code = "read_model_behind"


class TooSlow(Unavailable):
    """The database needed too long to answer. Nothing was stored. Ask for less: a smaller page or a
    shorter time."""

    code = "too_slow"


# All is stored -----------------------------------------------------------------------------------


class AnswerMissing(NotServed):
    """All of the request is stored, at the position X-Log-Position; only the answer to it could not
    be read. Do not send it again as a new request: read what it changed."""

    code = "answer_missing"
    stored = "everything"


class AuditLate(NotServed):
    """All of the request is stored; only its entry in the audit is not yet. Do not send it again as
    a new request: read what it changed, or send it again with its Idempotency-Key."""

    code = "audit_late"
    stored = "everything"


class ReplyContinues(NotServed):
    """The message is stored and its reply goes on, but this server is stopping. Do not send the
    message again: read the reply at Location."""

    code = "reply_continues"
    stored = "everything"


class ReplyStillEnding(NotServed):
    """The end of the reply is requested, and that is stored, but the reply has not ended yet. Send
    the same request again to wait for its end: nothing is done twice."""

    code = "reply_still_ending"
    stored = "everything"


# Nobody knows yet --------------------------------------------------------------------------------


class OutcomeUnknown(NotServed):
    """The connection to the database was lost at the commit, and did not come back in time. Look
    whether the request is stored before you send it again; with an Idempotency-Key, send it again
    with the same key: it is done once."""

    code = "outcome_unknown"
    stored = "unknown"


DATABASE_AWAY: Final = (
    Unavailable,
    PoolTimeout,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    OSError,
)
"""The errors of a database that is away or too slow; nothing was appended."""


@contextmanager
def answering(position: int) -> Generator[None]:
    """What is read for the answer to a request that is stored at `position`.

    Raises AnswerMissing where the database or a read model is away.
    """
    try:
        yield
    except DATABASE_AWAY as error:
        reason = type(error).__name__
        raise AnswerMissing(reason, {LOG_POSITION: str(position)}) from error


@contextmanager
def committing() -> Generator[None]:
    """Around a transaction that writes beside the log.

    Raises OutcomeUnknown where the connection was lost in it.
    """
    try:
        yield
    except (PoolTimeout, psycopg.errors.QueryCanceled):
        raise
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise OutcomeUnknown(type(error).__name__) from error


def not_served(error: Exception) -> NotServed | None:
    """The error as the client gets it, where the database or the load is the cause."""
    if isinstance(error, NotServed):
        return error
    if isinstance(error, PoolTimeout):
        return Overloaded("no free connection")
    if isinstance(error, psycopg.errors.QueryCanceled):
        return TooSlow()
    if isinstance(error, DATABASE_AWAY):
        return DatabaseAway()
    return None
