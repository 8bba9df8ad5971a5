"""`throughline migrate`."""

import asyncio
from functools import partial
from typing import Annotated

import typer

from service.cli.console import out
from service.cli.database import as_owner, bring_up_to_date, database
from service.settings import Settings


def migrate() -> None:
    """Bring the database and its read models to this version."""
    with database(Settings()) as found:
        changed = asyncio.run(bring_up_to_date(found.direct_url))
    out.print(f"{found.described}: {'done' if changed else 'up to date'}")


def roles(
    prefix: Annotated[
        str, typer.Argument(help="What the names begin with, before _service, _tenant, _analyst.")
    ] = "throughline",
) -> None:
    """Make the database roles that a backup names, before it is restored on another server."""
    from service.postgres.roles import create

    made = as_owner(partial(create, name=prefix))
    out.print(f"created {', '.join(made)}" if made else "the roles are there")
