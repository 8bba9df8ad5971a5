"""`throughline analysts`: database roles that read one tenant's views."""

from functools import partial
from typing import Annotated

import typer

from service.cli.console import err, out
from service.cli.database import as_owner

app = typer.Typer(no_args_is_help=True, help="Who reads a tenant's views by SQL.")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="The database role to be made.")],
    tenant: Annotated[str, typer.Argument(help="Whose rows it sees.")],
) -> None:
    """Make a database role that reads a tenant's views, and print how to connect as it."""
    import psycopg

    from service.postgres.analysts import BadName, add_analyst

    try:
        out.print(as_owner(partial(add_analyst, name=name, tenant_id=tenant)))
    except (BadName, psycopg.errors.DuplicateObject) as error:
        err.print(f"throughline: {error}", markup=False)
        raise typer.Exit(2) from None


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="The analyst's role.")],
) -> None:
    """Take an analyst's role away."""
    from service.postgres.analysts import remove_analyst

    if not as_owner(partial(remove_analyst, name=name)):
        err.print(f"throughline: there is no analyst {name}.", markup=False)
        raise typer.Exit(2)
