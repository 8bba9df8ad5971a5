"""The newest items of a stream, shared by its readers."""

import asyncio
import gc
from weakref import ref

from hypothesis import given
from hypothesis import strategies as st

from service.concurrency.ring import Ring


def filled(*positions: int, most: int = 100, most_bytes: int = 1_000, size: int = 1) -> Ring[str]:
    ring: Ring[str] = Ring(most, most_bytes)
    ring.extend(positions, [f"item {each}" for each in positions], [size] * len(positions))
    return ring


def test_a_reader_gets_the_items_after_its_cursor() -> None:
    ring = filled(2, 3, 7)
    assert ring.after(0) == ["item 2", "item 3", "item 7"]
    assert ring.after(3) == ["item 7"]
    assert ring.after(7) == []
    assert ring.after(0, limit=2) == ["item 2", "item 3"]


def test_a_reader_below_the_floor_is_sent_elsewhere() -> None:
    ring = filled(1, 2, 3, most=2)
    assert ring.floor == 1
    assert ring.after(0) is None
    assert ring.after(1) == ["item 2", "item 3"]


def test_the_ring_is_bounded_by_bytes() -> None:
    ring = filled(1, 2, 3, most_bytes=25, size=10)
    assert (len(ring), ring.total_bytes, ring.floor) == (2, 20, 1)


def test_an_item_larger_than_the_ring_is_not_kept() -> None:
    ring = filled(1, 2, most_bytes=25, size=30)
    assert (len(ring), ring.floor, ring.upto) == (0, 2, 2)


def test_a_restart_forgets_all_items() -> None:
    ring = filled(1, 2)
    ring.restart(9)
    assert (ring.after(8), ring.after(9), ring.upto, ring.total_bytes) == (None, [], 9, 0)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 40)), max_size=200))
def test_the_ring_always_has_the_newest_items_within_its_bounds(
    steps: list[tuple[int, int]],
) -> None:
    ring: Ring[int] = Ring(10, 100)
    everything: list[int] = []
    position = 0
    for gap, size in steps:
        position += gap
        everything.append(position)
        ring.extend([position], [position], [size])
        kept = ring.after(ring.floor)
        assert kept == [each for each in everything if each > ring.floor]
        assert len(ring) <= 10
        assert ring.total_bytes <= 100
        assert len(ring._items) <= 2 * len(ring) + 1


async def test_a_waiting_reader_is_woken_by_news() -> None:
    ring = filled()
    waiting = asyncio.create_task(ring.wait(60.0))
    await asyncio.sleep(0)
    ring.extend([1], ["item 1"], [1])
    assert await waiting is True


async def test_a_reader_learns_that_there_was_no_news_and_leaves_nothing_behind() -> None:
    ring = filled()
    assert await ring.wait(0.0) is False
    assert not ring._waiters


async def test_a_reader_that_is_cancelled_leaves_nothing_behind() -> None:
    ring = filled()
    waiting = asyncio.create_task(ring.wait(60.0))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not ring._waiters


async def test_a_wait_ends_after_its_time_whatever_other_readers_wait_for() -> None:
    ring = filled(1)
    long = asyncio.create_task(ring.wait(60.0))
    await asyncio.sleep(0)
    assert await ring.wait(0.001) is False
    assert await ring.wait(0.001) is False
    assert not long.done()
    ring.wake()
    assert await long is True


async def test_readers_that_began_to_wait_one_after_the_other_all_come_to_their_end() -> None:
    ring = filled(1)
    waits = [asyncio.create_task(ring.wait(n / 1_000)) for n in range(1, 20)]
    async with asyncio.timeout(10):
        assert await asyncio.gather(*waits) == [False] * len(waits)


async def test_a_timer_keeps_no_ring_alive() -> None:
    ring = filled(1)
    waiting = asyncio.create_task(ring.wait(60.0))
    await asyncio.sleep(0)
    ring.wake()
    assert await waiting
    known = ref(ring)
    del ring, waiting
    gc.collect()
    assert known() is None
