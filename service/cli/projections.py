"""`throughline projections`: the read models."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from service.cli.console import err, out
from service.cli.database import as_owner
from service.cli.events.progress import bars

if TYPE_CHECKING:
    from projections.projection import Projection

app = typer.Typer(no_args_is_help=True, help="The read models.")
Name = Annotated[str, typer.Argument(help="A read model's name, or `all`.")]


@app.command("status")
def print_status() -> None:
    """Show each read model's position and state, and the streams that it has set aside.

    Exit code 1 when a read model has halted or has set a stream aside.
    """
    from projections.projection import set_aside, status

    statuses, left_out = as_owner(status), as_owner(set_aside)
    table = Table("projection", "version", "position", "head", "state", "set aside", "why")
    for each in statuses:
        why = f"before {each.halted_before}: {each.halted_reason}" if each.halted_at else ""
        numbers = (str(each.version), str(each.position), str(each.head))
        table.add_row(each.name, *numbers, each.state, str(each.set_aside), why)
    out.print(table)
    for stream in left_out:
        where = f"{stream.projection}: {stream.tenant_id} {stream.stream_id}"
        out.print(f"{where} is left out from position {stream.position} on: {stream.reason}")
    if left_out or any(each.state == "halted" for each in statuses):
        raise typer.Exit(1)


@app.command("rebuild")
def rebuild_models(name: Name) -> None:
    """Rebuild a read model from the log while the service runs."""
    from projections.projection import rebuild

    for projection in _named(name):
        with _progress(projection.name) as progress:
            as_owner(partial(rebuild, projection=projection, progress=progress))
        out.print(f"{projection.name}: rebuilt from the log")


@app.command("verify")
def verify_models(name: Name = "all") -> None:
    """Compare read models with the log; exit code 1 when a read model differs."""
    from projections.projection import verify

    differing = 0
    for projection in _named(name):
        with _progress(projection.name) as progress:
            rows = as_owner(partial(verify, projection=projection, progress=progress))
        said = "agrees with the log" if rows == 0 else f"{rows} rows differ from the log"
        out.print(f"{projection.name}: {said}")
        differing += rows
    if differing:
        raise typer.Exit(1)


def _named(name: str) -> list["Projection"]:
    from projections import PROJECTIONS

    found = [each for each in PROJECTIONS if name in ("all", each.name)]
    if not found:
        known = ", ".join(each.name for each in PROJECTIONS)
        err.print(f"throughline: there is no read model {name}; known are {known}.")
        raise typer.Exit(2)
    return found


@contextmanager
def _progress(name: str) -> Generator[Callable[[int, int], None]]:
    """Print progress: a bar on a terminal, elsewhere a line for each step of a long log."""
    if not err.is_terminal:
        yield lambda at, head: err.print(f"{name}: read {at} of {head} events") if at else None
        return
    with bars() as bar:
        yield bar(name)
