"""Measures appends: through the writer, and through the command path above it."""

import asyncio
import multiprocessing
import time
from functools import partial
from statistics import median
from threading import Barrier
from typing import Final
from uuid import uuid4

import orjson
import uvloop

from domain.deciders import session
from scripts.bench.load import TEXT, message, running_log, timed
from service.eventlog.live import LiveLog
from service.eventlog.store import NewEvent
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import Transaction, Transactions
from service.postgres import connections

PROCESSES: Final = 4
_barriers: list[Barrier] = []


def append(url: str, callers: int, seconds: float) -> float:
    """One event an append, through the writer: events a second."""
    return uvloop.run(_append(url, callers, seconds))


async def _append(url: str, callers: int, seconds: float) -> float:
    async with running_log(url) as (_, _, writer):
        ids = [str(uuid4()) for _ in range(callers)]
        streams = [str(session_stream(each)) for each in ids]
        for each, stream in zip(ids, streams, strict=True):
            opened = orjson.dumps(
                {"session_id": each, "project_id": "p", "user_id": "u", "mode": "plan"}
            )
            await writer.append([NewEvent("t", stream, 1, "SessionOpened", opened, "p")])

        async def call(caller: int, count: int) -> None:
            state, stream = message(ids[caller], count), streams[caller]
            await writer.append([NewEvent("t", stream, count + 2, "UserMessagePosted", state, "p")])

        return await timed(callers, seconds, call)


def in_processes(url: str, callers: int, seconds: float) -> float:
    """The same in four processes on one database, each with so many callers: their sum."""
    context = multiprocessing.get_context("spawn")
    shared = (context.Barrier(PROCESSES),)
    with context.Pool(PROCESSES, initializer=_meet_at, initargs=shared) as pool:
        return sum(pool.starmap(_together, [(url, callers, seconds)] * PROCESSES, chunksize=1))


def _meet_at(barrier: Barrier) -> None:
    _barriers.append(barrier)


def _together(url: str, callers: int, seconds: float) -> float:
    """Append in this process, from the moment on when all of them can."""
    _barriers[0].wait()
    return append(url, callers, seconds)


def command(url: str, callers: int, seconds: float) -> float:
    """One decision on a session: encode its event, append, remember the state. Events a second."""
    return uvloop.run(_command(url, callers, seconds))


async def _command(url: str, callers: int, seconds: float) -> float:
    async with running_log(url) as (store, _, writer):
        transactions = Transactions(store, writer)
        ids = [str(uuid4()) for _ in range(callers)]

        async def begin(transaction: Transaction, session_id: str) -> None:
            opening = partial(
                session.open_session, session_id=session_id, project_id="p", user_id="u"
            )
            await transaction.decide(session_stream(session_id, "p"), opening)

        async def rename(transaction: Transaction, session_id: str, name: str) -> None:
            details = session.Details(name=name)
            decision = partial(session.change, details=details, revisions=None)
            await transaction.decide(session_stream(session_id, "p"), decision)

        for each in ids:
            await transactions.transact("t", partial(begin, session_id=each))

        async def call(caller: int, count: int) -> None:
            work = partial(rename, session_id=ids[caller], name=f"{count}{TEXT}")
            await transactions.transact("t", work)

        return await timed(callers, seconds, call)


def tail_here(url: str, callers: int, seconds: float) -> tuple[float, float]:
    """The time until a follower in the same process has an event, and until the append is answered.

    Both are medians in milliseconds from the call of the append. No event may be missing.
    """
    return uvloop.run(_tail(url, callers, seconds, far=False))


def tail_far(url: str, callers: int, seconds: float) -> tuple[float, float]:
    """The same for a follower in another process, which gets NOTIFY and reads the table."""
    return uvloop.run(_tail(url, callers, seconds, far=True))


async def _tail(url: str, callers: int, seconds: float, *, far: bool) -> tuple[float, float]:
    ids = [str(uuid4()) for _ in range(callers)]
    begun: dict[tuple[str, int], float] = {}
    answered: list[float] = []
    seen: list[float] = []

    async def follow(live_log: LiveLog) -> None:
        async for page in live_log.follow(0):
            now = time.perf_counter()
            for each in page:
                if each.stream_id == "end":
                    return
                seen.append(now - begun.pop((each.stream_id, each.version)))

    async with running_log(url) as (_, near, writer), running_log(url) as (_, elsewhere, _):
        listening = asyncio.create_task(elsewhere.run(partial(connections.connect, url)))
        await elsewhere.listening.wait()
        following = asyncio.create_task(follow(elsewhere if far else near))

        async def call(caller: int, count: int) -> None:
            stream, began = ids[caller], time.perf_counter()
            begun[stream, count + 1] = began
            state = message(stream, count)
            await writer.append([NewEvent("t", stream, count + 1, "UserMessagePosted", state, "p")])
            answered.append(time.perf_counter() - began)

        await timed(callers, seconds, call)
        await writer.append([NewEvent("t", "end", 1, "End", b"{}")])
        await following
        assert not begun, "events are missing"
        listening.cancel()
    return median(seen) * 1e3, median(answered) * 1e3
