"""`throughline events replay`: stored events again, to stdout or to another system over HTTP."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.calls import chosen_key
from service.cli.console import err
from service.cli.database import as_owner
from service.cli.events import options
from service.cli.events.output import Format, Printer
from service.cli.events.progress import bars
from service.settings import Settings

if TYPE_CHECKING:
    from service.eventlog.store import Recorded
    from service.postgres.connections import Connection
    from service.replay.delivery import CheckpointFile, Target
    from service.replay.pace import Pace
    from service.replay.reading import EventFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What to replay, how fast, and to where."""

    chosen: "EventFilter"
    begin: str
    end: str
    pace: "Pace"
    form: Format
    target: "Target | None"
    checkpoint: Path | None


def replay(
    begin: options.From = "1",
    end: options.To = "",
    tenant: options.Tenant = None,
    project: options.Project = None,
    session: options.Session = None,
    stream: options.Stream = None,
    types: options.Types = None,
    speed: Annotated[
        str, typer.Option(help="original, a factor such as 10x, or max: without pauses.")
    ] = "max",
    form: Format = None,
    url: Annotated[
        str, typer.Option(help="POST the events as batches of CloudEvents to this address.")
    ] = "",
    key: Annotated[
        str, typer.Option(help="The id of the key that signs. By default the first key.")
    ] = "",
    checkpoint: Annotated[
        Path | None, typer.Option(help="A file that keeps how far --url has come.")
    ] = None,
) -> None:
    """Print stored events in order, or send them to another system."""
    from service.replay.pace import Pace, factor_of

    try:
        pace = Pace(factor_of(speed))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if checkpoint is not None and not url:
        raise typer.BadParameter("--checkpoint needs --url")
    asked = _Asked(
        chosen=options.chosen(tenant, project, session, stream, types),
        begin=begin,
        end=end,
        pace=pace,
        form=form,
        target=_target(url, key) if url else None,
        checkpoint=checkpoint,
    )

    async def work(owner: "Connection") -> None:
        await _replay(owner, asked)

    as_owner(work)


def _target(url: str, key: str) -> "Target":
    from service.replay.delivery import Target

    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter("--url must begin with http:// or https://")
    key_id, found = chosen_key(Settings(), key)
    return Target(url=url, key_id=key_id, secret=found.secret.get_secret_value())


async def _replay(owner: "Connection", asked: _Asked) -> None:
    from projections.projection import head
    from service.replay.reading import newest
    from service.wire import position_of

    after = await options.after_of(owner, asked.begin)
    upto = min(await options.upto_of(owner, asked.end), await head(owner))
    kept = _checkpoint_file(asked)
    taken = None if kept is None else await kept.require_in(owner)
    if taken is not None:
        after = max(after, position_of(taken))
    before = await newest(owner, asked.chosen, upto=after, count=1)
    prev = before[0] if before else None
    if asked.target is None:
        await _print(owner, asked, after, upto, Printer(asked.form, prev))
    else:
        await _send(owner, asked, asked.target, after, upto, prev, kept)


def _checkpoint_file(asked: _Asked) -> "CheckpointFile | None":
    from service.replay.delivery import CheckpointFile

    if asked.checkpoint is None or asked.target is None:
        return None
    return CheckpointFile(
        asked.checkpoint,
        url=asked.target.url,
        selection=str(asked.chosen),
    )


async def _print(
    owner: "Connection", asked: _Asked, after: int, upto: int, printer: Printer
) -> None:
    """No transaction is open between two reads, however slow the replay is."""
    from service.replay.reading import due

    while entries := await due(owner, asked.chosen, asked.pace, after=after, upto=upto):
        printer.print_entries(entries)
        after = entries[-1].event.position


async def _send(
    owner: "Connection",
    asked: _Asked,
    target: "Target",
    after: int,
    upto: int,
    prev: str | None,
    kept: "CheckpointFile | None",
) -> None:
    from service.replay.delivery import BATCH_EVENTS, Delivery, client
    from service.replay.reading import due
    from service.wire import position_of

    async def read(after: int) -> list["Recorded"]:
        bounds = {"after": after, "upto": upto, "limit": BATCH_EVENTS}
        return [each.event for each in await due(owner, asked.chosen, asked.pace, **bounds)]

    with bars() as bar:
        sent = bar("events")

        def on_taken(cursor: str, _: int) -> None:
            if kept is not None:
                kept.reach(cursor)
            sent(position_of(cursor) - after, upto - after)

        async with client() as http:
            delivery = Delivery(http, target)
            total = await delivery.send_all(read, after, prev, on_taken)
    err.print(f"{target.url}: {total} events taken")
