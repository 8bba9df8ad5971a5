"""The tenant's log as CloudEvents, for consumers: pages, lines, or a live stream."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from types import NoneType
from typing import Final

import orjson
from starlette.responses import Response

from domain.events import EVENT_TYPES
from service import wire
from service.api import events_schemas
from service.eventlog.cloudevents import cloud_event
from service.eventlog.store import Recorded
from service.eventlog.tenant_feed import Selection, TenantFeed, chained
from service.http.call import AnyCall, Call
from service.http.operation import Operation
from service.http.problems import BadRequest
from service.http.reads import come_to, position_in
from service.http.sse_response import (
    EVENT_STREAM,
    LINES,
    SEND_SECONDS,
    EventStream,
    LineStream,
    pieces,
)
from service.ops.metrics import RESUMES
from service.replies import events, sse

PAGE: Final = 100
"""Events of a page where no limit is given."""


async def read_events(call: Call[None, events_schemas.EventsQuery]) -> Response:
    """The events after a cursor, in order, in the form that the client accepts."""
    asked = call.query
    streams = call.accepts(EVENT_STREAM)
    resumed = call.last_event_id if streams else None
    after = position_in(resumed or asked.after, call.service.log_epoch) or 0
    log = TenantFeed(call.service.pool, _selection(call), call.service.heavy_reads)
    async with call.reading() as connection:
        head = await come_to(connection, after)
    prev = await log.last(after)
    headers = {"X-Log-Position": str(head)}
    if streams:
        if resumed:
            RESUMES.labels("events").inc()
        events = log.live(call.service.live_log, after)
        frames = call.service.merged_streams.merge(_encoded(events, prev, call, _frame))
        return EventStream(frames, headers, grace_seconds=SEND_SECONDS)
    if call.accepts(LINES):
        lines = _encoded(log.whole(after, asked.limit), prev, call, _line)
        return LineStream(lines, headers)
    return Response(
        await _page(call, log, after, prev), headers=headers, media_type="application/json"
    )


def _selection(call: Call[object, events_schemas.EventsQuery]) -> Selection:
    asked = call.query
    if unknown := set(asked.types or ()) - EVENT_TYPES.keys():
        known = ", ".join(EVENT_TYPES)
        detail = f"{len(unknown)} of these types are not known. Known are {known}."
        raise BadRequest(422, "unknown_event_type", detail)
    return Selection(
        tenant_id=call.tenant_id,
        project_id=asked.project_id,
        types=None if asked.types is None else tuple(asked.types),
    )


async def _page(
    call: Call[object, events_schemas.EventsQuery], log: TenantFeed, after: int, prev: int | None
) -> bytes:
    asked = call.query
    log_epoch = call.service.log_epoch
    page = await log.page(after, asked.limit or PAGE)
    events = [cloud_event(event, log_epoch, before) for event, before in chained(page.events, prev)]
    body = {
        "events": [orjson.Fragment(event) for event in events],
        "after": wire.cursor(log_epoch, page.upto),
        "hasMore": page.has_more,
    }
    return orjson.dumps(body)


Encode = Callable[[Recorded, str, int | None], bytes]


async def _encoded(
    pages: AsyncGenerator[list[Recorded]], prev: int | None, call: AnyCall, encode: Encode
) -> AsyncGenerator[bytes]:
    """Pages of events as bytes; `prev` is the position of the one before the first."""
    async with aclosing(pages):
        async for events in pages:
            for piece in pieces(_each(events, prev, call.service.log_epoch, encode)):
                yield piece
            prev = events[-1].position if events else prev


def _each(
    events: Iterable[Recorded], prev: int | None, log_epoch: str, encode: Encode
) -> Iterator[bytes]:
    return (encode(event, log_epoch, before) for event, before in chained(events, prev))


def _line(event: Recorded, log_epoch: str, prev: int | None) -> bytes:
    return cloud_event(event, log_epoch, prev) + b"\n"


def _frame(event: Recorded, log_epoch: str, prev: int | None) -> bytes:
    encoded = orjson.Fragment(cloud_event(event, log_epoch, prev))
    return sse.encode("event", encoded, wire.cursor(log_epoch, event.position))


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/events",
        name="readEvents",
        summary="The tenant's events as CloudEvents: a page, lines, or a live stream, by Accept.",
        scopes=("read", "admin"),
        body=NoneType,
        query=events_schemas.EventsQuery,
        answer=events_schemas.EventsPage,
        streams=True,
        events={"event": events_schemas.CloudEvent, "goaway": events.GoAway},
        lines=events_schemas.CloudEvent,
        problems=(409, 422),
        handle=read_events,
    ),
)
