"""The time budget alone and through the service: a warning, an extension, or the end."""

import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from domain.metering import ESTIMATES
from service.chat.time_budget import TimeBudget
from service.model.offline.app import OfflineModel
from tests.running import Event, running
from tests.service import law
from tests.service.chat.test_faults import notices


class RecordedBudget:
    """Grants the given extensions in turn, then 0, and records every call. Its clock advances only
    while a budget sleeps."""

    def __init__(self, *extensions: int) -> None:
        self.now = 0.0
        self.happened: list[str] = []
        self.left = list(extensions)
        self.warned = asyncio.Event()

    async def extend(self, reserved_seconds: int) -> int:
        assert reserved_seconds == int(self.happened[-1].removeprefix("warn at "))
        more = self.left.pop(0) if self.left else 0
        self.happened.append(f"extend by {more}")
        return more

    def warn(self, seconds: int) -> None:
        self.happened.append(f"warn at {seconds}")
        self.warned.set()

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    def budget(self, seconds: int) -> TimeBudget:
        return TimeBudget(
            seconds,
            extend=self.extend,
            warn=self.warn,
            clock=lambda: self.now,
            sleep=self.sleep,
        )


class Slow(RecordedBudget):
    """Takes 0.9 seconds for an extension, which is longer than the time of the next warning."""

    async def extend(self, reserved_seconds: int) -> int:
        more = await super().extend(reserved_seconds)
        self.now += 0.9
        return more


async def test_a_budget_warns_before_each_extension_and_ends_without_one() -> None:
    recorded = RecordedBudget(1)
    await recorded.budget(1).run()
    assert recorded.happened == ["warn at 1", "extend by 1", "warn at 2", "extend by 0"]
    assert recorded.now == pytest.approx(2)  # the whole reservation can be used


async def test_the_time_of_an_extension_counts() -> None:
    recorded = Slow(1)
    await recorded.budget(1).run()
    assert recorded.happened == ["warn at 1", "extend by 1", "warn at 2", "extend by 0"]
    assert recorded.now == pytest.approx(0.8 + 0.9 + 0.9)


async def test_a_stopped_budget_reserves_nothing_more() -> None:
    recorded = RecordedBudget(5, 5, 5)
    running = asyncio.create_task(recorded.budget(1).run())
    await recorded.warned.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert recorded.happened in (["warn at 1"], ["warn at 1", "extend by 5"])


# Through the service -----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _a_second_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in ESTIMATES:
        monkeypatch.setitem(ESTIMATES, mode, 1)


async def test_a_long_reply_is_extended_and_its_reader_notified(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ESTIMATES, "question", 7)
    async with running(url, OfflineModel(pace=0.04)) as live:
        await live.project()
        await live.credit()
        events = await live.stream("How does the login work?")
        final = law.lawful(events)
        assert final["subtype"] == "success"
        assert notices(events) == ("reservation_used",)
        notice = next(data for name, data, _ in events if name == "notice")
        assert notice == {
            "code": "reservation_used",
            "template": "reservation_used",
            "variables": {"percent": 80, "reserved_seconds": 1},
        }
        # The first reservation is that of a message without a hint, the second one of the intent.
        reserved = [event["seconds"] for _, event in await law.logged(url, "TimeReserved")]
        assert reserved == [1, 7]
        assert len(await law.logged(url, "TimeConsumed")) == 1
        assert final["metadata"]["billed_seconds"] >= 2
        await law.ended_as_shown(live, url, final)


async def test_an_extension_whose_outcome_was_unknown_is_not_made_a_second_time(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for again after another command has changed the account."""
    for mode in ESTIMATES:
        monkeypatch.setitem(ESTIMATES, mode, 60)
    model = law.GatedModel()
    async with running(url, model) as live:
        await live.project()
        await live.credit()
        reading = asyncio.create_task(live.stream("Good morning"))
        await model.asked.wait()
        ((_, started),) = await law.logged(url, "ReplyStarted")
        row = await live.service.turns.find("t1", started["message_id"])
        assert row is not None
        reply = await live.service.turns._recovery.inspect(row)
        assert reply is not None
        for _ in range(2):
            extended = await live.service.turns._recovery._settlement.extend(
                reply.admitted, "general", reply.admitted.reserved_seconds
            )
            assert extended == 60
            await live.credit()
        assert len(await law.logged(url, "TimeReserved")) == 2
        model.go.set()
        law.lawful(await reading)


async def test_a_reply_ends_partial_when_the_balance_is_used_up(url: str) -> None:
    async with running(url) as live:
        await live.project()
        await live.credit(seconds=2)
        events = await live.stream("Good morning [[offline: hang after=8]]")
        final = law.lawful(events)
        assert (final["subtype"], final["reason"]) == ("partial", "balance")
        assert notices(events) == ("reservation_used", "reservation_used")
        reserved = [event["seconds"] for _, event in await law.logged(url, "TimeReserved")]
        assert reserved == [1, 1]
        # The call took a little more than two seconds; no more is billed than was reserved.
        assert final["metadata"]["billed_seconds"] == 2
        assert (await live.account())["availableSeconds"] == 0
        page = (await live.client.get("/v1/project/p1/timeline?userId=u1")).json()
        said, reply = page["items"][:2]
        assert said["aiResponse"]["data"]["template"] == "reply_balance"
        assert reply["aiResponse"]["billedSeconds"] == 2
        assert 0 <= reply["aiResponse"]["firstTextMs"] <= reply["aiResponse"]["duration"]
        await law.stored(live, final)
        await law.billed(live, final, credited=2)
        await law.healthy(live, url)


async def test_a_reply_without_chunks_gives_back_the_last_second(url: str) -> None:
    async with running(url) as live:
        await live.project()
        await live.credit(seconds=1)
        final = law.lawful(await live.stream("Good morning [[offline: hang]]"))
        assert final["error"] == {"code": "balance", "template": "reply_balance", "variables": {}}
        assert (await live.account())["availableSeconds"] == 1
        await law.stored(live, final)
        await law.healthy(live, url)


async def test_an_extension_does_not_use_reservations_of_other_replies(url: str) -> None:
    async with running(url) as live:
        await live.project()
        await live.credit(seconds=2)
        await live.project("p2")
        said = "Good morning [[offline: hang after=8]]"
        transactions = [live.stream(said, projectId=project_id) for project_id in ("p1", "p2")]
        finals = [law.lawful(events) for events in await asyncio.gather(*transactions)]
        assert [final["reason"] for final in finals] == ["balance", "balance"]
        assert await law.billed(live, *finals, credited=2) == 2
        await law.healthy(live, url)


@pytest.mark.parametrize("after", [0, 8])
async def test_no_reply_takes_longer_than_the_maximum(url: str, after: int) -> None:
    async with running(url, reply_seconds=0.3) as live:
        await live.project()
        await live.credit()
        final = law.lawful(await live.stream(f"Good morning [[offline: hang after={after}]]"))
        if after:
            assert (final["subtype"], final["reason"]) == ("partial", "time_limit")
            assert final["metadata"]["billed_seconds"] == 1
        else:
            assert final["error"]["code"] == "time_limit"
        await law.ended_as_shown(live, url, final)


async def test_only_the_models_time_in_the_attempt_that_is_kept_counts(url: str) -> None:
    """A provider that is busy for longer than the reservation takes nothing of it."""
    async with running(url) as live:
        await live.project()
        await live.credit(seconds=1)
        said = "Good morning [[offline: status code=529 retry_after=3 times=1]]"
        events = await live.stream(said)
        final = law.lawful(events)
        assert final["subtype"] == "success"
        assert notices(events) == ("provider_retry",)
        assert final["metadata"]["billed_seconds"] == 1
        await law.stored(live, final)
        await law.billed(live, final, credited=1)
        await law.healthy(live, url)


async def test_a_fault_in_the_time_budget_is_logged_and_is_no_empty_balance(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no estimate for the extension: the reply ends as an error that bills nothing."""
    async with running(url) as live:
        await live.project()
        await live.credit()
        events: list[Event] = []
        with capture_logs() as logged:
            said = "Good morning [[offline: hang after=8]]"
            async for event in law.read_stream(live, said):
                if not events:
                    monkeypatch.delitem(ESTIMATES, "general")
                events.append(event)
        final = law.lawful(events)
        assert final["error"]["code"] == "internal"
        (fault,) = [entry for entry in logged if entry["event"] == "turn_task_failed"]
        assert isinstance(fault["exc_info"], KeyError)
        assert (await live.account())["availableSeconds"] == 36_000
        await law.stored(live, final)
        await law.healthy(live, url)
