"""Clients that pay while the database fails over, and what the log must hold afterwards."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import httpx
import psycopg

from tests.service.replicas import Called


class Payer:
    """A client that pays one second at a time, and believes every answer.

    Where nothing is stored of a first try, the client pays anew under another key. After a try that
    may be stored, the client sends the same request with the same key until it is acknowledged.
    """

    def __init__(self, service: Called, number: int) -> None:
        self._service, self._number = service, number
        self.acknowledged: list[int] = []
        """The last positions of the payments."""
        self.refused: Counter[str] = Counter()
        self.ends = asyncio.Event()

    async def run(self) -> None:
        keys = map(str, count())
        key = next(keys)
        is_open = False
        while is_open or not self.ends.is_set():
            answer = await self._paid(f"{self._number}-{key}")
            if answer is None:
                self.refused["no answer"] += 1
                is_open = True
                await asyncio.sleep(0.05)
            elif answer.status_code == 201:
                self.acknowledged.append(int(answer.headers["X-Log-Position"]))
                is_open = False
            else:
                assert answer.status_code == 503, answer.text
                stored = answer.json()["stored"]
                self.refused[stored] += 1
                is_open = is_open or stored != "nothing"
                await asyncio.sleep(0.05)
            if not is_open:
                key = next(keys)

    async def _paid(self, key: str) -> httpx.Response | None:
        """The answer to a payment; None where the connection broke or the process was away."""
        body = {"userId": "payer", "seconds": 1, "kind": "paid"}
        headers = {"Idempotency-Key": key}
        try:
            client = self._service.client
            return await client.post("/v1/billing/credits", json=body, headers=headers)
        except httpx.TransportError:
            return None


@asynccontextmanager
async def paying(payers: Sequence[Payer]) -> AsyncGenerator[None]:
    """The payers pay during the block. At its end each payer has its last payment acknowledged."""
    tasks = [asyncio.create_task(payer.run()) for payer in payers]
    yield
    for payer in payers:
        payer.ends.set()
    await asyncio.gather(*tasks)


def require_whole_log(url: str, payers: Sequence[Payer]) -> list[int]:
    """Each payment that was acknowledged is in the log, once, and positions have no gap.

    Returns the positions of the payments.
    """
    acknowledged = [position for payer in payers for position in payer.acknowledged]
    assert len(set(acknowledged)) == len(acknowledged)
    with psycopg.connect(url) as log:
        stored = log.execute("select position, type from app.event order by position").fetchall()
    assert [position for position, _ in stored] == list(range(1, len(stored) + 1))
    types: dict[int, str] = dict(stored)
    assert {types[position] for position in acknowledged} == {"RequestCompleted"}
    assert list(types.values()).count("TimeCredited") == 2 + len(acknowledged)
    return acknowledged
