"""Retries: the same work again, after a pause that grows, until it succeeds or time is up."""

import asyncio
from collections.abc import Awaitable, Callable
from math import isnan
from typing import Final, TypeVar

import structlog

T = TypeVar("T")

PAUSES_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""The pauses after the first failures; the last pause repeats."""

_log = structlog.stdlib.get_logger(__name__)


async def retrying(
    work: Callable[[], Awaitable[T]],
    on: tuple[type[Exception], ...],
    *,
    event: str,
    pauses: tuple[float, ...] = PAUSES_SECONDS,
    seconds: float | None = None,
) -> T:
    """Return the result of `work`; repeat `work` each time it raises one of the errors in `on`.

    Each failure is logged as `event`, with the error's type alone: its text may quote data. Raises
    TimeoutError when `seconds` are over, and at once any other error that `work` raises.
    """
    async with asyncio.timeout(seconds):
        failures = 0
        while True:
            try:
                return await work()
            except on as error:
                _log.warning(event, error=type(error).__name__)
                await asyncio.sleep(pauses[min(failures, len(pauses) - 1)])
                failures += 1


def retry_after(header: str | None, longest: float) -> float | None:
    """The seconds of a header Retry-After, at most `longest`; None where it names no seconds."""
    try:
        seconds = float(header or "nan")
    except ValueError:
        return None
    return None if isnan(seconds) else min(max(0.0, seconds), longest)
