"""A request with an Idempotency-Key is done once, even if it is sent repeatedly and anywhere."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from service.model.offline.app import OfflineModel
from service.postgres import connections
from tests.running import Event, LiveService, Signed, events_of, problem, running
from tests.service import law

KEY = {"Idempotency-Key": "order-7"}
ASK = {"userId": "u1", "projectId": "p1", "message": "Add a login page"}


async def types(run: LiveService) -> Counter[str]:
    """The number of events of each type."""
    return Counter([each.type async for page in run.service.store.replay() for each in page])


async def ask(run: LiveService, key: dict[str, str] = KEY, **members: Any) -> httpx.Response:
    return await run.client.post("/v1/chat-plan", json=ASK | members, headers=key)


async def stream(run: LiveService) -> list[Event]:
    headers = KEY | {"Accept": "text/event-stream"}
    async with run.client.stream("POST", "/v1/chat-plan", json=ASK, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        return events_of((await answer.aread()).decode())


async def test_a_repeated_message_gets_the_same_reply(run: LiveService) -> None:
    first = await ask(run)
    head = await run.service.store.head()
    again = await ask(run)
    assert again.status_code == 200
    assert again.json() == first.json()
    for header in ("Location", "X-Log-Position"):
        assert again.headers[header] == first.headers[header]
    assert await run.service.store.head() == head
    assert run.model.calls == 1


async def test_a_request_that_an_earlier_version_stored_is_known(url: str) -> None:
    async with running(url) as before:
        await before.project()
        await before.credit()
        first = await ask(before)
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute("alter table app.event disable trigger event_is_masked_or_stays")
        await owner.execute(
            "update app.event set state = convert_to((convert_from(state, 'UTF8')::jsonb "
            "#- '{result,mode}' #- '{result,model}')::text, 'UTF8') "
            "where type = 'RequestCompleted' and convert_from(state, 'UTF8') like '%\"mode\"%'"
        )
    async with running(url) as after:
        again = await ask(after)
        assert (again.status_code, again.json()) == (200, first.json())
        assert (await types(after))["UserMessagePosted"] == 1


async def test_a_hundred_racing_copies_make_one_message_one_reservation_one_reply(
    url: str,
) -> None:
    """On two servers of one database; each copy gets the same envelope. A copy that is refused
    because too much waits is sent again."""

    async def insist(run: LiveService) -> httpx.Response:
        while True:
            answer = await ask(run)
            if answer.status_code != 503:
                return answer
            assert problem(answer) == (503, "overloaded")
            await asyncio.sleep(float(answer.headers["Retry-After"]))

    async with running(url) as one, running(url) as two:
        await one.project()
        await one.credit()
        answers = await asyncio.gather(*(insist((one, two)[n % 2]) for n in range(100)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.text for answer in answers}) == 1
        found = await types(one)
        for kind in ("UserMessagePosted", "TimeReserved", "ReplyStarted", "ReplyCompleted"):
            assert found[kind] == 1, kind
        assert found["TimeConsumed"] == found["RequestCompleted"] == 1
        assert one.model.calls + two.model.calls == 1


async def test_a_repeated_stream_joins_the_reply_that_runs(url: str) -> None:
    async with running(url, OfflineModel(pace=0.02)) as run:
        await run.project()
        await run.credit()
        whole, again = await asyncio.gather(stream(run), stream(run))
        assert whole == again
        assert law.lawful(whole)["subtype"] == "success"
        assert await stream(run) == whole, "also after its end"
        assert run.model.calls == 1


async def test_another_request_with_the_same_key_is_refused(run: LiveService) -> None:
    await ask(run)
    before = await run.service.store.head()
    assert problem(await ask(run, message="Something else")) == (422, "idempotency_key_reused")
    credit = {"userId": "u1", "seconds": 5, "kind": "paid"}
    other = await run.client.post("/v1/billing/credits", json=credit, headers=KEY)
    assert problem(other) == (422, "idempotency_key_reused")
    assert await run.service.store.head() == before


@pytest.mark.usefixtures("url")
async def test_racing_requests_with_one_key_and_two_bodies_do_one_of_them(run: LiveService) -> None:
    answers = await asyncio.gather(*(ask(run, message=f"No. {n % 2}") for n in range(20)))
    codes = Counter(answer.status_code for answer in answers)
    assert codes == {200: 10, 422: 10}
    assert (await types(run))["UserMessagePosted"] == 1


async def test_an_idempotency_key_is_known_after_a_restart(url: str) -> None:
    async with running(url) as run:
        await run.project()
        await run.credit()
        first = await ask(run)
    async with running(url) as run:
        again = await ask(run)
        assert again.json() == first.json()
        assert run.model.calls == 0


async def test_a_repeated_credit_is_given_once(run: LiveService) -> None:
    credit = {"userId": "u2", "seconds": 60, "kind": "paid"}
    answers = [
        await run.client.post("/v1/billing/credits", json=credit, headers=KEY) for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert (await run.account("u2"))["creditedSeconds"] == 60
    assert len({answer.headers["X-Log-Position"] for answer in answers}) == 1


async def test_a_repeated_first_build_is_begun_once_even_after_its_end(run: LiveService) -> None:
    body = {"userId": "u1", "projectId": "p1", "message": "A shop for tea"}
    answers = await asyncio.gather(
        *(run.client.post("/v1/builds", json=body, headers=KEY) for _ in range(10))
    )
    (build_id,) = {answer.json()["buildId"] for answer in answers}
    end = {"eventId": "e", "phase": "build", "type": "failed", "title": "t"}
    end |= {"at": "2026-01-01T00:00:00Z"}
    await run.client.post(f"/v1/builds/{build_id}/events", json={"events": [end]})
    again = await run.client.post("/v1/builds", json=body, headers=KEY)
    assert (again.status_code, again.json()["buildId"]) == (202, build_id)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/projects", {"projectId": "p9", "name": "P", "members": [{"userId": "u"}]}),
        ("PUT", "/v1/projects/p1/members/u7", {"role": "viewer"}),
        ("DELETE", "/v1/projects/p1/members/u2", None),
    ],
)
async def test_every_write_can_be_repeated(
    run: LiveService, method: str, path: str, body: dict[str, Any] | None
) -> None:
    await run.client.put("/v1/projects/p1/members/u2", json={"role": "editor"})
    first = await run.client.request(method, path, json=body, headers=KEY)
    assert first.status_code < 300, first.text
    head = await run.service.store.head()
    again = await run.client.request(method, path, json=body, headers=KEY)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert await run.service.store.head() == head


async def test_a_refusal_is_not_remembered(run: LiveService) -> None:
    refused = await ask(run, userId="u1", message="Add", sessionId="nobody")
    assert refused.status_code == 404
    await run.client.put("/v1/projects/p1/members/u3", json={"role": "editor"})
    assert (await ask(run, userId="u3")).status_code == 402
    await run.credit("u3")
    assert (await ask(run, userId="u3")).status_code == 200


async def test_idempotency_keys_belong_to_one_tenant(run: LiveService) -> None:
    await ask(run)
    foreign = await run.client.post("/v1/chat-plan", json=ASK, headers=KEY, auth=Signed("k2"))
    assert problem(foreign) == (404, "project_not_found")


@pytest.mark.parametrize("key", ["", "a" * 256, "with space", "tab\tkey", "é"])
async def test_an_invalid_idempotency_key_is_refused(run: LiveService, key: str) -> None:
    refused = await ask(run, {"Idempotency-Key": key.encode("latin-1")})  # type: ignore[dict-item]
    assert problem(refused) == (422, "bad_idempotency_key")


@pytest.mark.usefixtures("url")
async def test_reads_ignore_an_idempotency_key(run: LiveService) -> None:
    for _ in range(2):
        answer = await run.client.get("/v1/project/p1/timeline?userId=u1", headers=KEY)
        assert answer.status_code == 200
    assert (await types(run))["RequestCompleted"] == 0
