"""What accounts and their ledger take and answer."""

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from domain.deciders.account import Account
from domain.events import CreditKind
from projections.accounts import AccountRow
from projections.consumption import ConsumptionRow
from service.api.schemas import BalanceQuery, PageSize
from service.wire import Cursor, Moment, PathId, Text, Wire, usd

MOST_SECONDS: Final = 1_000_000_000


class CreditRequest(Wire):
    """AI seconds to be added to a user's account."""

    user_id: PathId
    seconds: Annotated[int, Field(ge=1, le=MOST_SECONDS)]
    kind: CreditKind
    reason: Annotated[Text, Field(max_length=500)] | None = None


class AccountQuery(BalanceQuery):
    """The balance now, or with `asOf` at an earlier moment."""

    as_of: Moment | None = None


class LedgerQuery(BalanceQuery):
    """A page of the ledger, newest first."""

    as_of: Moment | None = None
    limit: PageSize = 20
    before: Cursor | None = None


class AccountAnswer(Wire):
    """Whole AI seconds; available = credited - consumed - reserved."""

    user_id: str
    credited_seconds: int
    bonus_seconds: int
    consumed_seconds: int
    reserved_seconds: int
    available_seconds: int


class LedgerEntry(Wire):
    """One billed reply or build. Tokens and cost are absent where the provider did not say.

    `bonusSeconds` of the billed seconds were paid with bonus credits, which are used first. Of a
    build, `messageId` is the message that asked for it, and `model` is `worker`.
    """

    cursor: str
    project_id: str
    session_id: str
    message_id: str
    build_id: str | None = None
    operation_type: str
    billed_seconds: int
    bonus_seconds: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_usd: str | None = None
    prices: str
    model: str
    timestamp: datetime


class Ledger(Wire):
    """A page of the ledger, newest first; `before` leads to older entries."""

    items: list[LedgerEntry]
    before: str | None = None


def account(row: AccountRow) -> AccountAnswer:
    """A user's balance."""
    return AccountAnswer.model_validate(row, from_attributes=True)


def balance(user_id: str, state: Account) -> AccountAnswer:
    """A user's balance, as the account's events give it."""
    return AccountAnswer(
        user_id=user_id,
        credited_seconds=state.credited,
        bonus_seconds=state.bonus,
        consumed_seconds=state.consumed,
        reserved_seconds=state.reserved,
        available_seconds=state.available,
    )


def ledger(rows: list[ConsumptionRow]) -> Ledger:
    """A page of the ledger with its cursor."""
    items = [
        LedgerEntry(
            cursor=row.cursor,
            project_id=row.project_id,
            session_id=row.session_id,
            message_id=row.reply_id,
            build_id=row.build_id,
            operation_type=row.operation_type,
            billed_seconds=row.billed_seconds,
            bonus_seconds=row.bonus_seconds,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            cache_read_tokens=row.cache_read_tokens,
            cache_write_tokens=row.cache_write_tokens,
            cost_usd=None if row.cost_usd is None else usd(row.cost_usd),
            prices=row.prices,
            model=row.model,
            timestamp=row.recorded_at,
        )
        for row in rows
    ]
    return Ledger(items=items, before=items[-1].cursor if items else None)
