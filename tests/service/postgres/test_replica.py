"""The service with a replica: a hot standby that answers reads while it keeps up."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from service.postgres.addresses import AddressRefused, require_replica
from service.postgres.embedded import Server
from service.postgres.replica import Replica
from tests import routes
from tests.routes import Route
from tests.running import LiveService, problem, running
from tests.standby import Standby, standby

READS = "throughline_replica_reads_total"
ACCOUNT = "/v1/billing/accounts/u1"


@pytest.fixture(scope="module")
def hot(server: Server) -> Iterator[Standby]:
    with standby(server) as started:
        yield started


@pytest.fixture
async def run(
    hot: Standby, url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LiveService]:
    """The service with the replica, which it follows; with the project p1 of u1."""
    hot.await_database(url)
    monkeypatch.setattr(routes, "route", lambda url: Route(url, url, hot.url(url)))
    async with running(url) as service:
        await service.project()
        await service.credit()
        await until(service, follows=True)
        yield service


def replica_of(service: LiveService) -> Replica:
    assert service.service.replica is not None
    return service.service.replica


async def until(service: LiveService, *, follows: bool) -> None:
    """Wait until reads go to the replica, or until they do not."""
    async with asyncio.timeout(60):
        while replica_of(service).follows is not follows:
            if follows:
                replica_of(service).doubt()  # it is looked at again at once
            await asyncio.sleep(0.05)


def answered(by: str) -> float:
    """How many reads the replica or the primary has answered."""
    return REGISTRY.get_sample_value(READS, {"answered_by": by}) or 0.0


async def balance(service: LiveService, at_least: str | None = None) -> tuple[int, int]:
    """The seconds of u1, and the position that the answer holds for."""
    headers = {} if at_least is None else {"X-Min-Position": at_least}
    answer = await service.client.get(ACCOUNT, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["availableSeconds"], int(answer.headers["X-Log-Position"])


async def paid(service: LiveService, seconds: int) -> str:
    """Give u1 more seconds; returns the position of that."""
    body = {"userId": "u1", "seconds": seconds, "kind": "paid"}
    answer = await service.client.post("/v1/billing/credits", json=body)
    return str(answer.headers["X-Log-Position"])


async def test_reads_are_answered_by_the_replica_and_never_miss_what_was_written_before(
    run: LiveService,
) -> None:
    before = answered("replica")
    for count in range(1, 11):
        at = await paid(run, 1)
        expected = 36_000 + count
        seconds, position = await balance(run, at if count % 2 else None)
        assert (seconds, position >= int(at)) == (expected, True)
    assert answered("replica") > before


async def test_a_conversation_is_told_alike_by_the_replica_and_the_primary(
    run: LiveService,
) -> None:
    events = await run.stream("Good morning")
    paths = (
        "/v1/project/p1/timeline",
        "/v1/projects/p1/analytics",
        "/v1/projects/p1/sessions",
        "/v1/projects/p1/drafts?userId=u1",
        f"/v1/chat-plan/replies/{events[0][1]['messageId']}?userId=u1",
    )
    there = [await run.client.get(path) for path in paths]
    replica_of(run).follows = False
    here = [await run.client.get(path) for path in paths]
    assert [each.status_code for each in here] == [each.status_code for each in there]
    assert [each.json() for each in here[2:]] == [each.json() for each in there[2:]]
    assert here[0].json() == there[0].json()


async def test_a_replica_that_falls_behind_is_left_and_what_it_lacks_is_no_404(
    run: LiveService, hot: Standby
) -> None:
    with hot.paused():
        await paid(run, 4)
        assert (await balance(run))[0] == 36_004
        at = await paid(run, 1)
        assert (await balance(run, at))[0] == 36_005
        await run.project("p2")
        assert (await run.client.get("/v1/projects/p2")).status_code == 200
        await until(run, follows=False)
        before = answered("replica")
        assert (await balance(run))[0] == 36_005
        assert answered("replica") == before
    await until(run, follows=True)
    assert (await balance(run))[0] == 36_005
    assert answered("replica") == before + 1


async def test_a_position_that_the_log_has_not_come_to_is_refused_as_without_a_replica(
    run: LiveService,
) -> None:
    answer = await run.client.get(ACCOUNT, headers={"X-Min-Position": "1000000"})
    assert problem(answer) == (409, "position_not_in_log")
    assert problem(await run.client.get("/v1/projects/none")) == (404, "project_not_found")


async def test_reads_go_on_while_the_replica_is_stopped_and_return_to_it(
    run: LiveService, hot: Standby
) -> None:
    answers: list[Any] = []

    async def read() -> None:
        while True:
            answers.append(await run.client.get(ACCOUNT))

    reading = asyncio.create_task(read())
    await asyncio.to_thread(hot.stop)
    await until(run, follows=False)
    assert (await balance(run, await paid(run, 7)))[0] == 36_007
    await asyncio.to_thread(hot.start)
    await until(run, follows=True)
    before = answered("replica")
    assert (await balance(run))[0] == 36_007
    reading.cancel()
    assert answered("replica") > before
    assert {answer.status_code for answer in answers} == {200}


async def test_reads_go_on_while_the_replica_is_frozen(run: LiveService, hot: Standby) -> None:
    frozen = [hot.process, *hot.process.children(recursive=True)]
    for process in frozen:
        process.suspend()
    try:
        answers = await asyncio.gather(*(run.client.get(ACCOUNT) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert not replica_of(run).follows
    finally:
        for process in frozen:
            process.resume()
    await until(run, follows=True)


async def test_the_address_of_the_replica_must_be_that_of_a_standby_of_the_database(
    hot: Standby, url: str, new_database: Callable[[], str]
) -> None:
    hot.await_database(url)
    assert await require_replica(hot.url(url), url)
    with pytest.raises(AddressRefused, match="is no replica"):
        await require_replica(url, url)
    with pytest.raises(AddressRefused, match="a replica of another database"):
        await require_replica(hot.url(url), new_database())
    nowhere = psycopg.conninfo.make_conninfo(url, host="/nowhere")
    assert not await require_replica(nowhere, url)
