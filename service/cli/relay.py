"""`throughline relay`: the log in a stream of NATS JetStream."""

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import err
from service.cli.database import database
from service.settings import Settings

if TYPE_CHECKING:
    from service.replay.jetstream import Address, Subjects
    from service.replay.reading import EventFilter


def relay(
    url: Annotated[
        str,
        typer.Argument(envvar="NATS_URL", help="The server: nats://host:4222 or tls://host:4222."),
    ],
    tenant: Annotated[str | None, typer.Option(help="Only events of this tenant.")] = None,
    stream: Annotated[
        str, typer.Option(help="The name of the stream. The relay creates a missing stream.")
    ] = "THROUGHLINE",
    subject: Annotated[
        str, typer.Option(help="The subject of an event, with {tenant} and {type}.")
    ] = "throughline.{tenant}.{type}",
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="The file of the checkpoint. By default it is in the data folder."),
    ] = None,
) -> None:
    """Publish the log to NATS JetStream as it grows, until Ctrl-C: each event once, in order."""
    from service.ops import logs
    from service.replay.jetstream import Address, Subjects
    from service.replay.reading import EventFilter

    if not url.startswith(("nats://", "tls://")):
        raise typer.BadParameter("the URL begins with nats:// or tls://")
    settings = Settings()
    logs.configure(settings.log_level)
    try:
        at, subjects = Address(url=url, stream=stream), Subjects(template=subject)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    file = checkpoint or settings.data_dir / f"relay-{stream}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with database(settings) as found:
        asyncio.run(_relay(found.direct_url, EventFilter(tenant_id=tenant), at, subjects, file))


async def _relay(
    url: str, chosen: "EventFilter", at: "Address", subjects: "Subjects", file: Path
) -> None:
    from service.eventlog.live import LiveLog
    from service.eventlog.store import EventStore
    from service.postgres import connections
    from service.replay.delivery import CheckpointFile
    from service.replay.jetstream import Feed
    from service.replay.relay import Relay

    async with connections.pool(url) as pool:
        store = EventStore(pool)
        selection = "all tenants" if chosen.tenant_id is None else f"tenant {chosen.tenant_id}"
        feed = Feed(selection=selection, subjects=subjects)
        kept = CheckpointFile(file, url=at.described, selection=selection)
        live_log = LiveLog(store)
        relay = Relay(store, live_log, chosen, at, feed, kept)
        err.print(f"{at.described}: {selection}. Ctrl-C ends the relay.")
        listening = asyncio.create_task(live_log.run(partial(connections.connect, url)))
        try:
            await relay.run()
        finally:
            listening.cancel()
