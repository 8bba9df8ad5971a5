"""What tracing costs while it is off: its part of the CPU time of a signed read.

The read is as small as reads are, so a request that does more has a smaller part.
"""

import time
from typing import Final

import httpx
import uvloop

from scripts.bench import streams
from scripts.bench.streams import Figure, Target
from scripts.bench.wire_model import StampingModel
from service.access import signatures
from service.ops import tracing

READS: Final = 2_000
CALLS: Final = 100_000
LIMIT: Final = 0.02
_PATH: Final = "/v1/projects"
_HEADERS: Final = [(b"host", b"bench"), (b"accept", b"*/*"), (b"x-hmac-signature", b"v1")] * 3


async def a_read(target: Target) -> float:
    """The CPU time of the service for one signed read, in seconds."""
    query = b"userId=u0"
    async with httpx.AsyncClient(base_url=target.url) as client:
        for counted in (False, True):  # the first reads fill the caches
            before = target.cpu_seconds()
            for _ in range(READS if counted else READS // 10):
                headers = {signatures.HEADER: streams.signed("GET", _PATH, b"", query)}
                answer = await client.get(f"{_PATH}?{query.decode()}", headers=headers)
                answer.raise_for_status()
    return (target.cpu_seconds() - before) / READS


def off() -> float:
    """The CPU time of what a request asks of tracing without a collector, in seconds."""
    began = time.process_time()
    for _ in range(CALLS):
        tracing.follow(tracing.of_caller(_HEADERS))
        with tracing.span("request", kind="server", begins_trace=True) as span:
            tracing.trace_id()
            tracing.traceparent()
            span.rename("GET /v1/projects")
            span.set({"http.request.method": "GET", "http.response.status_code": 200})
    return (time.process_time() - began) / CALLS


async def measure(url: str) -> list[Figure]:
    """The part of a read, and both times."""
    async with streams.serving(url, StampingModel(deltas=1, pace=0.001), 1) as target:
        whole = await a_read(target)
        part = off()
        against = f"a signed read: {part * 1e6:.1f} us of {whole * 1e6:.0f} us"
        return [Figure("tracing while it is off, part of the CPU", part / whole, LIMIT, against)]


def run() -> list[Figure]:
    """Measure on a PostgreSQL of its own."""
    with streams.new_databases() as new_database:
        return uvloop.run(measure(new_database()))
