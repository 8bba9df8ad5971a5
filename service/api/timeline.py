"""The unified timeline of a project: page by page, and live."""

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from types import NoneType

import orjson
from starlette.responses import Response

from domain.events import TimelineMode
from projections import timeline
from projections.builds import BUILDS
from projections.projects import PROJECTS
from projections.timeline import TIMELINE, Shown, TimelinePage
from service.api import timeline_schemas
from service.eventlog.store import cursor_at
from service.http.call import Call
from service.http.operation import Operation, answered
from service.http.reads import (
    in_language,
    position_in,
    reading_at,
    visible_project,
)
from service.http.sse_response import SEND_SECONDS, EventStream, pieces
from service.ops.metrics import RESUMES
from service.replies.events import REPLY_EVENTS
from service.replies.sse import encode, goaway
from service.replies.tail import ERASED
from service.timelines import items
from service.timelines.feed import Item, Project
from service.wire import BEGINNING, LOG_POSITION, fitting


async def read_timeline(call: Call[None, timeline_schemas.TimelineQuery]) -> Response:
    """A page, newest first."""
    asked = call.query
    before, after = position_in(call, asked.before), position_in(call, asked.after)
    read = timeline.page_read(
        call.tenant_id,
        call.path["projectId"],
        Shown(mode=_mode(asked.mode), with_hidden=asked.include_hidden),
        limit=asked.limit,
        offset=asked.offset,
        before=before,
        after=after,
    )
    async with reading_at(call, TIMELINE.name, asked.min_position, asked.as_of) as (
        connection,
        position,
    ):
        if asked.as_of is None:  # in the same round trip as the project
            await read.send(connection)
        known = await visible_project(connection, call, call.path["projectId"], asked.user_id)
        if asked.as_of is not None:  # only now the project is as it was
            await read.send(connection)
        page = await read.page(connection)
    page = within_bytes(page, is_after=after is not None)
    locale = call.locale(asked.locale)
    answer = timeline_schemas.timeline(page, known.active_build_id, locale)
    return answered(answer, position=position, headers=in_language(locale))


def within_bytes(page: TimelinePage, *, is_after: bool) -> TimelinePage:
    """The part of a page next to its cursor that is not too large to be sent at once."""
    nearest = page.rows[::-1] if is_after else page.rows
    count = fitting(items.size(row) for row in nearest)
    if count == len(nearest):
        return page
    rows = nearest[:count]
    return TimelinePage(rows=rows[::-1] if is_after else rows, has_more=True)


async def stream_timeline(call: Call[None, timeline_schemas.TimelineStreamQuery]) -> Response:
    """Items as they come, each with the cursor of the item before it.

    They begin after the cursor that is given, else after where the read model stands now.
    """
    asked = call.query
    after = position_in(call, call.last_event_id or asked.after)
    if call.last_event_id:
        RESUMES.labels("timeline").inc()
    shown = Shown(mode=_mode(asked.mode), with_hidden=asked.include_hidden, with_live=True)
    async with reading_at(call, TIMELINE.name, asked.min_position) as (connection, position):
        await visible_project(connection, call, call.path["projectId"], asked.user_id)
        after = position if after is None else after
        begun = cursor_at(after)
        await begun.send(connection)
        begin = min(after, position)
        before = await timeline.page(
            connection,
            tenant_id=call.tenant_id,
            project_id=call.path["projectId"],
            shown=shown,
            limit=1,
            before=begin + 1,
        )
        headers = begin_of_stream(await begun.row(), position)
    prev = before.rows[0].cursor if before.rows else None
    feed = call.service.feeds.follow(
        Project(call.tenant_id, call.path["projectId"]), begin, shown, asked.user_id
    )
    sources = [live(feed, after, prev, call.locale(asked.locale))]
    if asked.replies:
        key = (call.tenant_id, call.path["projectId"], None)
        sources.append(call.service.project_replies.follow(key))
    frames = call.service.merged_streams.merge(*sources)
    headers |= in_language(call.locale(asked.locale))
    permit = call.permit(call.path["projectId"], asked.user_id)
    return EventStream(frames, headers, grace_seconds=SEND_SECONDS, permit=permit)


def begin_of_stream(begun: str | None, position: int) -> dict[str, str]:
    """The headers of a stream that begins after the cursor `begun`.

    A client whose stream breaks before its first event goes on after the cursor `X-Log-Cursor`.
    """
    return {LOG_POSITION: str(position), "X-Log-Cursor": begun or BEGINNING}


async def live(
    feed: AsyncGenerator[list[Item]],
    after: int,
    prev: str | None,
    locale: str | None,
    *,
    is_of_session: bool = False,
) -> AsyncGenerator[bytes]:
    """The items after a position; items up to it are skipped while the read model is behind.

    The stream of a session ends with its erasure.
    """
    async with aclosing(feed):
        async for found in feed:
            for piece in pieces(_frames(found, after, prev, locale)):
                yield piece
            prev = found[-1].cursor
            if is_of_session and found[-1].event.ends_session:
                yield goaway(ERASED)
                return
    yield goaway("removed")


def _frames(
    items: Iterable[Item], after: int, prev: str | None, locale: str | None
) -> Iterator[bytes]:
    for item in items:
        if item.position > after:
            yield encode(item.event.name, _linked(item, prev, locale), item.cursor)
        prev = item.cursor


def _linked(item: Item, prev: str | None, locale: str | None) -> orjson.Fragment:
    """The item's JSON, which all watchers share, and what differs between them: the labels of its
    actions, and `prev`."""
    shared, actions = item.event.json[:-1], item.event.actions
    labelled = b"" if actions is None else b',"actions":' + actions.json(locale)
    return orjson.Fragment(shared + labelled + b',"prev":' + orjson.dumps(prev) + b"}")


def _mode(asked: timeline_schemas.Mode) -> TimelineMode | None:
    return None if asked == "all" else asked


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/project/{projectId}/timeline",
        name="getTimeline",
        browsers=True,
        summary="Everything that was said and done in a project, newest first.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=timeline_schemas.TimelineQuery,
        answer=timeline_schemas.Timeline,
        reads=(TIMELINE, BUILDS, PROJECTS),
        problems=(404, 409, 422),
        handle=read_timeline,
    ),
    Operation(
        method="GET",
        path="/v1/project/{projectId}/timeline/stream",
        name="streamTimeline",
        browsers=True,
        summary="The items of a project's timeline as they come, resumable without gap or repeat.",
        scopes=("chat", "read", "admin"),
        body=NoneType,
        query=timeline_schemas.TimelineStreamQuery,
        streams=True,
        events={
            "item": items.LiveItem,
            "lock": items.Lock,
            "erased": items.Erased,
            **REPLY_EVENTS,
        },
        reads=(TIMELINE, BUILDS),
        problems=(404, 409, 422),
        handle=stream_timeline,
    ),
)
