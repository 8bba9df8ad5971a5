"""Sessions that are archived and restored."""

from collections.abc import AsyncIterator

import pytest

from tests.running import LiveService, problem, running

SESSION = "/v1/chat-plan/session"


@pytest.fixture
async def run(url: str) -> AsyncIterator[LiveService]:
    async with running(url) as started:
        await started.project("p1", "u1", "u2")
        await started.credit()
        yield started


async def test_an_archived_session_takes_no_message_until_it_is_restored(run: LiveService) -> None:
    first = (await run.chat("Hello")).json()["sessionId"]
    path = f"{SESSION}/{first}"
    for _ in range(2):
        archived = await run.client.post(f"{path}/archive?userId=u1")
        assert archived.json()["status"] == "archived", archived.text
    second = (await run.chat("Hello again")).json()["sessionId"]
    assert second != first, "an archived session is not the one that the server finds"
    items = (await run.client.get("/v1/project/p1/timeline?userId=u1")).json()["items"]
    assert {each["sessionId"] for each in items} == {first, second}, "its items stay"
    restored = await run.client.post(f"{path}/restore?userId=u1")
    assert restored.json()["status"] == "active", restored.text
    assert (await run.chat("And again")).json()["sessionId"] == first, "it is the newest one now"


async def test_only_its_user_archives_a_session(run: LiveService) -> None:
    session_id = (await run.chat("Hello")).json()["sessionId"]
    for path in (f"{SESSION}/{session_id}", f"{SESSION}/none"):
        refused = await run.client.post(f"{path}/archive?userId=u2")
        assert problem(refused) == (404, "session_not_found")
    answer = await run.client.post(f"{SESSION}/{session_id}/archive")
    assert answer.status_code == 200, "the tenant's own service may"
