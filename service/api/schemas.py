"""What the queries of several nouns share: pages, positions, and the acting user."""

from typing import Annotated, Final

from pydantic import Field

from service.wire import Cursor, Id, Moment, Query

LARGEST_PAGE: Final = 200
LAST_POSITION: Final = 2**53 - 1


PageSize = Annotated[int, Field(ge=1, le=LARGEST_PAGE)]


class BalanceQuery(Query):
    """`minPosition`: wait until the answer holds for this position of the log."""

    min_position: Annotated[int, Field(ge=0, le=LAST_POSITION)] | None = None


class ActingQuery(BalanceQuery):
    """The user for whom the key asks. The user must be a member of the project.

    Without `userId` the key asks for its tenant, which may read all projects.
    """

    user_id: Id | None = None


class PastQuery(ActingQuery):
    """With `asOf` the answer shows an earlier moment."""

    as_of: Moment | None = None


class PageQuery(ActingQuery):
    """A page, newest first, before a cursor."""

    limit: PageSize = 20
    before: Cursor | None = None


class PastPageQuery(PageQuery):
    """A page of a list, as it is now. With `asOf` the page is as it was at an earlier moment."""

    as_of: Moment | None = None
