"""What happens at the knee and far beyond it: replies at 20 chunks a second, and refused posts.

The knee is the highest number of replies at once whose chunks are read within 250 ms at p99.
Then twice and ten times as many clients post messages. A client with a refused message waits as
long as `Retry-After` says and posts again. A client whose message is accepted reads the whole
reply and posts again. The clients begin one after the other within the time of one reply. Goodput
is the number of chunks that all clients read in a second.
"""

import asyncio
import json
import random
import re
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import uvloop

from scripts.bench import cores
from scripts.bench.streams import (
    PACE,
    Figure,
    Load,
    NotCarried,
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
PART: Final = 0.25
"""The part of a core that a worker has in the simulation of a larger machine."""

PART_STEP: Final = 20
MOST_MS: Final = 250.0
FEWEST_MORE: Final = 1.7
"""How many times the replies of one worker two workers have to carry."""

SECONDS: Final = 30.0
WARM_SECONDS: Final = 10.0
REPLY_SECONDS: Final = 10.0
_NUMBER: Final = re.compile(rb"^id: [0-9a-f-]{36}\.(\d+)$", re.M)


@dataclass(slots=True)
class Pressed:
    """What clients met that pressed on: how long each refusal took, and what went wrong."""

    replies: list[bytes] = field(default_factory=list[bytes])
    refusals: list[float] = field(default_factory=list[float])
    in_doubt: int = 0
    chunks: int = 0
    """The chunks that were read while it was measured."""

    @property
    def broken(self) -> int:
        """The replies that lost or repeated an event, or had no end."""
        return sum(not _is_whole(each) for each in self.replies)


def _is_whole(reply: bytes) -> bool:
    numbers = [int(each) for each in _NUMBER.findall(reply)]
    return numbers == list(range(1, len(numbers) + 1)) and b"event: final\n" in reply


async def knee(
    target: Target, model: StampingModel, upto: int, step: int = STEP
) -> tuple[int, float]:
    """The highest number of replies within the limit, and the chunks a second that are read."""
    found, goodput = step, step / PACE
    for streams in range(step, upto + 1, step):
        seen = await _carried(target, streams, model) or await _carried(target, streams, model)
        if seen is None:
            break
        found, goodput = streams, seen.chunks_per_second
    return found, goodput


async def _carried(target: Target, streams: int, model: StampingModel) -> Load | None:
    """This number of replies at once; None where they take too long, which one pause of the machine
    can cause."""
    try:
        seen = await load(target, streams, model)
    except NotCarried:
        return None
    return seen if seen.p99_ms <= MOST_MS else None


async def press(target: Target, clients: int) -> tuple[Pressed, float]:
    """Press on with this number of clients for some seconds; then every reply comes to its end.

    Returns what they met, and the chunks that were read in a second.
    """
    pressed, now = Pressed(), monotonic()
    window = (now + WARM_SECONDS, now + SECONDS)

    async def client(number: int) -> None:
        await asyncio.sleep(random.random() * REPLY_SECONDS)
        while monotonic() < window[1]:  # noqa: ASYNC110 - the server says when
            await asyncio.sleep(await _post(target, number, pressed, window))

    await asyncio.gather(*(client(number) for number in range(clients)))
    return pressed, pressed.chunks / (window[1] - window[0])


async def _post(
    target: Target, number: int, pressed: Pressed, window: tuple[float, float]
) -> float:
    """Post once; returns for how many seconds to wait before the next post."""
    sent = monotonic()
    async with connected(target) as (reader, writer):
        writer.write(requested("POST", "/v1/chat-plan", message(number)))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if " 200 " in head.split("\r\n")[0]:
            received = bytearray()
            while data := await reader.read(1 << 16):
                received += data
                if window[0] <= monotonic() < window[1]:
                    pressed.chunks += data.partition(b"event: final\n")[0].count(b"<")
            pressed.replies.append(bytes(received))
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


def run_workers(upto: int) -> list[Figure]:
    """Measure how many more replies two workers carry than one.

    The model, the clients and PostgreSQL need cores, too: on a machine with two cores the workers
    have less than one each. So the workers get a part of a core each in a second measurement.
    """
    model = StampingModel(deltas=round(REPLY_SECONDS / PACE), pace=PACE)

    async def carried(database_url: str, workers: int, part: float | None) -> int:
        async with serving(database_url, model, upto, workers) as target:
            if part is None:
                return (await knee(target, model, upto))[0]
            with cores.share(target.process.children() or [target.process], part):
                return (await knee(target, model, upto, PART_STEP))[0]

    def more(what: str, part: float | None) -> Figure:
        with new_databases() as new_database:
            one, two = (uvloop.run(carried(new_database(), each, part)) for each in (1, 2))
        return Figure(what, one / two, 1 / FEWEST_MORE, f"replies at once: {one} against {two}")

    what = "knee of one worker against the knee of two"
    figures = [more(what, None)]
    if cores.can_be_shared():
        figures.append(more(f"{what}, each with {PART} of a core", PART))
    else:
        print(f"{what}, each with {PART} of a core: left out, because no cgroup can be made")
    return figures


async def measure(target: Target, model: StampingModel, upto: int) -> list[Figure]:
    """The knee, and what becomes of twice and ten times its posts."""
    streams, goodput = await knee(target, model, upto)
    figures = [Figure("knee: replies at 20 chunks/s within 250 ms at p99", streams, upto)]
    for times in (2, 10):
        pressed, here = await press(target, streams * times)
        slowest = sorted(pressed.refusals)[-1 - len(pressed.refusals) // 100 :][:1]
        figures += [
            Figure(
                f"{times} times the knee: chunks/s at the knee against chunks/s here",
                goodput / max(here, 1.0),
                1.25,
                f"{len(pressed.replies):,} replies, {len(pressed.refusals):,} refusals",
            ),
            Figure(f"{times} times the knee: in doubt", pressed.in_doubt, 0),
            Figure(f"{times} times the knee: replies that lost something", pressed.broken, 0),
            Figure(f"{times} times the knee: refused within, s at p99", sum(slowest), 1),
        ]
    return figures
