"""`throughline events tail`: the newest events, and each event that comes."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.database import database
from service.cli.events import options
from service.cli.events.output import Format, Printer
from service.settings import Settings

if TYPE_CHECKING:
    from service.eventlog.live import LiveLog
    from service.postgres.connections import Connection
    from service.replay.reading import EventFilter


def tail(
    begin: options.From = "",
    newest: Annotated[
        int, typer.Option("-n", min=0, max=100_000, help="Begin with so many of the newest events.")
    ] = 10,
    follow: Annotated[bool, typer.Option(help="Go on with events as they happen.")] = True,
    tenant: options.Tenant = None,
    project: options.Project = None,
    session: options.Session = None,
    stream: options.Stream = None,
    types: options.Types = None,
    form: Format = None,
) -> None:
    """Print the newest events, and events as they happen, until Ctrl-C."""
    wanted = options.chosen(tenant, project, session, stream, types)
    with database(Settings()) as found:
        asyncio.run(_tail(found.direct_url, wanted, begin, newest, form, follow=follow))


async def _tail(
    url: str, wanted: "EventFilter", begin: str, newest: int, form: Format, *, follow: bool
) -> None:
    from service.eventlog.live import LiveLog
    from service.eventlog.store import EventStore
    from service.postgres import connections

    async with connections.pool(url) as pool:
        store = EventStore(pool)
        async with await connections.connect(url, as_service=False) as owner:
            after = await _beginning(owner, wanted, begin, newest)
            printer = await _printer(owner, wanted, after, form)
            after = await _print_stored(owner, wanted, after, printer)
        if follow:
            live_log = LiveLog(store)
            connect = partial(connections.connect, url)
            listening = asyncio.create_task(live_log.run(connect))
            try:
                await print_live(live_log, wanted, after, printer)
            finally:
                listening.cancel()


async def _beginning(owner: "Connection", wanted: "EventFilter", begin: str, newest: int) -> int:
    """The position after which the tail begins."""
    from projections.projection import head
    from service.replay import reading
    from service.wire import position_of

    if begin:
        return await options.after_of(owner, begin)
    if newest == 0:
        return await head(owner)
    cursors = await reading.newest(owner, wanted, count=newest)
    return position_of(cursors[-1]) - 1 if cursors else 0


async def _printer(owner: "Connection", wanted: "EventFilter", after: int, form: Format) -> Printer:
    from service.replay.reading import newest

    before = await newest(owner, wanted, upto=after, count=1)
    return Printer(form, before[0] if before else None)


async def _print_stored(
    owner: "Connection", wanted: "EventFilter", after: int, printer: Printer
) -> int:
    """Print what the log has; returns the position up to which it was read."""
    from projections.projection import head
    from service.replay.reading import page

    upto = await head(owner)
    while entries := await page(owner, wanted, after=after, upto=upto):
        printer.print_entries(entries)
        after = entries[-1].event.position
    return max(after, upto)


async def print_live(
    live_log: "LiveLog", wanted: "EventFilter", after: int, printer: Printer
) -> None:
    """Print the chosen events after a position, as they happen, without end."""
    async for events in live_log.follow(after):
        printer.print_events([event for event in events if wanted.takes(event)])
