"""Webhooks: where events of the tenant are sent, and what was not taken."""

from types import NoneType
from typing import Final

from starlette.responses import Response

from domain.events import EVENT_TYPES
from service.api import webhooks_schemas as schemas
from service.eventlog.errors import answering
from service.http.call import AnyCall, Call
from service.http.operation import Operation, answered
from service.http.problems import BadRequest
from service.webhooks.addresses import UrlRefused, require_url
from service.webhooks.store import MOST_WEBHOOKS, dead_letters, webhooks_of

PATH: Final = "/v1/webhooks"


async def create_webhook(call: Call[schemas.WebhookRequest, None]) -> Response:
    """Send the tenant's events from now on to an address."""
    asked = call.body
    _require_usable(call, asked.url, asked.types)
    added = await call.service.webhooks.add(
        call.tenant_id, url=asked.url, types=asked.types, description=asked.description
    )
    if added is None:
        raise BadRequest(
            409,
            "too_many_webhooks",
            f"A tenant has at most {MOST_WEBHOOKS} webhooks. Remove one of them first.",
        )
    call.service.dispatcher.on_changed()
    webhook_id, secret = added
    return await _answered(call, webhook_id, secret, status=201)


async def list_webhooks(call: Call[None, None]) -> Response:
    """The webhooks of the tenant, oldest first."""
    async with call.reading() as connection:
        rows = await webhooks_of(connection, call.tenant_id)
    answer = schemas.WebhookList(webhooks=[schemas.webhook(row) for row in rows])
    return answered(answer, position=call.service.live_log.head)


async def change_webhook(call: Call[schemas.WebhookChange, None]) -> Response:
    """Change a webhook, or give it another secret."""
    asked, webhook_id = call.body, call.path["webhookId"]
    _require_usable(call, asked.url, asked.types)
    is_there, secret = await call.service.webhooks.change(
        call.tenant_id,
        webhook_id,
        url=asked.url,
        types=asked.types,
        description=asked.description,
        is_enabled=asked.enabled,
        rotate=asked.rotate_secret,
    )
    if not is_there:
        raise _unknown()
    call.service.dispatcher.on_changed()
    return await _answered(call, webhook_id, secret)


async def remove_webhook(call: Call[None, None]) -> Response:
    """Remove a webhook, with the list of what it did not take."""
    webhook_id = call.path["webhookId"]
    if not await call.service.webhooks.remove(call.tenant_id, webhook_id):
        raise _unknown()
    call.service.dispatcher.on_changed()
    answer = schemas.WebhookRemoved(webhook_id=webhook_id)
    return answered(answer, position=call.service.live_log.head)


async def list_dead_letters(call: Call[None, None]) -> Response:
    """The events that a webhook did not take after all tries, newest first."""
    webhook_id = call.path["webhookId"]
    async with call.reading() as connection:
        known = await webhooks_of(connection, call.tenant_id, webhook_id)
        rows = await dead_letters(connection, call.tenant_id, webhook_id)
    if not known:
        raise _unknown()
    return answered(schemas.dead_letter_list(rows), position=call.service.live_log.head)


async def redeliver(call: Call[None, None]) -> Response:
    """Send the events once more that a webhook did not take."""
    count = await call.service.webhooks.redeliver(call.tenant_id, call.path["webhookId"])
    if count is None:
        raise _unknown()
    call.service.dispatcher.on_changed()
    answer = schemas.Redelivery(deliveries=count)
    return answered(answer, position=call.service.live_log.head, status=202)


async def _answered(
    call: AnyCall, webhook_id: str, secret: str | None, *, status: int = 200
) -> Response:
    position = call.service.live_log.head
    with answering(position):
        async with call.reading() as connection:
            rows = await webhooks_of(connection, call.tenant_id, webhook_id)
    if not rows:  # another request has removed it meanwhile
        raise _unknown()
    answer = schemas.webhook(rows[0], secret)
    return answered(answer, position=position, status=status)


def _require_usable(call: AnyCall, url: str | None, types: list[str] | None) -> None:
    """Raises BadRequest."""
    if url is not None:
        try:
            require_url(url, private=call.service.settings.webhooks_private)
        except UrlRefused as error:
            raise BadRequest(422, "bad_webhook_url", str(error)) from None
    unknown = sorted({*(types or ())} - EVENT_TYPES.keys())
    if unknown:
        raise BadRequest(422, "unknown_event_type", f"There is no type {', '.join(unknown)}.")


def _unknown() -> BadRequest:
    return BadRequest(404, "webhook_not_found", "The tenant has no webhook of this id.")


OPERATIONS = (
    Operation(
        method="POST",
        path=PATH,
        name="createWebhook",
        summary="Send the tenant's events from now on to an address. The answer has the secret, "
        "which signs them, once. Sent again, also with an Idempotency-Key, it makes another one.",
        scopes=("admin",),
        body=schemas.WebhookRequest,
        query=NoneType,
        answer=schemas.WebhookAnswer,
        status=201,
        problems=(400, 409, 413, 415, 422),
        handle=create_webhook,
    ),
    Operation(
        method="GET",
        path=PATH,
        name="listWebhooks",
        summary="The tenant's webhooks, oldest first.",
        scopes=("admin",),
        body=NoneType,
        query=NoneType,
        answer=schemas.WebhookList,
        problems=(),
        handle=list_webhooks,
    ),
    Operation(
        method="PATCH",
        path=f"{PATH}/{{webhookId}}",
        name="changeWebhook",
        summary="Change a webhook, stop it, or give it another secret.",
        scopes=("admin",),
        body=schemas.WebhookChange,
        query=NoneType,
        answer=schemas.WebhookAnswer,
        problems=(400, 404, 413, 415, 422),
        handle=change_webhook,
    ),
    Operation(
        method="DELETE",
        path=f"{PATH}/{{webhookId}}",
        name="removeWebhook",
        summary="Remove a webhook, with the list of the events that it did not take.",
        scopes=("admin",),
        body=NoneType,
        query=NoneType,
        answer=schemas.WebhookRemoved,
        problems=(404, 413, 422),
        handle=remove_webhook,
    ),
    Operation(
        method="GET",
        path=f"{PATH}/{{webhookId}}/deliveries",
        name="listDeadLetters",
        summary="The events that a webhook did not take after all tries, newest first.",
        scopes=("admin",),
        body=NoneType,
        query=NoneType,
        answer=schemas.DeadLetterList,
        problems=(404, 422),
        handle=list_dead_letters,
    ),
    Operation(
        method="POST",
        path=f"{PATH}/{{webhookId}}/redeliver",
        name="redeliver",
        summary="Send the events once more that a webhook did not take.",
        scopes=("admin",),
        body=NoneType,
        query=NoneType,
        answer=schemas.Redelivery,
        status=202,
        problems=(404, 413, 422),
        handle=redeliver,
    ),
)
