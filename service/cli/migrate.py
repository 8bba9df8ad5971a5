"""`throughline migrate`."""

import asyncio

from service.cli.database import bring_up_to_date, database
from service.settings import Settings


def migrate() -> None:
    """Bring the database and its read models to this version."""
    with database(Settings()) as (_, direct_url):
        asyncio.run(bring_up_to_date(direct_url))
