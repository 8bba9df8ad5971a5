"""The JSON of searches: queries and answers."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from domain.events import SessionMode
from projections.timeline import ItemKind
from projections.words import MATCH_BEGINS, MATCH_ENDS, FoundRow
from service.api import schemas
from service.wire import Cursor, Text, Wire

LONGEST_QUERY: Final = 500
LARGEST_PAGE: Final = 50


class SearchQuery(schemas.ActingQuery):
    """Words in `q`, as people write them: `"a phrase"`, `or`, `-without`."""

    q: Annotated[Text, Field(min_length=1, max_length=LONGEST_QUERY)]
    mode: Annotated[SessionMode | None, Field(description="The mode of the sessions.")] = None
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 20
    before: Cursor | None = None


class Highlight(Wire):
    """A part of a passage, in the order of the text."""

    text: str
    is_match: bool


class SearchResult(Wire):
    """A message, a reply or material; with the kind `session` the name of a session, and then
    without `messageId`."""

    session_id: str
    session_name: str
    message_id: str | None = None
    kind: ItemKind
    timestamp: datetime
    locale: str | None = None
    highlights: list[Highlight]
    cursor: str


class SearchResults(Wire):
    """What was found, newest first; `before` leads on."""

    results: list[SearchResult]
    has_more: bool
    before: str | None = None


def results(rows: list[FoundRow], limit: int) -> SearchResults:
    """The first `limit` rows as a page with its cursor."""
    found = [_result(row) for row in rows[:limit]]
    has_more = len(rows) > limit
    return SearchResults(
        results=found, has_more=has_more, before=found[-1].cursor if has_more else None
    )


def _result(row: FoundRow) -> SearchResult:
    return SearchResult(
        session_id=row.session_id,
        session_name=row.session_name,
        message_id=None if row.kind == "session" else row.item_id,
        kind=row.kind,
        timestamp=row.recorded_at,
        locale=row.locale,
        highlights=list(_highlights(row.marked)),
        cursor=row.cursor,
    )


def _highlights(marked: str) -> Iterator[Highlight]:
    """The parts of a text with marks around its matches."""
    before, *marks = marked.split(MATCH_BEGINS)
    if before:
        yield Highlight(text=before, is_match=False)
    for mark in marks:
        match, _, after = mark.partition(MATCH_ENDS)
        yield Highlight(text=match, is_match=True)
        if after:
            yield Highlight(text=after, is_match=False)
