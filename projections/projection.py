"""Read models: how they are installed, caught up, rebuilt and verified.

The rules of a read model are one set-based SQL function over a range of positions, in
`sql/projections/<name>.sql`. The same text has three uses: inside each append, in catching up, and
in a rebuild, which runs it in a schema of its own and swaps the finished table in. Rows and
checkpoint move together.

PostgreSQL plans the function while the log is small, and keeps the plan as the log grows. Therefore
every function sets `enable_seqscan = off`: a plan never reads the whole log.
"""

import re
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg import sql as compose
from psycopg.rows import class_row
from psycopg.types.numeric import Int8

import sql
from domain.events import Event

Connection = psycopg.AsyncConnection[Any]
Progress = Callable[[int, int], None]
"""Called with the progress of a rebuild: the position that it has reached, and the head."""

SQL: Final = sql.statements("projections.sql")
PAST: Final = sql.statements("past.sql")
CHUNK: Final = 10_000
STEP: Final = 1_000
_SWAP_TRIES: Final = 10


class Busy(RuntimeError):
    """Another process rebuilds or verifies this read model now. Try again when that has ended."""


class _Follows(Exception):
    """The read model follows the log again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A read model: its table and its rules have its name.

    When its table or its rules change, raise `version`: the next start rebuilds the read model from
    the log. `rules` is a digest of the table and the rules. A test fails when it is not the digest
    of the SQL file, and prints the new one.
    """

    name: str
    version: int
    rules: str
    handles: tuple[type[Event], ...]
    is_inline: bool = True
    """Whether each append applies its events. Rules that cost an append too much run in the
    background, about a second later."""
    views: tuple[str, ...] = ()
    """The names of its views in the schema `analytics`. A view may use the views before it."""

    @property
    def statements(self) -> dict[str, bytes]:
        """The sections of its SQL file by name: table, apply, view, and the reads."""
        return sql.statements(f"projections/{self.name}.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionStatus:
    """The position and state of a read model; `halted_before` is the position that it failed at.

    `set_aside` is the number of streams that it leaves out, because its rules failed on them.
    """

    name: str
    version: int
    position: int
    head: int
    halted_at: datetime | None
    halted_before: int | None
    halted_reason: str | None
    set_aside: int

    @property
    def state(self) -> str:
        """`halted`, `behind` or `live`."""
        if self.halted_at is not None:
            return "halted"
        return "behind" if self.position < self.head else "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A stream that a read model leaves out from the event at `position` on. `reason` is the
    message of PostgreSQL, which can quote what is in the event."""

    projection: str
    tenant_id: str
    stream_id: str
    position: int
    reason: str


async def set_aside(connection: Connection) -> list[SetAside]:
    """The streams that read models have set aside. A rebuild tries them again."""
    async with connection.cursor(row_factory=class_row(SetAside)) as cursor:
        await cursor.execute(SQL["set_aside"])
        return await cursor.fetchall()


async def left_out(
    connection: Connection,
    names: Collection[str],
    *,
    tenant_id: str,
    stream_ids: Collection[str],
    is_wide: bool = False,
    project_id: str | None = None,
) -> list[str]:
    """Which of these read models leave out one of these streams.

    A wide search also asks for each stream of the project that its members see, and without a
    project for each such stream of the tenant.
    """
    asked = {
        "names": list(names),
        "tenant_id": tenant_id,
        "stream_ids": list(stream_ids),
        "is_wide": is_wide,
        "project_id": project_id,
    }
    found = await connection.execute(SQL["left_out"], asked)
    return [name for (name,) in await found.fetchall()]


async def status(connection: Connection) -> list[ProjectionStatus]:
    """The status of all read models, sorted by name."""
    async with connection.cursor(row_factory=class_row(ProjectionStatus)) as cursor:
        await cursor.execute(SQL["status"])
        return await cursor.fetchall()


async def reached(connection: Connection, name: str) -> int:
    """The position that a read model has reached; 0 when it is not installed."""
    position, _ = await reached_with_gaps(connection, name)
    return position


async def reached_with_gaps(connection: Connection, name: str) -> tuple[int, frozenset[str]]:
    """The position that a read model has reached, and the names of all read models that have set
    any stream aside."""
    row = await _row(connection, SQL["reached"], {"name": name})
    return (int(row[0]), frozenset(row[1])) if row else (0, frozenset())


async def install(connection: Connection, projections: Sequence[Projection]) -> list[str]:
    """Bring the read models to these versions, as the database's owner.

    Returns the names of the rebuilt read models. A read model of the same version gets its
    functions and views anew. A read model of a higher version does not change.
    """
    await _drop_abandoned(connection)
    rebuilt: list[str] = []
    for projection in projections:
        row = await _row(connection, SQL["checkpoint"], {"name": projection.name})
        if row is None or row[0] < projection.version:
            await rebuild(connection, projection)
            rebuilt.append(projection.name)
        elif row[0] == projection.version:
            await _refresh(connection, projection)
    await _install_past(connection, projections)
    return rebuilt


def in_past(text: bytes, names: Iterable[str]) -> bytes:
    """The text of a statement or function that reads these read models as they were. See
    `projections/past.py`."""
    moved = rb"\bapp\.(last_words|" + "|".join(names).encode() + rb")\b"
    return re.sub(moved, rb"past.\1", text)


def read_in_past(moved: bytes) -> list[bytes]:
    """The read models that a statement reads, which was moved to the schema `past`. The statement
    reads the timeline where it calls `last_words`."""
    found = re.findall(rb"\bpast\.(\w+)", moved)
    return [b"timeline" if each == b"last_words" else each for each in found]


async def _install_past(connection: Connection, projections: Sequence[Projection]) -> None:
    """Create an empty copy of each table and its rules in the schema `past`, where the copy is
    missing or has other rules."""
    names = [each.name for each in projections]
    async with connection.transaction():
        await connection.execute(PAST["lock"])
        for projection in projections:
            table = {"table": f"past.{projection.name}"}
            if await _row(connection, PAST["installed"], table) != (projection.rules,):
                await _copy_to_past(connection, projection)
        last_words = next(each for each in sql.functions() if each.name == "last_words")
        if "timeline" in names:
            await connection.execute(in_past(last_words.text, names))


async def _copy_to_past(connection: Connection, projection: Projection) -> None:
    table = compose.Identifier("past", projection.name)
    await connection.execute(compose.SQL("drop table if exists {}").format(table))
    await _search(connection, "past", "app")
    await _define(connection, projection, "table")
    await connection.execute(compose.SQL("alter table {} set unlogged").format(table))
    await connection.execute(SQL["separate_tenants"], {"table": f"past.{projection.name}"})
    await _define(connection, projection, "apply")
    rules = compose.Literal(projection.rules)
    await connection.execute(compose.SQL("comment on table {} is {}").format(table, rules))


async def _refresh(connection: Connection, projection: Projection) -> None:
    """Create the rules and the views anew. A view that is in use or built upon stays as it is."""
    try:
        async with connection.transaction():
            await connection.execute("set local lock_timeout = '1s'")
            await _drop_views(connection, projection)
            await _create_rules(connection, projection)
    except (psycopg.errors.DependentObjectsStillExist, psycopg.errors.LockNotAvailable):
        async with connection.transaction():
            await _search(connection, "app")
            await _define(connection, projection, "apply")


async def _define(connection: Connection, projection: Projection, section: str) -> None:
    """Execute a section with the names that the roles have in this database."""
    (role,) = await _row(connection, SQL["service_role"], {}) or ("",)
    roles = str(role).removesuffix("_service")
    await connection.execute(sql.named(projection.statements[section], roles))


async def catch_up(connection: Connection) -> bool:
    """Move every read model that is behind by one step, also the halted read models.

    Returns True when all are up to date, apart from read models that are still halted.
    """
    rows = await (await connection.execute(SQL["behind"])).fetchall()
    return all([await catch_up_one(connection, name) for (name,) in rows])


async def catch_up_one(connection: Connection, name: str) -> bool:
    """Try a step, then smaller steps. A rule can fail for another reason than the content of an
    event: then the read model halts right before the event.

    Returns True when the read model is up to date or halted.
    """
    step = STEP
    while step:
        async with connection.transaction():
            await connection.execute(SQL["lock"], {"name": name})
            row = await _row(connection, SQL["catch_up"], {"name": name, "step": step})
            if row is None:
                return True
            ok, upto = row
            if ok:
                await connection.execute(SQL["move"], {"name": name, "position": Int8(upto)})
                return bool(upto >= await head(connection))
        step //= 10
    return True


async def rebuild(
    connection: Connection, projection: Projection, progress: Progress = lambda _at, _head: None
) -> None:
    """Rebuild the read model from the log, as the database's owner.

    Readers see the old rows until all new rows are there. Writers never wait: while the tables are
    swapped, appends skip this read model. The streams that were set aside are tried again. Raises
    Busy.
    """
    async with _shadow(connection, projection, "rebuild") as schema:
        filled = await _fill(connection, projection, schema, progress)
        for attempt in range(_SWAP_TRIES):
            try:
                await _swap(connection, projection, schema, filled)
                break
            except (psycopg.errors.LockNotAvailable, _Follows):
                if attempt == _SWAP_TRIES - 1:
                    raise


async def verify(
    connection: Connection, projection: Projection, progress: Progress = lambda _at, _head: None
) -> int:
    """The number of rows in which the read model differs from the log. Needs the database's owner.

    Folds the log up to the read model's checkpoint, in the same snapshot, without the streams that
    the read model has set aside. Raises Busy.
    """
    async with _shadow(connection, projection, "verify") as schema:
        both = {"schema": schema, "name": projection.name}
        await connection.execute(SQL["copy_set_aside"], both)
        filled = await _fill(connection, projection, schema, progress, to_checkpoint=True)
        async with connection.transaction():
            await connection.execute("set transaction isolation level repeatable read")
            row = await _row(connection, SQL["checkpoint"], {"name": projection.name})
            assert row is not None
            await _apply(connection, projection, schema, filled, row[1])
            differing = compose.SQL(
                "select greatest("
                "(select count(*) from (table {live} except all table {shadow}) as wrong),"
                "(select count(*) from (table {shadow} except all table {live}) as missing))"
            ).format(
                live=compose.Identifier("app", projection.name),
                shadow=compose.Identifier(schema, projection.name),
            )
            counted = await _row(connection, differing)
            return int(counted[0]) if counted else 0


async def _fill(
    connection: Connection,
    projection: Projection,
    schema: str,
    progress: Progress,
    *,
    to_checkpoint: bool = False,
) -> int:
    """Fold the log into the shadow until less than a step is left; returns the position."""
    at = 0
    while True:
        end = await head(connection)
        if to_checkpoint:
            end = await reached(connection, projection.name)
        progress(at, end)
        if end - at < CHUNK:
            return at
        await _apply(connection, projection, schema, at, at + CHUNK)
        at += CHUNK


async def _swap(connection: Connection, projection: Projection, schema: str, filled: int) -> None:
    """Stop the read model, finish the shadow and swap it with the live table in one transaction.

    If the swap fails, the read model is caught up and follows again. Raises _Follows where that
    happened before the swap began. A vacuum that PostgreSQL began by itself may hold either table.
    It gives way only to a wait that is longer than `deadlock_timeout`, which is a second. The
    shadow is locked first, while nobody waits for what the swap holds.
    """
    live = compose.Identifier("app", projection.name)
    shadow = compose.Identifier(schema, projection.name)
    name = {"name": projection.name}
    async with connection.transaction():
        await connection.execute("set local lock_timeout = '1s'")
        await connection.execute(SQL["stop"], name)
    async with connection.transaction():
        await connection.execute("set local lock_timeout = '2s'")
        await connection.execute(compose.SQL("lock table {}").format(shadow))
        if await _row(connection, SQL["lock"], name) == (True,):
            raise _Follows
        end = await head(connection)
        await _apply(connection, projection, schema, filled, end)
        # A reader of the view locks the view first and then the table. The same order here avoids
        # a deadlock.
        await _drop_views(connection, projection)
        await connection.execute(compose.SQL("drop table if exists {}").format(live))
        await connection.execute(compose.SQL("alter table {} set schema app").format(shadow))
        await _create_rules(connection, projection)
        await connection.execute(SQL["forget_set_aside"], {"projection": projection.name})
        both = {"schema": schema, "name": projection.name}
        await connection.execute(SQL["keep_set_aside"], both)
        await connection.execute(
            SQL["register"],
            {
                "name": projection.name,
                "version": projection.version,
                "handles": [kind.__name__ for kind in projection.handles],
                "is_inline": projection.is_inline,
                "position": Int8(end),
            },
        )


async def _drop_views(connection: Connection, projection: Projection) -> None:
    for name in reversed(projection.views):
        view = compose.Identifier("analytics", name)
        await connection.execute(compose.SQL("drop view if exists {}").format(view))


async def _create_rules(connection: Connection, projection: Projection) -> None:
    """Create the function and the views of the live table, in the caller's transaction."""
    await _search(connection, "app")
    await _define(connection, projection, "apply")
    if projection.views:
        await _define(connection, projection, "view")


@asynccontextmanager
async def _shadow(connection: Connection, projection: Projection, work: str) -> AsyncGenerator[str]:
    """A temporary schema with an empty table and the rules of the read model."""
    schema = f"{work}_{projection.name}"
    claim = {"name": projection.name}
    if await _row(connection, SQL["claim"], claim) is None:
        raise Busy
    try:
        async with connection.transaction():
            await _drop_shadow(connection, schema)
            await connection.execute(
                compose.SQL("create schema {}").format(compose.Identifier(schema))
            )
            await _search(connection, schema, "app")
            await _define(connection, projection, "table")
            await connection.execute(
                SQL["separate_tenants"], {"table": f"{schema}.{projection.name}"}
            )
            await _define(connection, projection, "apply")
        yield schema
    finally:
        if not connection.broken:
            await _drop_shadow(connection, schema)
            await connection.execute(SQL["release"], claim)


async def _drop_shadow(connection: Connection, schema: str) -> None:
    drop = compose.SQL("drop schema if exists {} cascade").format(compose.Identifier(schema))
    await connection.execute(drop)
    await connection.execute(SQL["forget_set_aside"], {"projection": schema})


async def _drop_abandoned(connection: Connection) -> None:
    """Drop what interrupted rebuilds and verifications have left: rows with texts that may have
    been erased since."""
    abandoned = await (await connection.execute(SQL["abandoned"])).fetchall()
    for (name,) in abandoned:
        if await _row(connection, SQL["claim"], {"name": name}) is not None:
            for work in ("rebuild", "verify"):
                await _drop_shadow(connection, f"{work}_{name}")
            await connection.execute(SQL["release"], {"name": name})


async def _apply(
    connection: Connection, projection: Projection, schema: str, after: int, upto: int
) -> None:
    bounds = {"after": Int8(after), "upto": Int8(upto)}
    await connection.execute(
        SQL["project_around"], {"schema": schema, "name": projection.name} | bounds
    )


async def _search(connection: Connection, *schemas: str) -> None:
    path = compose.SQL(", ").join(map(compose.Identifier, schemas))
    await connection.execute(compose.SQL("set local search_path = {}").format(path))


async def head(connection: Connection) -> int:
    """The position of the log's last event."""
    row = await _row(connection, SQL["head"])
    return int(row[0]) if row else 0


async def _row(
    connection: Connection,
    query: bytes | compose.Composed,
    parameters: dict[str, Any] | None = None,
) -> Any:
    return await (await connection.execute(query, parameters)).fetchone()
