"""The balance of each user's AI seconds."""

from dataclasses import dataclass
from typing import Final

from psycopg.rows import class_row

from domain.events import ReservationReleased, TimeConsumed, TimeCredited, TimeReserved
from projections.projection import Connection, Projection

ACCOUNTS: Final = Projection(
    name="accounts",
    version=2,
    rules="7f12ce7d",
    views=("user_ai_time_balance",),
    handles=(TimeCredited, TimeReserved, TimeConsumed, ReservationReleased),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """Whole AI seconds; available = credited - consumed - reserved."""

    user_id: str
    credited_seconds: int = 0
    bonus_seconds: int = 0
    consumed_seconds: int = 0
    reserved_seconds: int = 0
    available_seconds: int = 0


async def account(connection: Connection, *, tenant_id: str, user_id: str) -> AccountRow:
    """The user's account. An account without any credit has zeros."""
    async with connection.cursor(row_factory=class_row(AccountRow)) as cursor:
        await cursor.execute(
            ACCOUNTS.statements["of_user"], {"tenant_id": tenant_id, "user_id": user_id}
        )
        return await cursor.fetchone() or AccountRow(user_id=user_id)
