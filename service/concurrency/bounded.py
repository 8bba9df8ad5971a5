"""The same work for many items, for a bounded number of items at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def for_each(
    items: Iterable[T], work: Callable[[T], Awaitable[object]], *, most: int
) -> None:
    """Do the work for each item, for at most `most` items at a time, in their order.

    An error ends one of the `most` workers, and the others go on with the items. The first error
    is raised when all workers have ended.
    """
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await work(item)

    ends = await asyncio.gather(*(worker() for _ in range(most)), return_exceptions=True)
    for error in ends:
        if error is not None:
            raise error
