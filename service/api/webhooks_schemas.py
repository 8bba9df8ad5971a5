"""What webhooks take and answer."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from domain.events import EVENT_TYPES
from service.webhooks.store import DeadLetterRow, WebhookRow
from service.wire import Text, Wire

Url = Annotated[Text, Field(min_length=1, max_length=2_048)]
Description = Annotated[Text, Field(max_length=255)]
Types = Annotated[
    list[Annotated[str, Field(max_length=100)]],
    Field(max_length=100, json_schema_extra={"items": {"enum": list(EVENT_TYPES)}}),
]


class WebhookRequest(Wire):
    """Where events are sent. Without `types` all events are sent."""

    url: Url
    types: Annotated[Types, Field(min_length=1)] | None = None
    description: Description | None = None


class WebhookChange(Wire):
    """What changes. `types` of an empty list stands for all types.

    With `rotateSecret` the webhook gets another secret; the old secret signs too for a day.
    """

    url: Url | None = None
    types: Types | None = None
    description: Description | None = None
    enabled: bool | None = None
    rotate_secret: bool = False


class WebhookAnswer(Wire):
    """A webhook. `cursor` is the last event that was taken or given up.

    `tries` is how often the next event was sent in vain, and `error` what went wrong at the last
    try. `secret` is there once: where it is new.
    """

    webhook_id: str
    url: str
    types: list[str] | None = None
    description: str | None = None
    enabled: bool
    created_at: datetime
    cursor: str
    tries: int
    next_try_at: datetime | None = None
    error: str | None = None
    old_secret_until: datetime | None = None
    secret: str | None = None


class WebhookList(Wire):
    webhooks: list[WebhookAnswer]


class WebhookRemoved(Wire):
    webhook_id: str


class DeadLetter(Wire):
    """An event that was not taken after all tries. `waiting` is whether it is sent once more."""

    position: str
    type: str
    error: str
    given_up_at: datetime
    waiting: bool


class DeadLetterList(Wire):
    deliveries: list[DeadLetter]


class Redelivery(Wire):
    """How many events are sent once more."""

    deliveries: int


def webhook(row: WebhookRow, secret: str | None = None) -> WebhookAnswer:
    """The answer for a webhook."""
    return WebhookAnswer(
        webhook_id=row.webhook_id,
        url=row.url,
        types=row.types,
        description=row.description,
        enabled=row.is_enabled,
        created_at=row.created_at.astimezone(UTC),
        cursor=row.cursor,
        tries=row.tries,
        next_try_at=_utc(row.next_try_at),
        error=row.error,
        old_secret_until=_utc(row.old_secret_until),
        secret=secret,
    )


def dead_letter_list(rows: Iterable[DeadLetterRow]) -> DeadLetterList:
    """The answer for the events that were not taken."""
    return DeadLetterList(
        deliveries=[
            DeadLetter(
                position=str(row.position),
                type=row.type,
                error=row.error,
                given_up_at=row.given_up_at.astimezone(UTC),
                waiting=row.is_wanted,
            )
            for row in rows
        ]
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
