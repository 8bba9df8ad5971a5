"""A check, and the ways in which its negative control damages a copy of the database."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from domain.events import Event
from scripts.prove.observed import Observed
from service.postgres.connections import Connection


@dataclass(frozen=True, slots=True)
class Found:
    """The number of things that a check compared, and the breaches that it found."""

    counted: int
    breaches: list[str]


Damage = Callable[[Connection], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`find` compares the clients' histories with the database. Its negative control is either
    `damage` to a copy of the database or a function to `distort` the histories. With it `find` must
    report a breach."""

    name: str
    find: Callable[[Observed, Connection], Awaitable[Found]]
    damage: Damage | None = None
    distort: Callable[[Observed], Observed] | None = None


class NothingDamaged(Exception):
    """The control found nothing that it could damage, so it proves nothing."""


def changed(statement: str) -> Damage:
    """Damage by one statement, which must change exactly one row."""

    async def damage(database: Connection) -> None:
        done = await database.execute(statement.encode())
        if done.rowcount != 1:
            raise NothingDamaged(f"{done.rowcount} rows: {statement}")

    return damage


def without_first(*kinds: type[Event]) -> Damage:
    """Damage: the first event of these kinds is deleted."""
    return changed(f"delete from app.event where position = {_first(*kinds)}")


def doubled_first(*kinds: type[Event]) -> Damage:
    """Damage: the first event of these kinds is appended to the log once more."""
    return changed(
        "insert into app.event select (select max(position) + 1 from app.event), "
        "version + 1000000, schema_version, append_id, recorded_at, tenant_id, stream_id, type, "
        f"project_id, state, metadata from app.event where position = {_first(*kinds)}"
    )


def restated_first(kind: type[Event], member: str, value: str) -> Damage:
    """Damage: a member of the first event of this kind gets another value, given as JSON."""
    return changed(
        "update app.event set state = convert_to(jsonb_set(convert_from(state, 'UTF8')::jsonb, "
        f"'{{{member}}}', '{value}')::text, 'UTF8') where position = {_first(kind)}"
    )


def _first(*kinds: type[Event]) -> str:
    names = ", ".join(f"'{kind.__name__}'" for kind in kinds)
    return f"(select min(position) from app.event where type in ({names}))"
