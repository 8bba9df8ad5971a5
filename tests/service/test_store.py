from collections.abc import AsyncIterator

import pytest

from service import store
from tests.service.logs import Log, event, everything, running_log

ODD = [b"", b"\\", b"\\x00\t\n", b"\xff\xfe", b'{"a":"\\u0000"}', "ü☃😀".encode(), b"\0" * 10]


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with running_log(url) as running:
        yield running


async def test_what_is_read_is_what_was_appended(log: Log) -> None:
    for state in ODD:
        await log.writer.append([event("odd\t\\n", state=state, version=ODD.index(state) + 1)])
    by_stream = await log.store.stream("t1", "odd\t\\n")
    assert [each.state for each in by_stream] == ODD
    assert by_stream == await log.store.range(after=0) == await everything(log.store)


async def test_a_replay_in_pages_is_whole(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "REPLAY_PAGE", 7)
    await log.writer.append([event("a", n) for n in range(1, 51)])
    pages = [page async for page in log.store.replay(after=3, upto=45)]
    assert [each.position for page in pages for each in page] == list(range(4, 46))
    assert max(map(len, pages)) == 7


async def test_a_stream_is_read_after_a_version(log: Log) -> None:
    await log.writer.append([event("a", n) for n in range(1, 6)])
    assert [each.version for each in await log.store.stream("t1", "a", after=3)] == [4, 5]
    assert await log.store.stream("t1", "b") == []


async def test_ranges_are_filtered_and_paged_by_position(log: Log) -> None:
    for n in range(1, 31):
        wanted = event(tenant=f"t{n % 2}", kind=f"K{n % 3}")._replace(project_id=f"p{n % 5}")
        await log.writer.append([wanted])
    every = await everything(log.store)

    async def read(**scope: object) -> list[int]:
        found: list[int] = []
        while page := await log.store.range(after=(found or [0])[-1], limit=4, **scope):  # type: ignore[arg-type]
            found += [each.position for each in page]
        return found

    assert await read() == list(range(1, 31))
    assert await read(tenant_id="t1") == [e.position for e in every if e.tenant_id == "t1"]
    assert await read(tenant_id="t1", types=["K0", "K2"]) == [
        e.position for e in every if e.tenant_id == "t1" and e.type in ("K0", "K2")
    ]
    assert await read(tenant_id="t0", project_id="p3") == [
        e.position for e in every if (e.tenant_id, e.project_id) == ("t0", "p3")
    ]
    assert await read(tenant_id="nobody") == []


async def test_the_epoch_belongs_to_the_database(log: Log, new_database: object) -> None:
    assert callable(new_database)
    epoch = await log.store.epoch()
    assert len(epoch) == 8
    async with running_log(new_database()) as other:
        assert await other.store.epoch() != epoch
    assert await log.store.epoch() == epoch
