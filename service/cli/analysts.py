"""`throughline analysts`: database roles that read one tenant's views."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from service.cli.console import err, out
from service.cli.database import as_owner
from service.settings import Settings

if TYPE_CHECKING:
    from service.postgres.analysts import Login

app = typer.Typer(no_args_is_help=True, help="Roles that read a tenant's views by SQL.")


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
        err.print(f"throughline: {error}", markup=False)
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
    """Give an analyst a new password, and print how to connect. The former one ends at once."""
    from service.postgres.analysts import UnknownAnalyst, new_password

    try:
        _print(as_owner(partial(new_password, name=name)))
    except UnknownAnalyst as error:
        err.print(f"throughline: {error}", markup=False)
        raise typer.Exit(2) from None


def _print(login: "Login") -> None:
    out.print(f'psql "{login.conninfo}"')
    out.print(login.url)


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="The analyst's role.")],
) -> None:
    """Remove an analyst's role."""
    from service.postgres.analysts import remove_analyst

    if not as_owner(partial(remove_analyst, name=name)):
        err.print(f"throughline: there is no analyst {name}.", markup=False)
        raise typer.Exit(2)
