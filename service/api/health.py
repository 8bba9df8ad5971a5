"""Liveness, readiness and metrics: open to everyone."""

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from projections.projection import status
from service.api.health_schemas import Health, ProjectionHealth, Readiness
from service.eventlog.errors import DATABASE_AWAY
from service.eventlog.store import head_cursor
from service.http import problems
from service.http.call import Service
from service.http.openapi import OpenPath
from service.ops import shared_metrics
from service.postgres.connections import service_transaction
from service.wire import BEGINNING, dumped, position_of


async def liveness(_: Request) -> Response:
    """The process answers."""
    return Response(orjson.dumps(dumped(Health())), media_type="application/json")


async def readiness(request: Request) -> Response:
    """Whether the database answers, how far the log is, and each read model.

    Without the messages of PostgreSQL, which can quote what is in an event.
    """
    service: Service = request.app.state.service
    try:
        async with service_transaction(service.pool) as connection:
            last = head_cursor()
            await last.send(connection)
            standings = await status(connection)
    except DATABASE_AWAY as error:
        return problems.problem(error)
    cursor = await last.row() or BEGINNING
    health = {
        each.name: ProjectionHealth.model_validate(
            {
                "state": each.state,
                "position": each.position,
                "lag": each.head - each.position,
                "set_aside": each.set_aside,
            }
        )
        for each in standings
    }
    halted = any(each.state == "halted" for each in standings)
    ready = Readiness(
        status="degraded" if halted else "ready",
        head=position_of(cursor),
        cursor=cursor,
        projections=health,
    )
    return Response(orjson.dumps(dumped(ready)), media_type="application/json")


async def metrics(_: Request) -> Response:
    """Counters and gauges in the text format of Prometheus."""
    return Response(shared_metrics.page(), headers={"Content-Type": CONTENT_TYPE_LATEST})


OPEN_PATHS = (
    OpenPath(
        path="/healthz",
        name="getHealth",
        summary="The process answers.",
        content={"application/json": Health},
    ),
    OpenPath(
        path="/readyz",
        name="getReadiness",
        summary="Whether the database answers, how far the log is, and each read model.",
        content={"application/json": Readiness},
        problems=(503,),
    ),
    OpenPath(
        path="/metrics",
        name="getMetrics",
        summary="Counters, gauges and histograms in the text format of Prometheus.",
        content={"text/plain": None},
    ),
)
