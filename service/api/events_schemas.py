"""What the log takes and answers."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from domain.events import EVENT_TYPES
from service.wire import Cursor, Id, Query, Wire

MOST_EVENTS: Final = 1_000


def _parted(names: list[str]) -> list[str]:
    """Names may be repeated or separated by commas."""
    return [name for each in names for name in each.split(",")]


EventTypes = Annotated[
    list[str],
    AfterValidator(_parted),
    Field(max_length=100, json_schema_extra={"items": {"enum": list(EVENT_TYPES)}}),
]


class EventsQuery(Query):
    """A tenant's events after a cursor, from the first without one; of a project, of some types.

    A page has 100 unless `limit` says otherwise; lines end with the log. A stream has no limit.
    """

    repeated = frozenset({"types"})

    after: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_EVENTS)] | None = None
    types: EventTypes | None = None
    project_id: Id | None = None


class CloudEvent(BaseModel):
    """An event of the log by CloudEvents 1.0; `id` is its cursor, `data` what happened.

    `prev` is the cursor of the event before it in the same selection, null at its start.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str
    data: Any = None
    data_base64: str | None = None
    position: str
    streamversion: int
    schemaversion: int
    projectid: str | None = None
    cursor: str
    prev: str | None
    requestid: str | None = None
    actor: str | None = None


class EventsPage(Wire):
    """Events in order. `after` leads on: everything up to there was looked at."""

    events: list[CloudEvent]
    after: str
    has_more: bool
