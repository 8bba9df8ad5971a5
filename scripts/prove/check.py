"""What a check is, and the ways in which its negative control damages a copy of the database."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from domain.events import Event
from scripts.prove.observed import Observed
from service.postgres.connections import Connection


@dataclass(frozen=True, slots=True)
class Found:
    """How much was looked at, and what is wrong with it."""

    counted: int
    breaches: list[str]


Damage = Callable[[Connection], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`find` looks at histories and database. Its control is one of: `damage` done to a copy of the
    database, or histories `retold` wrongly; in either it must find a breach."""

    name: str
    find: Callable[[Observed, Connection], Awaitable[Found]]
    damage: Damage | None = None
    distort: Callable[[Observed], Observed] | None = None


class NothingDamaged(Exception):
    """The control had nothing to work on, so it proves nothing."""


def changed(statement: str) -> Damage:
    """Damage by one statement that must touch exactly one row."""

    async def damage(database: Connection) -> None:
        done = await database.execute(statement.encode())
        if done.rowcount != 1:
            raise NothingDamaged(f"{done.rowcount} rows: {statement}")

    return damage


def without_first(*kinds: type[Event]) -> Damage:
    """The first event of these kinds is gone."""
    return changed(f"delete from app.event where position = {_first(*kinds)}")


def doubled_first(*kinds: type[Event]) -> Damage:
    """The first event of these kinds stands in the log once more, as its last."""
    return changed(
        "insert into app.event select (select max(position) + 1 from app.event), "
        "version + 1000000, schema_version, append_id, recorded_at, tenant_id, stream_id, type, "
        f"project_id, state, metadata from app.event where position = {_first(*kinds)}"
    )


def restated_first(kind: type[Event], member: str, value: str) -> Damage:
    """In the first event of this kind a member has another value, given as JSON."""
    return changed(
        "update app.event set state = convert_to(jsonb_set(convert_from(state, 'UTF8')::jsonb, "
        f"'{{{member}}}', '{value}')::text, 'UTF8') where position = {_first(kind)}"
    )


def _first(*kinds: type[Event]) -> str:
    names = ", ".join(f"'{kind.__name__}'" for kind in kinds)
    return f"(select min(position) from app.event where type in ({names}))"
