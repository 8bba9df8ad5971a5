"""Reads the log from its table, without the service, for the checks."""

from dataclasses import dataclass
from typing import Any

from domain.events import Event
from service.eventlog.transactions import decode
from service.postgres.connections import Connection


@dataclass(frozen=True, slots=True)
class Stored:
    """An event of the log. `append` is the last position of its append."""

    position: int
    append: int
    tenant: str
    stream: str
    version: int
    type: str
    event: Any


async def stored(database: Connection, *kinds: type[Event]) -> list[Stored]:
    """The events of these kinds, or of all kinds, in order."""
    names = [kind.__name__ for kind in kinds] or None
    rows = await database.execute(
        "select position, ended, tenant_id, stream_id, version, type, state from app.event "
        "join (select append_id, max(position) from app.event group by append_id) "
        "as append (append_id, ended) using (append_id) "
        "where %(names)s::text[] is null or type = any(%(names)s) order by position",
        {"names": names},
    )
    return [
        Stored(position, ended, tenant, stream, version, name, decode(name, state))
        for position, ended, tenant, stream, version, name, state in await rows.fetchall()
    ]
