"""`throughline migrate`."""

import asyncio

from service.cli.console import out
from service.cli.database import bring_up_to_date, database
from service.settings import Settings


def migrate() -> None:
    """Bring the database and its read models to this version."""
    with database(Settings()) as found:
        changed = asyncio.run(bring_up_to_date(found.direct_url))
    out.print(f"{found.described}: {'done' if changed else 'up to date'}")
