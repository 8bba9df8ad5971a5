"""Checks that every read model equals a fold of the log, row for row."""

from functools import partial
from typing import Final

from projections import PROJECTIONS
from projections.projection import Projection, status, verify
from scripts.prove.check import Check, Found, changed
from scripts.prove.observed import Observed
from service.postgres.connections import Connection


async def _verified(_: Observed, database: Connection, projection: Projection) -> Found:
    rows = await (
        await database.execute(f"select count(*) from app.{projection.name}".encode())
    ).fetchone()
    differing = await verify(database, projection)
    breaches = [f"{differing} rows differ"] if differing else []
    breaches += [
        f"it is {each.state}: {each.halted_reason}"
        for each in await status(database)
        if each.name == projection.name and each.state != "live"
    ]
    return Found(rows[0] if rows else 0, breaches)


CHECKS: Final = tuple(
    Check(
        name=f"the read model {projection.name} is what the log says",
        find=partial(_verified, projection=projection),
        damage=changed(
            f"delete from app.{projection.name} "
            f"where ctid = (select min(ctid) from app.{projection.name})"
        ),
    )
    for projection in PROJECTIONS
)
