"""The same work for many items, for a bounded number of items at a time."""

import asyncio

import pytest

from service.concurrency.bounded import for_each


class Refused(Exception):
    """The work fails."""


class Work:
    """Work that waits for `go`; it counts how many items are in it at a time."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.running = self.most = 0
        self.done: list[int] = []

    async def __call__(self, item: int) -> None:
        """Wait, then fail for a negative item."""
        self.running += 1
        self.most = max(self.most, self.running)
        await self.go.wait()
        self.running -= 1
        if item < 0:
            raise Refused
        self.done.append(item)


async def test_each_item_is_done_once_and_never_more_than_the_bound_at_a_time() -> None:
    work = Work()
    doing = asyncio.create_task(for_each(range(10), work, most=3))
    while work.running < 3:  # noqa: ASYNC110 - no event says so
        await asyncio.sleep(0)
    work.go.set()
    await doing
    assert (work.most, sorted(work.done)) == (3, list(range(10)))


async def test_an_error_is_raised_after_the_other_items_are_done() -> None:
    work = Work()
    work.go.set()
    with pytest.raises(Refused):
        await for_each([-1, 1, 2, 3], work, most=2)
    assert work.done == [1, 2, 3]


async def test_work_ends_when_every_worker_has_failed() -> None:
    work = Work()
    work.go.set()
    with pytest.raises(Refused):
        await for_each([-1, -2, 1, 2], work, most=2)
    assert work.done == []
