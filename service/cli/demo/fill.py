"""`throughline demo fill`: a year of a plausible product in an empty database, to try things on."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.cli.console import out
from service.cli.database import as_owner_of, bring_up_to_date, database
from service.cli.events.progress import bars
from service.settings import Settings

if TYPE_CHECKING:
    from service.postgres.connections import Connection

_NOT_EMPTY: Final = (
    "The database has other events, and the demo fills an empty one alone: its events are of the"
    " past. Name an empty database in THROUGHLINE_DATABASE_URL, or an empty folder in"
    " THROUGHLINE_DATA_DIR."
)

app = typer.Typer(no_args_is_help=True, help="Data to try things on.")


@app.callback()
def _group() -> None:
    """Let `fill` be a command of its own name."""


@app.command("fill")
def fill(
    messages: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="How many messages users send.")
    ] = 100_000,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="The same seed makes the same events.")
    ] = 0,
    days: Annotated[
        int, typer.Option(min=1, max=365, help="The days that it takes, from 2025-01-01 on.")
    ] = 365,
) -> None:
    """Fill an empty database with a year of a plausible product: the tenant `demo` in 2025.

    The settings name the database. Nobody else may write to it meanwhile. After a cut, the same
    command goes on.
    """
    from service.access.keys import TENANT
    from service.cli.demo.year import Year
    from service.replay.importing import AnotherLog, import_entries, rebuild_read_models

    year = Year(TENANT, seed=seed, messages=messages, days=days)

    async def work(owner: "Connection") -> None:
        with bars() as bar:
            sending = bar("messages")
            try:
                done = await import_entries(
                    owner, year.entries(), lambda _at, _end: sending(year.sent, messages)
                )
            except AnotherLog:
                raise AnotherLog(_NOT_EMPTY) from None
            await rebuild_read_models(owner, bar)
        known = f", {done.known} were in the log already" if done.known else ""
        out.print(f"{messages} messages: {done.stored} events stored{known}")
        out.print("all read models rebuilt from the log")
        out.print(f"Next: throughline analysts add NAME {TENANT}")

    with database(Settings()) as found:
        asyncio.run(bring_up_to_date(found.direct_url))
        asyncio.run(as_owner_of(found.direct_url, work))
