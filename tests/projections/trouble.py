"""Read models in trouble: how tests bring them into it, and see them out of it again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from projections import PROJECTIONS
from projections import projection as machinery
from projections.projection import Connection, Projection, ProjectionStatus, status
from service.eventlog.store import NewEvent
from tests.projections.fold import rows
from tests.projections.generated import Log, background, live, owning

OPENED = b'{"session_id":"odd","project_id":"p","user_id":"u","mode":"plan"}'
CREDITED = b'{"user_id":"u","credit_id":"c","seconds":1,"kind":"paid","reason":null}'
NAMES = sorted(projection.name for projection in PROJECTIONS)
INLINE = [each for each in PROJECTIONS if each.is_inline]
"""The read models that appends carry along."""


async def statuses(connection: Connection) -> dict[str, ProjectionStatus]:
    await background(connection)
    return {model.name: model for model in await status(connection)}


async def assert_all_is_well(connection: Connection, log: Log) -> None:
    """Every read model is live, and its rows are what the log says."""
    events = await log.events()
    for name, model in (await statuses(connection)).items():
        assert model.state == "live", model
        assert (model.position, model.head) == (len(events), len(events))
        assert (
            model.halted_at,
            model.halted_before,
            model.halted_reason,
        ) == (None,) * 3
        assert await live(connection, name) == rows(name, events)


@asynccontextmanager
async def held(url: str, *names: str) -> AsyncIterator[None]:
    """Somebody else holds these read models, as a swap does."""
    async with owning(url) as other:
        for name in names:
            await other.execute(machinery.SQL["stop"], {"name": name})
        async with other.transaction():
            for name in names:
                await other.execute(machinery.SQL["lock"], {"name": name})
            yield
        await other.execute("update app.projection set is_paused = false")


IN_THE_EVENT = "raise_exception"
"""An error that what is in an event can cause."""


async def break_(
    owner: Connection, projection: Projection, *, at: str, error: str = "undefined_function"
) -> None:
    """Let the rules fail on the events of a type, and do all else as before.

    By default with an error that has another reason than what is in the event.
    """
    name = f"app.apply_{projection.name}"
    await owner.execute(f"alter function {name} rename to sound_{projection.name}".encode())
    await owner.execute(
        f"""
        create function {name}(p_after bigint, p_upto bigint) returns void
        language plpgsql as $$
        begin
            perform app.sound_{projection.name}(p_after, p_upto);
            if exists (
                select from app.event
                where position > p_after and position <= p_upto and type = '{at}'
            ) then
                raise exception 'made to fail on %', '{at}' using errcode = '{error}';
            end if;
        end
        $$
        """.encode()
    )


async def mend(owner: Connection, projection: Projection) -> None:
    name = f"app.apply_{projection.name}"
    await owner.execute(f"drop function {name}".encode())
    await owner.execute(
        f"alter function app.sound_{projection.name} rename to apply_{projection.name}".encode()
    )


def odd(n: int, kind: str = "ProjectRegistered") -> list[NewEvent]:
    """An append that a read model was broken for."""
    state = b'{"project_id":"odd-%d","name":"n","framework":null,"source_root":null}' % n
    return [NewEvent("t1", f"project-odd-{n}", 1, kind, state, f"odd-{n}")]


async def schemas(connection: Connection) -> set[str]:
    found = await connection.execute(
        "select nspname from pg_namespace where nspname ~ '^(rebuild|verify)_'"
    )
    return {name for (name,) in await found.fetchall()}


Done = Callable[[], bool]


async def until_waiting(
    connection: Connection, backends: int, *, unless: Done = lambda: False
) -> bool:
    """Wait until so many backends of this database wait for a lock, or until `unless`; returns
    whether they wait."""
    query = """
        select count(distinct pid) from pg_locks
        where not granted and pid in (
            select pid from pg_stat_activity where datname = current_database()
        )
    """
    async with asyncio.timeout(60):
        while not unless():
            if await (await connection.execute(query)).fetchone() == (backends,):
                return True
            await asyncio.sleep(0.01)
    return False
