"""The tenant's log as CloudEvents, for consumers: pages, lines, or a live stream."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from types import NoneType
from typing import Final

import orjson
from starlette.responses import Response

from domain.events import EVENT_TYPES
from projections.projection import head
from service.api import events_schemas
from service.eventlog.cloudevents import cloud_event
from service.eventlog.store import Recorded, lost_cursors
from service.eventlog.tenant_feed import Selection, TenantFeed, chained
from service.http.call import Call
from service.http.operation import Operation
from service.http.problems import BadRequest
from service.http.reads import position_in, require_none_lost
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
from service.wire import LOG_POSITION

PAGE: Final = 100
"""Events of a page where no limit is given."""


async def read_events(call: Call[None, events_schemas.EventsQuery]) -> Response:
    """The events after a cursor, in order, in the form that the client accepts."""
    asked = call.query
    streams = call.accepts(EVENT_STREAM)
    resumed = call.last_event_id if streams else None
    after = position_in(call, resumed or asked.after) or 0
    log = TenantFeed(call.service.pool, _selection(call), call.service.heavy_reads)
    lost = lost_cursors(call.cursors)
    async with call.reading() as connection:
        await lost.send(connection)
        at = await head(connection)
    require_none_lost(await lost.rows())
    prev = await log.last(after)
    headers = {LOG_POSITION: str(at)}
    if streams:
        if resumed:
            RESUMES.labels("events").inc()
        events = log.live(call.service.live_log, after)
        frames = call.service.merged_streams.merge(_encoded(events, prev, _frame))
        return EventStream(frames, headers, grace_seconds=SEND_SECONDS)
    if call.accepts(LINES):
        lines = _encoded(log.whole(after, asked.limit), prev, _line)
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
    call: Call[object, events_schemas.EventsQuery], log: TenantFeed, after: int, prev: str | None
) -> bytes:
    asked = call.query
    page = await log.page(after, asked.limit or PAGE)
    events = [cloud_event(event, before) for event, before in chained(page.events, prev)]
    body = {
        "events": [orjson.Fragment(event) for event in events],
        "after": page.cursor,
        "hasMore": page.has_more,
    }
    return orjson.dumps(body)


Encode = Callable[[Recorded, str | None], bytes]


async def _encoded(
    pages: AsyncGenerator[list[Recorded]], prev: str | None, encode: Encode
) -> AsyncGenerator[bytes]:
    """Pages of events as bytes; `prev` is the cursor of the event before the first."""
    async with aclosing(pages):
        async for events in pages:
            for piece in pieces(_each(events, prev, encode)):
                yield piece
            prev = events[-1].cursor if events else prev


def _each(events: Iterable[Recorded], prev: str | None, encode: Encode) -> Iterator[bytes]:
    return (encode(event, before) for event, before in chained(events, prev))


def _line(event: Recorded, prev: str | None) -> bytes:
    return cloud_event(event, prev) + b"\n"


def _frame(event: Recorded, prev: str | None) -> bytes:
    encoded = orjson.Fragment(cloud_event(event, prev))
    return sse.encode("event", encoded, event.cursor)


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
