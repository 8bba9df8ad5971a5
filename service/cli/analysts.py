"""`throughline analysts`: database roles that read one tenant's views."""

from functools import partial
from typing import Annotated

import typer

from service.cli.console import err, out
from service.cli.database import as_owner

app = typer.Typer(no_args_is_help=True, help="Roles that read a tenant's views by SQL.")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="The name of the new database role.")],
    tenant: Annotated[str, typer.Argument(help="The tenant whose rows the role sees.")],
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
    """Remove an analyst's role."""
    from service.postgres.analysts import remove_analyst

    if not as_owner(partial(remove_analyst, name=name)):
        err.print(f"throughline: there is no analyst {name}.", markup=False)
        raise typer.Exit(2)
