"""Estimates: what a message may cost, before it is sent."""

from types import NoneType

from starlette.responses import Response

from projections import accounts, analytics
from projections.accounts import ACCOUNTS
from projections.consumption import CONSUMPTION
from service.api import estimates_schemas
from service.http.call import Call
from service.http.operation import Operation, answered
from service.http.reads import reading_at, visible_project


async def read_estimates(call: Call[None, estimates_schemas.EstimateQuery]) -> Response:
    """The seconds of a reply by mode. Nothing is stored, and the model is not asked."""
    asked = call.query
    async with reading_at(call, ACCOUNTS.name, asked.min_position) as (connection, position):
        await visible_project(connection, call, asked.project_id, asked.user_id)
        past = await analytics.past_bills(
            connection,
            tenant_id=call.tenant_id,
            project_id=asked.project_id,
            user_id=asked.user_id,
        )
        available = None
        if asked.user_id is not None:
            row = await accounts.account(
                connection, tenant_id=call.tenant_id, user_id=asked.user_id
            )
            available = row.available_seconds
    return answered(estimates_schemas.estimates(past, available), position=position)


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/estimates",
        name="getEstimates",
        browsers=True,
        summary="What a message may cost by mode, and whether the balance allows it.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=estimates_schemas.EstimateQuery,
        answer=estimates_schemas.Estimates,
        reads=(ACCOUNTS, CONSUMPTION),
        problems=(404, 409, 422),
        handle=read_estimates,
    ),
)
