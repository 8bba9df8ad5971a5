"""JSON on the wire of a project's timeline: its items, as pages have them and as streams tell."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from projections.timeline import TimelinePage
from service.api.schemas import ActingQuery, PageSize, PastQuery
from service.timelines.items import TimelineItem, item
from service.wire import Cursor, Locale, Wire

LARGEST_OFFSET: Final = 10_000
Mode = Literal["all", "plan", "build"]


def _shallow(offset: int) -> int:
    if offset > LARGEST_OFFSET:
        raise ValueError(
            f"must be at most {LARGEST_OFFSET}; use `before` with the cursor of an item"
        )
    return offset


Offset = Annotated[
    int, Field(ge=0, json_schema_extra={"maximum": LARGEST_OFFSET}), AfterValidator(_shallow)
]


class TimelineQuery(PastQuery):
    """A page of the timeline, newest first: by offset, or next to a cursor of an earlier page.

    The database counts through all rows of an offset. A cursor costs the same everywhere. `locale`
    is the language of the labels of actions; its default is the language of Accept-Language.
    """

    limit: PageSize = 20
    offset: Offset = 0
    mode: Mode = "all"
    include_hidden: bool = False
    before: Cursor | None = None
    after: Cursor | None = None
    locale: Locale | None = None


class TimelineStreamQuery(ActingQuery):
    """What the stream shows, as a page does; `after` resumes it, as the header Last-Event-ID.

    With `replies` it also carries the events of running replies: without ids, each with the
    `messageId` of its reply. `locale` is as on a page.
    """

    mode: Mode = "all"
    include_hidden: bool = False
    replies: bool = False
    after: Cursor | None = None
    locale: Locale | None = None


class Timeline(Wire):
    """A page, newest first. `before` leads to older items, `after` to newer ones.

    While there is an `activeBuildId` the project takes no messages.
    """

    items: list[TimelineItem]
    has_more: bool
    active_build_id: str | None = None
    before: str | None = None
    after: str | None = None


def timeline(page: TimelinePage, active_build_id: str | None, locale: str | None) -> Timeline:
    """A page of the timeline with its cursors, for a reader of this locale."""
    items = [item(row, locale) for row in page.rows]
    return Timeline(
        items=items,
        has_more=page.has_more,
        active_build_id=active_build_id,
        before=items[-1].cursor if items else None,
        after=items[0].cursor if items else None,
    )
