"""Items that are written together."""

import asyncio
from weakref import ref

import pytest

from service.concurrency.batcher import Batcher


class Store:
    """Writes batches into a list; `gate` holds a write back."""

    def __init__(
        self, *, most: int = 3, gather_seconds: float = 60.0, urgent_alone: bool = False
    ) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.has_begun = asyncio.Event()
        self.batcher = Batcher(
            self.write, most=most, gather_seconds=gather_seconds, urgent_alone=urgent_alone
        )

    async def write(self, batch: list[int]) -> None:
        self.has_begun.set()
        await self.gate.wait()
        self.batches.append(batch)


async def test_an_urgent_item_is_written_at_once_with_all_that_wait() -> None:
    store = Store()
    running = asyncio.create_task(store.batcher.run())
    store.batcher.add(1)
    store.batcher.add(2, is_urgent=True)
    await store.has_begun.wait()
    store.batcher.close()
    await running
    assert store.batches == [[1, 2]]


async def test_an_urgent_item_can_be_written_alone_while_another_item_goes_on_waiting() -> None:
    store = Store(urgent_alone=True)
    running = asyncio.create_task(store.batcher.run())
    store.batcher.add(1)
    store.batcher.add(2, is_urgent=True)
    await store.has_begun.wait()
    assert len(store.batcher) == 1
    store.batcher.close()
    await running
    assert store.batches == [[2], [1]]


async def test_an_item_that_waits_can_become_urgent_and_waits_no_more() -> None:
    store = Store(urgent_alone=True)
    running = asyncio.create_task(store.batcher.run())
    first, second = 1_001, 1_002
    store.batcher.add(first)
    store.batcher.add(second)
    store.batcher.hasten(first)
    await store.has_begun.wait()
    assert store.batches == [[first]]
    store.batcher.close()
    await running
    assert store.batches == [[first], [second]]


async def test_items_that_are_due_are_written_with_the_urgent_items_of_that_moment() -> None:
    store = Store(gather_seconds=0.0, urgent_alone=True)
    store.batcher.add(1)
    store.batcher.add(2, is_urgent=True)
    store.batcher.close()
    await store.batcher.run()
    assert store.batches == [[1, 2]]


async def test_items_that_are_not_urgent_are_gathered_for_a_moment() -> None:
    store = Store(gather_seconds=0.001)
    running = asyncio.create_task(store.batcher.run())
    store.batcher.add(1)
    store.batcher.add(2)
    await store.has_begun.wait()
    store.batcher.close()
    await running
    assert store.batches == [[1, 2]]


async def test_a_batch_has_at_most_the_given_number_of_items_and_a_full_batch_does_not_wait() -> (
    None
):
    store = Store()
    for number in range(7):
        store.batcher.add(number)
    store.batcher.close()
    await store.batcher.run()
    assert store.batches == [[0, 1, 2], [3, 4, 5], [6]]


async def test_items_that_come_in_during_a_write_are_the_next_batch_and_count_as_waiting() -> None:
    store = Store()
    store.gate.clear()
    running = asyncio.create_task(store.batcher.run())
    store.batcher.add(1, is_urgent=True)
    await store.has_begun.wait()
    store.batcher.add(2, is_urgent=True)
    assert len(store.batcher) == 2
    store.gate.set()
    store.batcher.close()
    await running
    assert store.batches == [[1], [2]]
    assert len(store.batcher) == 0


async def test_run_raises_the_error_of_a_write_and_keeps_its_items() -> None:
    store = Store()

    async def fail(_: list[int]) -> None:
        raise ValueError

    broken = Batcher(fail, most=3, gather_seconds=60.0)
    broken.add(1, is_urgent=True)
    with pytest.raises(ValueError):  # noqa: PT011 - its type is all there is
        await broken.run()
    assert len(broken) == 1
    assert store.batches == []


async def test_a_batch_that_was_written_is_not_kept() -> None:
    written = asyncio.Event()

    async def write(_: list[Item]) -> None:
        written.set()

    batcher = Batcher(write, most=3, gather_seconds=60.0)
    running = asyncio.create_task(batcher.run())
    item = Item()
    kept = ref(item)
    batcher.add(item, is_urgent=True)
    del item
    await written.wait()
    await asyncio.sleep(0)
    assert kept() is None, "it would be held until the next batch"
    batcher.close()
    await running


class Item:
    """Something to write."""
