"""Accounts: AI seconds that are added."""

from functools import partial

from domain.deciders import account
from domain.deciders.account import Account
from domain.events import CreditKind
from service.eventlog.stream_ids import account_stream
from service.eventlog.transactions import Transaction


async def credit(
    transaction: Transaction,
    *,
    tenant_id: str,
    user_id: str,
    credit_id: str,
    seconds: int,
    kind: CreditKind,
    reason: str | None,
) -> Account:
    """Add seconds to a user's account; returns the account with them."""
    decision = partial(
        account.credit,
        user_id=user_id,
        credit_id=credit_id,
        seconds=seconds,
        kind=kind,
        reason=reason,
    )
    stream = account_stream(tenant_id, user_id)
    await transaction.decide(stream, decision)
    return await transaction.load(stream)
