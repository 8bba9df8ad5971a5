"""The billed seconds are those of the last model call, paid from the reservation."""

import asyncio
from typing import Any

import pytest

from domain import metering
from service.model.offline.app import Fault, OfflineModel
from tests.running import LiveService, running
from tests.service import law

HANGS = Fault("hang", after=8, ping=0.2)
SILENT = Fault("hang", ping=0.2)


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every estimate is one second."""
    assert isinstance(metering.ESTIMATES, dict)
    for mode in metering.ESTIMATES:
        monkeypatch.setitem(metering.ESTIMATES, mode, 1)


def notices(events: list[law.Event]) -> list[Any]:
    return [data for name, data, _ in events if name == "notice"]


async def reserved(url: str) -> list[int]:
    """The seconds of the reservations in the log, which are all for one reply."""
    found = await law.logged(url, "TimeReserved")
    assert len({state["reservation_id"] for _, state in found}) == 1
    assert len({state["message_id"] for _, state in found}) == 1
    return [state["seconds"] for _, state in found]


async def given(live: LiveService, seconds: int) -> None:
    await live.project()
    await live.credit(seconds=seconds)


@pytest.mark.usefixtures("one_second")
async def test_a_reply_that_ends_releases_the_rest_of_its_reservation(url: str) -> None:
    async with running(url, OfflineModel(script=[Fault("slow_first", seconds=0.9)])) as live:
        await given(live, 100)
        events = await live.stream("Add a search field")
        final = law.lawful(events)
        assert final["subtype"] == "success"
        assert [data["code"] for data in notices(events)] == ["reservation_used"]
        # When more was reserved, the intent was not known yet.
        assert await reserved(url) == [1, 1]
        await law.stored(live, final)
        assert await law.billed(live, final, credited=100) == final["metadata"]["billed_seconds"]
        await law.healthy(live, url)


async def test_a_reply_reserves_the_last_seconds_of_a_balance(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(metering.ESTIMATES, dict)
    monkeypatch.setitem(metering.ESTIMATES, "general", 1)
    async with running(url, OfflineModel(script=[HANGS]), reply_seconds=1.2) as live:
        await given(live, 8)
        final = law.lawful(await live.stream("Add a search field"))
        assert await reserved(url) == [1, 7]
        assert await law.billed(live, final, credited=8) == 2


async def test_the_bill_is_the_time_of_the_last_call_rounded_up(url: str) -> None:
    """The reader waited for two failed calls, but pays only for the last call."""
    script = [SILENT, SILENT]
    async with running(url, OfflineModel(script=script), first_text_seconds=1.0) as live:
        await given(live, 36_000)
        events = await live.stream("Good morning")
        final = law.lawful(events)
        assert final["subtype"] == "success"
        assert live.model.calls == 3
        assert final["metadata"]["duration_ms"] > 2_000
        assert await law.billed(live, final) == 1
        assert [data["code"] for data in notices(events)] == ["provider_retry"] * 2


async def test_a_call_of_little_more_than_a_second_is_billed_as_two(url: str) -> None:
    async with running(url, OfflineModel(delay=1.05)) as live:
        await given(live, 36_000)
        final = law.lawful(await live.stream("Good morning"))
        assert await law.billed(live, final) == 2


@pytest.mark.usefixtures("one_second")
async def test_the_reservation_of_a_running_reply_cannot_be_spent_elsewhere(url: str) -> None:
    model = law.GatedModel()
    async with running(url, model) as live:
        await given(live, 2)
        await live.project("p2")
        first = asyncio.create_task(live.chat("Good morning"))
        await model.asked.wait()
        second = asyncio.create_task(live.chat("Good morning", projectId="p2"))
        async with asyncio.timeout(10):
            while (await live.account())["availableSeconds"] > 0:
                pass
        third = await live.chat("Good morning", onBusy="enqueue")
        assert third.status_code == 402
        model.go.set()
        finals = [(await answer).json() for answer in (first, second)]
        assert [final["subtype"] for final in finals] == ["success", "success"]
        assert await law.billed(live, *finals, credited=2) == 2
