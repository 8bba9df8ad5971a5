"""The ledger of billed replies and builds."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from psycopg.rows import class_row
from psycopg.types.numeric import Int8

from domain.events import TimeConsumed
from projections.projection import Connection, Projection

CONSUMPTION: Final = Projection(
    name="consumption",
    version=5,
    rules="a96255d2",
    views=("user_ai_time_consumption",),
    handles=(TimeConsumed,),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumptionRow:
    """A billed reply or build. Tokens and cost are None where the provider sent no numbers. For a
    build, `reply_id` is the message that asked for it."""

    position: int
    project_id: str
    session_id: str
    reply_id: str
    build_id: str | None
    operation_type: str
    billed_seconds: int
    bonus_seconds: int | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cost_usd: Decimal | None
    prices: str
    model: str
    recorded_at: datetime
    cursor: str


async def ledger(
    connection: Connection, *, tenant_id: str, user_id: str, before: int, limit: int
) -> list[ConsumptionRow]:
    """The user's billed replies and builds before a position, newest first."""
    async with connection.cursor(row_factory=class_row(ConsumptionRow)) as cursor:
        await cursor.execute(
            CONSUMPTION.statements["page"],
            {
                "tenant_id": tenant_id,
                "user_id": user_id,
                "before": Int8(before),
                "limit": limit,
            },
        )
        return await cursor.fetchall()
