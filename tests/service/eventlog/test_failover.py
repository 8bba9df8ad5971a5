"""The primary dies or stands still under load, and the standby is promoted."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Final

import httpx
import psycopg
import pytest

from service.model.offline.app import OfflineModel
from service.postgres.embedded import Server
from tests.nodes import Pair, pair
from tests.running import LiveService, running
from tests.service.replicas import Reader
from tests.sizes import chance, size

FAILOVERS: Final = size(1, 20)
CLIENTS: Final = 8
STREAM_SECONDS: Final = 30.0


@pytest.fixture
def nodes(server: Server, template: str) -> Iterator[Pair]:
    assert template
    with pair(server) as both:
        with psycopg.connect(both.primary.url(), autocommit=True) as admin:
            admin.execute("create database drill template throughline_template")
        yield both


class Payer:
    """A client that pays one second at a time, and believes every answer.

    Where nothing is stored, the client pays anew under another key. Where all is stored, the
    payment is done. Where nobody knows, the client sends the same request with the same key.
    """

    def __init__(self, service: LiveService, number: int) -> None:
        self._service, self._number = service, number
        self.acknowledged: list[int] = []
        """The last positions of the payments."""
        self.refused: Counter[str] = Counter()
        self.ends = asyncio.Event()

    async def run(self) -> None:
        keys = map(str, count())
        key = next(keys)
        stored = ""
        while stored == "unknown" or not self.ends.is_set():
            answer = await self._paid(f"{self._number}-{key}")
            stored = "everything" if answer.status_code == 201 else answer.json()["stored"]
            if stored == "everything":
                self.acknowledged.append(int(answer.headers["X-Log-Position"]))
            if answer.status_code != 201:
                assert answer.status_code == 503, answer.text
                self.refused[stored] += 1
                await asyncio.sleep(0.05)
            if stored != "unknown":
                key = next(keys)

    async def _paid(self, key: str) -> httpx.Response:
        body = {"userId": "payer", "seconds": 1, "kind": "paid"}
        headers = {"Idempotency-Key": key}
        return await self._service.client.post("/v1/billing/credits", json=body, headers=headers)


async def test_a_failover_loses_nothing_that_was_acknowledged_and_bills_nothing_twice(
    nodes: Pair,
) -> None:
    """Every reply that was being written ends and is billed once, and another service tells it."""
    random = chance("failover")
    url = nodes.url("drill")
    async with running(url, OfflineModel(pace=0.05)) as service, running(url) as other:
        await service.project()
        await service.credit()
        await service.credit("payer", 1)
        payers = [Payer((service, other)[number % 2], number) for number in range(CLIENTS)]
        paying = [asyncio.create_task(payer.run()) for payer in payers]
        readers: list[Reader] = []
        for number in range(FAILOVERS):
            reader = Reader()
            readers.append(reader)
            asked = asyncio.create_task(reader.ask(service, f"Good morning {number}"))
            await reader.until("chunk")
            if random.random() < 0.5:
                nodes.primary.freeze()
                await asyncio.sleep(random.random())
            await asyncio.to_thread(nodes.fail_over)
            async with asyncio.timeout(STREAM_SECONDS):
                await asked
                await reader.finish(service)
                joined = await other.join(reader.reply_id)
            assert joined == reader.events
        for payer in payers:
            payer.ends.set()
        await asyncio.gather(*paying)
        account = await service.account("payer")
        billed = [reader.events[-1][1]["metadata"]["billed_seconds"] for reader in readers]
        asking = await service.account("u1")
    acknowledged = [position for payer in payers for position in payer.acknowledged]
    assert len(set(acknowledged)) == len(acknowledged)
    assert account["creditedSeconds"] == 1 + len(acknowledged)
    assert [reader.events[-1][1]["subtype"] for reader in readers] == ["success"] * FAILOVERS
    assert (asking["consumedSeconds"], asking["reservedSeconds"]) == (sum(billed), 0)
    with psycopg.connect(nodes.primary.url("drill")) as log:
        stored = log.execute("select position, type from app.event order by position").fetchall()
    assert [position for position, _ in stored] == list(range(1, len(stored) + 1))
    types: dict[int, str] = dict(stored)
    assert {types[position] for position in acknowledged} == {"RequestCompleted"}
    assert list(types.values()).count("TimeCredited") == 2 + len(acknowledged)
