"""Webhooks over HTTP: registered, signed by Standard Webhooks, rotated, stopped and removed."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from service.webhooks.store import MOST_WEBHOOKS
from tests.running import LiveService, problem, running
from tests.service.webhooks.receiver import Delivery, Receiver, receiving


@pytest.fixture
async def run(url: str) -> AsyncIterator[LiveService]:
    async with running(url, webhooks_private=True) as started:
        yield started


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as started:
        yield started


async def create(client: httpx.AsyncClient, url: str, **members: Any) -> dict[str, Any]:
    answer = await client.post("/v1/webhooks", json={"url": url, **members})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def only(client: httpx.AsyncClient) -> dict[str, Any]:
    (found,) = (await client.get("/v1/webhooks")).json()["webhooks"]
    return dict(found)


def verified(delivery: Delivery, secret: str) -> Any:
    """The event, as a receiver with the library of Standard Webhooks gets it."""
    return Webhook(secret).verify(delivery.body, delivery.headers)


async def test_a_webhook_gets_the_events_of_its_tenant_signed(
    run: LiveService, receiver: Receiver
) -> None:
    await run.project()
    made = await create(run.client, receiver.url, description="CI")
    await run.credit()
    await receiver.until(1)
    await run.project("p2")
    head = (await run.client.get("/v1/events")).json()["events"]
    await receiver.until_position(int(head[-1]["position"]))
    events = [verified(each, made["secret"]) for each in receiver.deliveries]
    assert events == [each for each in head if each["cursor"] > made["cursor"]]
    assert receiver.deliveries[0].headers["Content-Type"] == "application/cloudevents+json"
    with pytest.raises(WebhookVerificationError):
        verified(receiver.deliveries[0], "whsec_" + "A" * 43 + "=")
    listed = await only(run.client)
    assert (listed["url"], listed["description"], listed["enabled"]) == (receiver.url, "CI", True)
    assert "secret" not in listed


async def test_a_rotated_secret_leaves_the_old_one_valid_for_a_day(
    run: LiveService, receiver: Receiver
) -> None:
    made = await create(run.client, receiver.url)
    path = f"/v1/webhooks/{made['webhookId']}"
    changed = (await run.client.patch(path, json={"rotateSecret": True})).json()
    assert changed["secret"] != made["secret"]
    assert changed["oldSecretUntil"] > changed["createdAt"]
    await run.project()
    await receiver.until(1)
    for secret in (made["secret"], changed["secret"]):
        assert verified(receiver.deliveries[0], secret)["type"] == "ProjectRegistered"
    again = (await run.client.patch(path, json={"rotateSecret": True})).json()
    await run.credit()
    await receiver.until_position(await run.service.store.head())
    verified(receiver.deliveries[-1], again["secret"])
    with pytest.raises(WebhookVerificationError):
        verified(receiver.deliveries[-1], made["secret"])


async def test_a_webhook_can_be_changed_stopped_and_removed(
    run: LiveService, receiver: Receiver
) -> None:
    made = await create(run.client, receiver.url, types=["TimeCredited"])
    path = f"/v1/webhooks/{made['webhookId']}"
    assert made["types"] == ["TimeCredited"]
    await run.project()
    await run.credit()
    await receiver.until(1)
    assert receiver.deliveries[0].event["type"] == "TimeCredited"
    while (await only(run.client))["cursor"] == made["cursor"]:
        """A change before the answer is written would have the event sent again."""
    stopped = (await run.client.patch(path, json={"enabled": False, "types": []})).json()
    assert (stopped["enabled"], "types" in stopped) == (False, False)
    await run.credit()
    assert (await only(run.client))["enabled"] is False
    async with receiving() as other:
        await run.client.patch(path, json={"enabled": True, "url": other.url})
        await other.until(1)
        assert other.deliveries[0].event["type"] == "TimeCredited"
    assert len(receiver.deliveries) == 1
    assert (await run.client.delete(path)).json() == {"webhookId": made["webhookId"]}
    for method, where in (
        *(("DELETE", path), ("PATCH", path)),
        *(("GET", f"{path}/deliveries"), ("POST", f"{path}/redeliver")),
    ):
        gone = await run.client.request(method, where, json={} if method == "PATCH" else None)
        assert problem(gone) == (404, "webhook_not_found"), method
    assert (await run.client.get("/v1/webhooks")).json() == {"webhooks": []}


async def test_a_failing_webhook_says_why(run: LiveService, receiver: Receiver) -> None:
    made = await create(run.client, receiver.url)
    path = f"/v1/webhooks/{made['webhookId']}"
    receiver.answers = [(500, {})] * 2
    await run.project()
    await receiver.until(1)
    found = await only(run.client)
    while not found.get("tries"):
        found = await only(run.client)
    assert (found["error"], found["cursor"]) == ("the receiver answered 500", made["cursor"])
    assert found["nextTryAt"] > made["createdAt"]
    assert (await run.client.get(f"{path}/deliveries")).json() == {"deliveries": []}
    assert (await run.client.post(f"{path}/redeliver")).json() == {"deliveries": 0}


async def test_what_cannot_be_a_webhook_is_refused(shared: LiveService) -> None:
    client = shared.client
    for url in ("http://example.com/", "https://127.0.0.1/", "https://[::ffff:10.0.0.1]/"):
        refused = await client.post("/v1/webhooks", json={"url": url})
        assert problem(refused) == (422, "bad_webhook_url"), url
    body = {"url": "https://receiver.invalid/", "types": ["NoSuchType"]}
    refused = await client.post("/v1/webhooks", json=body)
    assert problem(refused) == (422, "unknown_event_type")
    made = [await create(client, "https://receiver.invalid/") for _ in range(MOST_WEBHOOKS)]
    refused = await client.post("/v1/webhooks", json={"url": "https://receiver.invalid/"})
    assert problem(refused) == (409, "too_many_webhooks")
    path = f"/v1/webhooks/{made[0]['webhookId']}"
    refused = await client.patch(path, json={"url": "https://10.0.0.1/"})
    assert problem(refused) == (422, "bad_webhook_url")


async def test_a_name_that_leads_inside_is_not_connected_to(url: str, receiver: Receiver) -> None:
    async with running(url) as run:
        await create(run.client, f"https://localhost:{receiver.port}/")
        await run.project()
        found = await only(run.client)
        while not found.get("tries"):
            found = await only(run.client)
    assert found["error"] == "the address is not public"
    assert receiver.connections == 0
