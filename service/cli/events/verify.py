"""`throughline events verify`: whether the log and the read models are as they must be."""

from typing import TYPE_CHECKING

import typer

from service.cli.console import out
from service.cli.database import as_owner
from service.cli.events.progress import bars

if TYPE_CHECKING:
    from service.postgres.connections import Connection


def verify() -> None:
    """Check the log and compare every read model with it; exit code 1 where a fault was found.

    Positions and the versions of streams have no gaps. The events of an append stand together.
    Erased texts are gone. Events can be read. Each read model is what a rebuild would make.

    The command has no filters: it always checks the events of all tenants, because positions and
    read models belong to all of them.
    """
    if as_owner(_verify):
        raise typer.Exit(1)


async def _verify(owner: "Connection") -> int:
    """Print each check; returns the number of checks that found a fault."""
    from service.replay.verification import checks

    faulty = 0
    with bars() as bar:
        async for check in checks(owner, bar):
            bar.clear()
            out.print(f"{check.name}: {'wrong' if check.faults else 'right'}")
            for fault in check.faults:
                out.print(f"  {fault}")
            faulty += bool(check.faults)
    return faulty
