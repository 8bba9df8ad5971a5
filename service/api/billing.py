"""AI seconds: credits, balances, and the ledger of what was billed."""

from types import NoneType

from starlette.responses import Response

from domain.events import Json
from projections import accounts, consumption
from projections.accounts import ACCOUNTS
from projections.consumption import CONSUMPTION
from service.api import billing_schemas
from service.commands.accounts import credit
from service.eventlog.errors import AnswerMissing
from service.eventlog.store import END
from service.eventlog.transactions import Transaction
from service.http.call import Call
from service.http.operation import Operation, answered
from service.http.reads import fold_account, position_in, reading_at
from service.ids import new_id
from service.wire import LOG_POSITION, dumped


async def credit_account(call: Call[billing_schemas.CreditRequest, None]) -> Response:
    """Add seconds to a user's account; answers the balance with them."""
    asked = call.body
    credit_id = new_id()

    async def work(transaction: Transaction) -> Json:
        state = await credit(
            transaction,
            tenant_id=call.tenant_id,
            user_id=asked.user_id,
            credit_id=credit_id,
            seconds=asked.seconds,
            kind=asked.kind,
            reason=asked.reason,
        )
        return dumped(billing_schemas.balance(asked.user_id, state))

    answer, position = await call.transact(work)
    if answer is None:  # the same request was answered by a version that stored no answers
        raise AnswerMissing(headers={LOG_POSITION: str(position)})
    balance = billing_schemas.AccountAnswer.model_validate(answer)
    return answered(balance, position=position, status=201)


async def read_account(call: Call[None, billing_schemas.AccountQuery]) -> Response:
    """A user's balance."""
    asked, user_id = call.query, call.path["userId"]
    async with reading_at(call, ACCOUNTS.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await fold_account(connection, call, user_id)
        row = await accounts.account(connection, tenant_id=call.tenant_id, user_id=user_id)
    return answered(billing_schemas.account(row), position=position)


async def read_ledger(call: Call[None, billing_schemas.LedgerQuery]) -> Response:
    """A page of what a user was billed, newest first."""
    asked = call.query
    before = position_in(call, asked.before)
    async with reading_at(call, CONSUMPTION.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        await fold_account(connection, call, call.path["userId"])
        rows = await consumption.ledger(
            connection,
            tenant_id=call.tenant_id,
            user_id=call.path["userId"],
            before=END if before is None else before,
            limit=asked.limit,
        )
    return answered(billing_schemas.ledger(rows), position=position)


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/billing/credits",
        name="creditAccount",
        summary="Add AI seconds to a user's account.",
        scopes=("admin",),
        body=billing_schemas.CreditRequest,
        query=NoneType,
        answer=billing_schemas.AccountAnswer,
        status=201,
        problems=(400, 413, 415, 422),
        handle=credit_account,
    ),
    Operation(
        method="GET",
        path="/v1/billing/accounts/{userId}",
        name="getAccount",
        browsers=True,
        summary="A user's balance: credited, consumed, reserved, available.",
        scopes=("read", "admin"),
        body=NoneType,
        query=billing_schemas.AccountQuery,
        answer=billing_schemas.AccountAnswer,
        reads=(ACCOUNTS,),
        problems=(409, 422),
        handle=read_account,
    ),
    Operation(
        method="GET",
        path="/v1/billing/accounts/{userId}/consumption",
        name="getConsumption",
        browsers=True,
        summary="The ledger: each billed reply, newest first.",
        scopes=("read", "admin"),
        body=NoneType,
        query=billing_schemas.LedgerQuery,
        answer=billing_schemas.Ledger,
        reads=(CONSUMPTION,),
        problems=(409, 422),
        handle=read_ledger,
    ),
)
