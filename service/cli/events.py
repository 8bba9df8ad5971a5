"""`throughline events`: the log."""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, Final

import typer

from service.cli.console import err
from service.cli.database import database
from service.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The log.")
_LAST: Final = 2**63 - 1


@app.callback()
def begin() -> None:
    """The log."""
    # psycopg warns of every statement after the statement that failed.
    logging.getLogger("psycopg").setLevel(logging.ERROR)


@app.command("tail")
def print_tail(
    after: Annotated[int, typer.Option(help="Begin after this position; -1 is now.")] = -1,
) -> None:
    """Print events as they happen, one JSON object a line, until Ctrl-C."""

    async def tail(direct_url: str) -> None:
        from service.eventlog.live import LiveLog
        from service.postgres import connections

        async with _reading(direct_url) as store:
            live_log = LiveLog(store)
            listening = asyncio.create_task(live_log.run(partial(connections.connect, direct_url)))
            try:
                async for page in live_log.follow(await store.head() if after < 0 else after):
                    _print_events(page)
            finally:
                listening.cancel()

    with database(Settings()) as found:
        asyncio.run(tail(found.direct_url))


@app.command("replay")
def print_all(
    after: Annotated[int, typer.Option(help="Begin after this position.")] = 0,
    upto: Annotated[int, typer.Option(help="End with this position.")] = _LAST,
) -> None:
    """Print all events so far, in order, one JSON object a line."""

    async def replay(direct_url: str) -> None:
        async with _reading(direct_url) as store:
            async for page in store.replay(after=after, upto=upto):
                _print_events(page)

    with database(Settings()) as found:
        asyncio.run(replay(found.direct_url))


@app.command("export")
def export_tenant(
    tenant: Annotated[str, typer.Argument(help="The tenant whose events are printed.")],
    after: Annotated[int, typer.Option(help="Begin after this position.")] = 0,
) -> None:
    """Print a tenant's events so far as CloudEvents, one a line.

    Exit code 2 for a tenant without any event.
    """

    async def export(direct_url: str) -> bool:
        from service.eventlog.cloudevents import cloud_event
        from service.eventlog.heavy_reads import HeavyReads
        from service.eventlog.store import EventStore
        from service.eventlog.tenant_feed import Selection, TenantFeed, chained
        from service.postgres import connections

        async with connections.pool(direct_url) as pool:
            log_epoch = await EventStore(pool).log_epoch()
            feed = TenantFeed(pool, Selection(tenant_id=tenant), HeavyReads())
            if await feed.last(_LAST) is None:
                return False
            prev = await feed.last(after)
            async for page in feed.whole(after):
                for event, before in chained(page, prev):
                    sys.stdout.buffer.write(cloud_event(event, log_epoch, before) + b"\n")
                prev = page[-1].position if page else prev
        sys.stdout.buffer.flush()
        return True

    with database(Settings()) as found:
        if not asyncio.run(export(found.direct_url)):
            err.print(f"throughline: the log has no event of a tenant {tenant}.", markup=False)
            raise typer.Exit(2)


@asynccontextmanager
async def _reading(direct_url: str) -> AsyncGenerator[Any]:
    from service.eventlog.store import EventStore
    from service.postgres import connections

    async with connections.pool(direct_url) as pool:
        yield EventStore(pool)


def _print_events(page: list[Any]) -> None:
    import orjson

    for event in page:
        line = {
            "position": event.position,
            "tenant": event.tenant_id,
            "stream": event.stream_id,
            "version": event.version,
            "type": event.type,
            "recordedAt": event.recorded_at,
            "projectId": event.project_id,
            "state": orjson.Fragment(event.state),
            "metadata": orjson.Fragment(event.metadata),
        }
        sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()
