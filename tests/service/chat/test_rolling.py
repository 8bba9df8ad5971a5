"""Replicas are restarted one after the other under load, and no reply is lost."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import httpx
import pytest

from service.model.offline.app import OfflineModel
from tests import sizes
from tests.running import running
from tests.service import law
from tests.service.replicas import Reader, Replica, Replicas, prepare, replicas

pytestmark = pytest.mark.slow

Call = Callable[[Replica], Awaitable[None]]
CLIENTS = 8
ROUNDS = 3


class Client:
    """Asks any replica again and again, in a project of its own, and finishes each reply."""

    def __init__(self, number: int, service: Replicas) -> None:
        self.project_id = f"p{number}"
        self.replies: list[Reader] = []
        self._service = service
        self._chance = sizes.chance(f"client {number}")

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until `stop` is set and the last reply has ended."""
        while not stop.is_set():
            reader = Reader()
            await self._ask(reader)
            self.replies.append(reader)
            while not reader.is_done:
                await self._try(reader.join)

    async def _ask(self, reader: Reader) -> None:
        while not reader.events:
            await self._try(
                lambda replica: reader.ask(
                    replica, "Good morning", projectId=self.project_id, onBusy="enqueue"
                )
            )

    async def _try(self, call: Call) -> None:
        """Try any replica; a replica that stops or has ended refuses."""
        try:
            await call(self._chance.choice(self._service.running))
        except (AssertionError, httpx.TransportError):
            await asyncio.sleep(0.05)


async def restarted(service: Replicas, replica: Replica) -> None:
    """Stop a replica as an orchestrator does, and start a new replica in its place."""
    await service.start()
    service.running.remove(replica)
    replica.send(signal.SIGTERM)
    assert await replica.wait() == 0
    await replica.client.aclose()


async def test_no_reply_is_lost_when_replicas_are_restarted_under_load(url: str) -> None:
    model = OfflineModel(pace=0.01, delay=0.1)
    settings = {
        "THROUGHLINE_GRACE_SECONDS": "0.2",  # so that many replies are cut off and recovered
        "THROUGHLINE_USER_MESSAGES": "10000",
    }
    async with replicas(url, model, **settings) as service:
        for _ in range(2):
            await service.start()
        clients = [Client(n, service) for n in range(CLIENTS)]
        await prepare(service.running[0], *(client.project_id for client in clients))
        stop = asyncio.Event()
        asking = [asyncio.create_task(client.run(stop)) for client in clients]
        for _ in range(ROUNDS):
            await restarted(service, service.running[0])
        stop.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*asking)
        readers = [reader for client in clients for reader in client.replies]
        finals = [law.lawful(reader.events) for reader in readers]
        assert {final["subtype"] for final in finals} <= {"success", "partial"}
        assert {final.get("reason") for final in finals} <= {None, "stopping"}
        assert len({final["messageId"] for final in finals}) == len(finals)
    async with running(url) as live:
        kinds = ("TimeReserved", "TimeConsumed", "ReservationReleased")
        names = [name for name, _ in await law.logged(url, *kinds)]
        assert names.count("TimeReserved") == len(names) / 2, "a reservation is open"
        await law.healthy(live, url)
