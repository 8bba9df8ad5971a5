"""How long single requests take on an idle service, against one durable append.

The append is one event through the writer, with one caller and all read models. It is measured
before each round of requests, in the same database. A message is measured until its reply is
accepted, in a session that the process has not read yet (cold) and in a session that the process
remembers (warm).
"""

import json
import time
from statistics import median
from typing import Final
from uuid import uuid4

import uvloop

from scripts.bench import streams
from scripts.bench.load import message, running_log
from scripts.bench.streams import Figure, Target
from scripts.bench.wire_model import StampingModel
from service.eventlog.store import NewEvent
from service.eventlog.stream_ids import session_stream

PROJECTS: Final = 40
ROUNDS: Final = 3
APPENDS: Final = 40
JSON: Final = "application/json"


async def append(url: str) -> list[float]:
    """The seconds of single appends, one after the other."""
    seconds: list[float] = []
    async with running_log(url) as (_, _, writer):
        for _ in range(APPENDS):
            session_id = str(uuid4())
            stream, state = str(session_stream(session_id, "p")), message(session_id, 0)
            began = time.perf_counter()
            await writer.append([NewEvent("t", stream, 1, "UserMessagePosted", state, "p")])
            seconds.append(time.perf_counter() - began)
    return seconds


async def answered(target: Target, request: bytes, until: bytes) -> float:
    """The seconds from a request to this part of its answer, on an open connection."""
    async with streams.connected(target) as (reader, writer):
        began = time.perf_counter()
        writer.write(request)
        await reader.readuntil(until)
        seconds = time.perf_counter() - began
        await reader.read()
    return seconds


async def posts(target: Target) -> list[float]:
    """A message to the session of each project, until its reply is accepted."""
    return [
        await answered(
            target,
            streams.requested("POST", "/v1/chat-plan", streams.message(project)),
            b"event: accepted",
        )
        for project in range(PROJECTS)
    ]


async def pages(target: Target) -> list[float]:
    """The newest page of each project's timeline."""
    return [
        await answered(
            target,
            streams.requested("GET", f"/v1/project/p{project}/timeline", b"", accept=JSON),
            b"]",
        )
        for project in range(PROJECTS)
    ]


async def credited(target: Target) -> list[float]:
    """AI seconds for each project's user."""
    path = "/v1/billing/credits"
    return [
        await answered(
            target,
            streams.requested("POST", path, _credit(project), accept=JSON),
            b"}",
        )
        for project in range(PROJECTS)
    ]


def _credit(project: int) -> bytes:
    return json.dumps({"userId": f"u{project}", "seconds": 60, "kind": "paid"}).encode()


async def measure(url: str) -> list[Figure]:
    """Ask for everything once, start the service anew, and ask again."""
    model = StampingModel(deltas=1, pace=0.001)
    async with model.serving() as model_url:
        async with streams.service(url, model_url) as target:
            await streams.prepare(target, PROJECTS)
            await posts(target)
        appends = await append(url)
        async with streams.service(url, model_url) as target:
            cold = await posts(target)
            warm, read, credit_seconds = list[float](), list[float](), list[float]()
            for _ in range(ROUNDS):
                appends += await append(url)
                warm += await posts(target)
                read += await pages(target)
                credit_seconds += await credited(target)
    one = median(appends) * 1e3
    return [
        Figure(
            f"{what}, p50, in durable appends",
            median(seconds) * 1e3 / one,
            limit,
            f"{median(seconds) * 1e3:.1f} ms against {one:.2f} ms",
        )
        for what, seconds, limit in (
            ("message accepted, cold", cold, 6),
            ("message accepted, warm", warm, 4),
            ("a signed page of a timeline", read, 2),
            ("a credit", credit_seconds, 4),
        )
    ]


def run() -> list[Figure]:
    """Measure on a PostgreSQL of its own."""
    with streams.new_databases() as new_database:
        return uvloop.run(measure(new_database()))
