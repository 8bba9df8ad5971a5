"""What happens at the knee and far beyond it: replies at 20 chunks a second, and refused posts.

The knee is the highest number of replies at once whose chunks are read within 250 ms at p99.
Beyond it, clients press on: each posts, waits as `Retry-After` says when it is refused, reads its
reply to the end when it is not, and posts again. Goodput is the chunks that are read in a second.
"""

import asyncio
import json
import random
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import uvloop

from scripts.bench.streams import (
    PACE,
    Figure,
    NotCarried,
    Read,
    Target,
    connected,
    load,
    message,
    new_databases,
    requested,
    retry_after,
    serving,
)
from scripts.bench.wire_model import StampingModel

STEP: Final = 50
MOST_MS: Final = 250.0
SECONDS: Final = 20.0
WARM_SECONDS: Final = 6.0
REPLY_SECONDS: Final = 5.0


@dataclass(slots=True)
class Pressed:
    """What clients met that pressed on: how long each refusal took, and what went wrong."""

    reads: list[Read] = field(default_factory=list[Read])
    refusals: list[float] = field(default_factory=list[float])
    in_doubt: int = 0
    goodput: float = 0.0


async def knee(target: Target, model: StampingModel, upto: int) -> tuple[int, float]:
    """The highest number of replies within the limit, and the chunks a second that are read."""
    found, goodput = STEP, STEP / PACE
    for streams in range(STEP, upto + 1, STEP):
        try:
            seen = await load(target, streams, model)
        except NotCarried:
            break
        if seen.p99_ms > MOST_MS:
            break
        found, goodput = streams, seen.chunks_per_second
    return found, goodput


async def press(target: Target, clients: int) -> Pressed:
    """Press on with this number of clients for some seconds; then every reply comes to its end."""
    pressed, end = Pressed(), monotonic() + SECONDS
    began = monotonic() + WARM_SECONDS

    async def client(number: int) -> None:
        await asyncio.sleep(random.random())
        while monotonic() < end:  # noqa: ASYNC110 - nothing can be awaited: the server says when
            await asyncio.sleep(await _post(target, number, pressed))

    await asyncio.gather(*(client(number) for number in range(clients)))
    times = [at / 1e9 for each in pressed.reads for at in each.times]
    pressed.goodput = sum(began <= at < end for at in times) / (end - began)
    return pressed


async def _post(target: Target, number: int, pressed: Pressed) -> float:
    """Post once; returns for how many seconds to wait before the next post."""
    sent = monotonic()
    async with connected(target) as (reader, writer):
        writer.write(requested("POST", "/v1/chat-plan", message(number)))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if " 200 " in head.split("\r\n")[0]:
            into = Read()
            pressed.reads.append(into)
            await into.receive_all(reader)
            return 0.0
        pressed.refusals.append(monotonic() - sent)
        problem = json.loads(await reader.read())
    pressed.in_doubt += problem.get("stored") != "nothing"
    return retry_after(head)


def run(upto: int) -> list[Figure]:
    """Measure on a PostgreSQL of its own."""
    model = StampingModel(deltas=round(REPLY_SECONDS / PACE), pace=PACE)

    async def measured(database_url: str) -> list[Figure]:
        async with serving(database_url, model, upto * 10) as target:
            return await measure(target, model, upto)

    with new_databases() as new_database:
        return uvloop.run(measured(new_database()))


async def measure(target: Target, model: StampingModel, upto: int) -> list[Figure]:
    """The knee, and what becomes of twice and ten times its posts."""
    streams, goodput = await knee(target, model, upto)
    figures = [Figure("knee: replies at 20 chunks/s within 250 ms at p99", streams, upto)]
    for times in (2, 10):
        pressed = await press(target, streams * times)
        broken = sum(not each.is_whole for each in pressed.reads)
        gaps = sum(each.ids != list(range(1, len(each.ids) + 1)) for each in pressed.reads)
        slowest = sorted(pressed.refusals)[-1 - len(pressed.refusals) // 100 :][:1]
        figures += [
            Figure(
                f"{times} times the knee: chunks/s at the knee against chunks/s here",
                goodput / max(pressed.goodput, 1.0),
                1.25,
                f"{len(pressed.reads):,} replies, {len(pressed.refusals):,} refusals",
            ),
            Figure(f"{times} times the knee: in doubt", pressed.in_doubt, 0),
            Figure(f"{times} times the knee: replies that lost something", broken + gaps, 0),
            Figure(f"{times} times the knee: refused within, s at p99", sum(slowest), 1),
        ]
    return figures
