"""Connections to the database, and the transactions of a tenant and of the service.

Transactions run in libpq's pipeline mode: statements are sent without waiting for the answers to
those before. A transaction costs one network round trip for each time that its rows are fetched,
and one for its commit; rows that are fetched after the block come with the commit.
"""

import json
import select
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakSet

import orjson
import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ConnStatus
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool

import sql
from projections.read import Read

R = TypeVar("R")

_WAIT_SECONDS: Final = 0.1
"""psycopg looks for an interrupt of the process after so many seconds of a wait."""

_WAIT_FOR_STANDBY: Final = "SyncRepWaitForLSN"
"""The function of PostgreSQL that warns when its wait is interrupted. The text of the warning is in
the language of the server."""


def _decoded(value: str | bytes) -> Any:
    """A value of a JSON column. PostgreSQL writes 1e20 with all its digits: as an integer that the
    service could not send. A number that is too large for a float stays such an integer, so that
    only its own item cannot be read."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return json.loads(value)


set_json_loads(_decoded)

Connection = psycopg.AsyncConnection[Any]


class OwnPipeline(psycopg.AsyncPipeline):
    """A pipeline that ends with Sync.

    psycopg's own pipeline sends Flush after Sync. The server has answered to Sync already where
    Flush is late. A pooler counts the transaction as ended then, and gives the connection another
    session for Flush, which has no answer: the session stays with the connection. Where all
    sessions stay so, the reads that wait for a session wait until the pooler's limit.
    """

    def _exit_gen(self) -> PQGen[None]:
        self._enqueue_sync()
        try:
            yield from self._communicate_gen()
        finally:
            # The results of a lost connection are errors without a code: they hide the loss.
            if self.pgconn.status != ConnStatus.BAD:
                yield from self._fetch_gen(flush=False)


class OwnConnection(Connection):
    """A connection of this process.

    PostgreSQL writes a commit to its own disk, and then waits for a standby. If somebody interrupts
    this wait, PostgreSQL sends a warning. All readers see the commit then, but perhaps no standby
    has the commit. `require_kept` raises an error after such a warning.
    """

    can_cancel = True
    """Whether a cancelled task cancels its statement on the server. Otherwise the task closes the
    connection. So does a connection that commits: the server completes the commit. So does a
    connection to a pooler: the request to cancel a statement is a connection of its own, which
    another process of the pooler may get, and which has ended PgBouncer 1.18."""
    _is_kept = True

    async def wait(
        self, gen: PQGen[R], interval: float = _WAIT_SECONDS, timeout: float | None = None
    ) -> R:
        """Run a generator as psycopg does. Where the connection is closed meanwhile, end the
        generator: psycopg leaves it to the garbage collector, which prints the error of its last
        step.

        A server that takes no writes any more is like a server that is away: the connection is
        closed. `writable` does not see this behind a pooler, which goes on with the connections
        that it has. Raises psycopg.OperationalError.
        """
        try:
            return await super().wait(gen, interval=interval, timeout=timeout)
        except psycopg.errors.ReadOnlySqlTransaction as error:
            self.pgconn.finish()
            raise psycopg.OperationalError("the server takes no writes") from error
        finally:
            if self.closed:
                with suppress(psycopg.Error):
                    gen.close()

    @asynccontextmanager
    async def pipeline(self) -> AsyncGenerator[psycopg.AsyncPipeline]:
        """As psycopg's own, which takes the pipeline that the connection has already."""
        async with self.lock:
            self._pipeline = self._pipeline or OwnPipeline(self)
        async with super().pipeline() as pipeline:
            yield pipeline

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:
        """End the statement, or else the connection."""
        if self.can_cancel:
            await super().cancel_safe(timeout=timeout)
        else:
            self.pgconn.finish()

    def note(self, notice: psycopg.errors.Diagnostic) -> None:
        """Take up a notice of the server."""
        if notice.source_function == _WAIT_FOR_STANDBY:
            self._is_kept = False

    def require_kept(self) -> None:
        """Raises psycopg.OperationalError, and closes the connection, where somebody interrupted
        the last commit while the commit waited for a standby. No other server may have it."""
        if not self._is_kept:
            self.pgconn.finish()
            raise psycopg.OperationalError("the wait for a standby was interrupted")


Connect = Callable[[], Awaitable[OwnConnection]]
Pool = AsyncConnectionPool[OwnConnection]
ROLES: Final = sql.statements("roles.sql")

OPEN: Final[WeakSet[Connection]] = WeakSet()
"""The connections of this process, closed ones among them."""

POOL_SIZE: Final = 10
POOL_SECONDS: Final = 5.0
"""How long a read waits for a free connection."""

_RECONNECT_SECONDS: Final = 2.0
"""How long the pool tries to replace a lost connection by itself, with growing pauses. Then the
next read that needs a connection tries at once, so that no pause outlives a failover."""

_KEYWORDS: Final[Mapping[str, Any]] = {
    "autocommit": True,
    "application_name": "throughline",
    "connect_timeout": 5,
    # A machine or a network that is gone without a word is noticed within 25 s, also by a statement
    # that waits for its answer.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def writable(url: str) -> str:
    """The address with the condition that the server takes writes, unless the address has another
    condition. A server that was the primary before a failover is refused like a server that is
    away, although the name of the host leads there.
    """
    if "target_session_attrs" in conninfo_to_dict(url):
        return url
    return make_conninfo(url, target_session_attrs="read-write")


async def connect(url: str, *, as_service: bool = True, is_direct: bool = True) -> OwnConnection:
    """A connection in autocommit, as the service's role or else as the owner of the database.

    `is_direct` is as in `pool`. Raises psycopg.OperationalError.
    """
    connection = await OwnConnection.connect(url, **_keywords(is_direct=is_direct))
    await _note(connection, is_direct=is_direct)
    if as_service:
        try:
            await connection.execute(ROLES["serve"])
        except BaseException:
            await connection.close()
            raise
    return connection


def pool(
    url: str, *, most: int = POOL_SIZE, seconds: float = POOL_SECONDS, is_direct: bool = True
) -> Pool:
    """Connections for reads, not opened yet, for `tenant_transaction` and `service_transaction`.

    A read waits `seconds` for a free one. Nothing is set for a whole session: a pooler before the
    database may give it to somebody else. Where the address is not direct but a pooler's, no
    statement is prepared either: the session that knows it may be somebody else's by then. And no
    statement is cancelled on the server (`OwnConnection.can_cancel`).
    """
    return AsyncConnectionPool(
        url,
        connection_class=OwnConnection,
        open=False,
        min_size=1,
        max_size=most,
        timeout=seconds,
        reconnect_timeout=_RECONNECT_SECONDS,
        configure=partial(_note, is_direct=is_direct),
        check=_require_open,
        kwargs=_keywords(is_direct=is_direct),
    )


async def _note(connection: OwnConnection, *, is_direct: bool) -> None:
    OPEN.add(connection)
    connection.add_notice_handler(connection.note)
    connection.can_cancel = is_direct


def _keywords(*, is_direct: bool) -> dict[str, Any]:
    return {**_KEYWORDS, "prepare_threshold": 1 if is_direct else None}


async def _require_open(connection: Connection) -> None:
    """Refuse a connection that the server has closed, without a round trip to the server.

    A server that stops or restarts closes the socket, which makes the socket readable here. Raises
    OperationalError, and the pool takes another connection.
    """
    news = select.poll()
    news.register(connection.pgconn.socket, select.POLLIN)
    while news.poll(0):
        connection.pgconn.consume_input()


@asynccontextmanager
async def tenant_transaction(
    pool: Pool, tenant_id: str, *, as_of_one_moment: bool = False
) -> AsyncGenerator[Connection]:
    """A transaction that sees the rows of one tenant alone, even if a statement forgets to filter.

    With `as_of_one_moment` all its statements see the same state of the database.

    The count of affected rows is known after the block.
    """
    begin = b"begin isolation level repeatable read" if as_of_one_moment else b"begin"
    async with _pipelined(pool, begin) as connection:
        await connection.execute(ROLES["as_tenant"], {"tenant_id": tenant_id})
        yield connection


@asynccontextmanager
async def past_transaction(pool: Pool, tenant_id: str) -> AsyncGenerator[Connection]:
    """A transaction that sees the rows of one tenant alone, and that stores nothing: it ends with a
    rollback. Its statements see the log at one moment.

    The caller may choose other cursors for the connection, until the end.
    """
    begin = b"begin isolation level repeatable read"
    async with _pipelined(pool, begin, end=b"rollback") as connection:
        await connection.execute(ROLES["as_tenant"], {"tenant_id": tenant_id})
        cursors = connection.cursor_factory
        try:
            yield connection
        finally:
            connection.cursor_factory = cursors


@asynccontextmanager
async def service_transaction(pool: Pool) -> AsyncGenerator[Connection]:
    """A transaction for the service's own work, which sees the rows of all tenants.

    The count of affected rows is known after the block.
    """
    async with _pipelined(pool, b"begin") as connection:
        await connection.execute(ROLES["as_service"])
        yield connection


@asynccontextmanager
async def streaming_transaction(pool: Pool) -> AsyncGenerator[Connection]:
    """A transaction for the service's own work, in which the caller can read the rows of a
    statement while the server still sends more rows.

    libpq's pipeline mode does not allow this. So the transaction has no pipeline: each statement
    waits for the end of the statement before.
    """
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(ROLES["as_service"])
        yield connection


@asynccontextmanager
async def _pipelined(
    pool: Pool, begin: bytes, *, end: bytes = b"commit"
) -> AsyncGenerator[Connection]:
    """A transaction in pipeline mode.

    psycopg's own `transaction()` would wait for the server before and after its commit. What fails
    in here is rolled back where the pool takes the connection back.
    """
    async with pool.connection() as connection:
        async with connection.pipeline():
            await connection.execute(begin, prepare=False)
            yield connection
            await connection.execute(end, prepare=False)
        connection.require_kept()


async def tenant_rows(pool: Pool, tenant_id: str, read: Read[R]) -> list[R]:
    """The rows of a read, in a transaction of its own and in one round trip."""
    async with tenant_transaction(pool, tenant_id) as connection:
        await read.send(connection)
    return await read.rows()
