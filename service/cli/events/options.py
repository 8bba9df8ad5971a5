"""The options that commands on the log share: which events, and from where to where."""

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.cli.console import err
from service.cli.past.times import time_of

if TYPE_CHECKING:
    from service.postgres.connections import Connection
    from service.replay.reading import EventFilter

Tenant = Annotated[str | None, typer.Option(help="Only events of this tenant.")]
Project = Annotated[str | None, typer.Option(help="Only events of this project.")]
Session = Annotated[str | None, typer.Option(help="Only events of this session.")]
Stream = Annotated[str | None, typer.Option(help="Only this stream. An example: account-acme-ada.")]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="Only events of this type. May be repeated.")
]
From = Annotated[
    str,
    typer.Option(
        "--from",
        help="The first event: a position, a time (2026-11-20T10:00Z), or how long ago (2h, 7d).",
    ),
]
To = Annotated[str, typer.Option("--to", help="The last event: a position, a time, or 2h ago.")]

_POSITION: Final = re.compile(r"[0-9]{1,18}")


def chosen(
    tenant: str | None,
    project: str | None,
    session: str | None,
    stream: str | None,
    types: list[str] | None,
) -> "EventFilter":
    """The filter of these options. Tells of a type that is unknown: it may be a typing error."""
    from domain.events import EVENT_TYPES
    from service.eventlog.stream_ids import session_stream
    from service.replay.reading import EventFilter

    for unknown in sorted({*(types or ())} - EVENT_TYPES.keys()):
        err.print(f"throughline: {unknown} is no type of this service's events.")
    if session is not None and stream is not None:
        raise typer.BadParameter("--session and --stream exclude each other")
    named = stream if session is None else str(session_stream(session))
    return EventFilter(
        tenant_id=tenant,
        project_id=project,
        stream_ids=None if named is None else (named,),
        types=tuple(types) if types else None,
    )


async def after_of(connection: "Connection", begin: str) -> int:
    """The position before the first event that `--from` names."""
    from projections.projection import head
    from service.replay.reading import since

    if _POSITION.fullmatch(begin):
        return max(0, int(begin) - 1)
    found = await since(connection, _moment("--from", begin))
    return await head(connection) if found is None else found - 1


async def upto_of(connection: "Connection", end: str) -> int:
    """The position of the last event that `--to` names. Empty is the end of the log."""
    from service.eventlog.store import END
    from service.replay.reading import since

    if not end:
        return END
    if _POSITION.fullmatch(end):
        return int(end)
    try:
        after = _moment("--to", end) + timedelta(microseconds=1)
    except OverflowError:  # the last moment that there is
        return END
    found = await since(connection, after)
    return END if found is None else found - 1


def _moment(option: str, text: str) -> datetime:
    """The time that an option says."""
    time = time_of(text)
    if time is None:
        raise typer.BadParameter(
            f"{option} {text}: give a position, a time such as 2026-11-20T10:00Z, or a span such"
            " as 2h"
        )
    return time
