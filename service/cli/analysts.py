"""`throughline analysts`: database roles that read one tenant's views."""

from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from service.cli.console import err, out
from service.cli.database import as_owner
from service.cli.events.progress import bars
from service.settings import Settings

if TYPE_CHECKING:
    from service.postgres.analysts import Login
    from service.postgres.connections import Connection

_NO_ANALYST: Final = "There is no analyst. Add one: throughline analysts add NAME TENANT"

app = typer.Typer(help="Roles that read a tenant's views by SQL, and files with the same rows.")


@app.callback(invoke_without_command=True)
def connect(context: typer.Context) -> None:
    """Print how the analysts of this database connect, without their passwords."""
    if context.invoked_subcommand is not None:
        return
    from service.postgres.analysts import analysts, login_of

    async def lines(owner: "Connection") -> list[str]:
        names = [name for name, _ in await analysts(owner)]
        return [line for name in names for line in login_of(owner, name).lines]

    for line in as_owner(lines) or [_NO_ANALYST]:
        out.print(line)


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="The name of the new database role.")],
    tenant: Annotated[str, typer.Argument(help="The tenant whose rows the role sees.")],
) -> None:
    """Make a database role that reads a tenant's views, and print how to connect as it."""
    import psycopg

    from service.access.keys import known_keys
    from service.postgres.analysts import BadName, UnknownTenant, add_analyst

    known = {key.tenant for key in known_keys(Settings()).values()}
    try:
        _print(as_owner(partial(add_analyst, name=name, tenant_id=tenant, known=known)))
    except (BadName, UnknownTenant, psycopg.errors.DuplicateObject) as error:
        err.print(f"throughline: {error}")
        raise typer.Exit(2) from None


@app.command("list")
def print_list() -> None:
    """List the analysts with their tenants."""
    from service.postgres.analysts import analysts

    table = Table("analyst", "tenant")
    for name, tenant in as_owner(analysts):
        table.add_row(name, tenant)
    out.print(table)


@app.command("password")
def change_password(
    name: Annotated[str, typer.Argument(help="The analyst's role.")],
) -> None:
    """Give an analyst a new password, and print how to connect. The old password ends at once."""
    from service.postgres.analysts import UnknownAnalyst, new_password

    try:
        _print(as_owner(partial(new_password, name=name)))
    except UnknownAnalyst as error:
        err.print(f"throughline: {error}")
        raise typer.Exit(2) from None


def _print(login: "Login") -> None:
    for line in login.lines:
        out.print(line)


@app.command("export")
def export_views(
    tenant: Annotated[str, typer.Argument(help="The tenant whose rows the files have.")],
    folder: Annotated[Path, typer.Argument(help="The new folder.")],
) -> None:
    """Write each view of a tenant to a Parquet file, as of one moment, while the service runs."""
    from service.postgres.analysts import UnknownTenant, require_events
    from service.replay.view_files import NAMES, VIEWS, write_views

    if folder.exists():
        raise typer.BadParameter(f"{folder} exists. Name another folder")

    async def work(owner: "Connection") -> int:
        await require_events(owner, tenant)
        with bars() as bar:
            return await write_views(owner, beside, tenant, bar("views"), will_be=folder)

    beside = folder.with_name(f"{folder.name}.part")
    rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700, parents=True)
    try:
        rows = as_owner(work)
        beside.rename(folder)
    except UnknownTenant as error:
        err.print(f"throughline: {error}")
        raise typer.Exit(2) from None
    finally:
        rmtree(beside, ignore_errors=True)
    err.print(f"{folder}: {rows} rows of {len(VIEWS)} views; {folder / NAMES} is for DuckDB")


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="The analyst's role.")],
) -> None:
    """Remove an analyst's role."""
    from service.postgres.analysts import remove_analyst

    if not as_owner(partial(remove_analyst, name=name)):
        err.print(f"throughline: there is no analyst {name}.")
        raise typer.Exit(2)
