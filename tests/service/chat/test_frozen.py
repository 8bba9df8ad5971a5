"""A process or the database stands still for longer than leases last: every reader gets an end."""

import asyncio
import signal

import pytest

from projections import PROJECTIONS
from projections.projection import install
from service.model.offline.app import OfflineModel
from service.postgres import connections, migrations
from tests.running import LEASE_TIMES, running
from tests.service import law
from tests.service.chat.test_recovery import ENDS_WITHIN, ended_once
from tests.service.eventlog.test_log_under_fire import own_server, send
from tests.service.replicas import Reader, Replica, prepare, replicas

pytestmark = pytest.mark.slow

SILENT = " [[offline: hang after=4 ping=1]]"
"""The model writes one chunk and then nothing, so that its process has no more frames to store."""


def watching(replica: Replica, asker: Reader) -> tuple[Reader, asyncio.Task[None]]:
    """Another reader of the same reply, from its first event on, on one connection."""
    reader = Reader()
    reader.events = asker.events[:1]
    return reader, asyncio.create_task(reader.join(replica))


@pytest.mark.parametrize("message", ["Good morning", "Good morning" + SILENT])
async def test_readers_at_a_process_that_stood_still_get_the_end_that_another_process_stored(
    url: str, message: str
) -> None:
    """The process wakes up with text of the model to store, or with a model that is silent."""
    async with replicas(url, OfflineModel(pace=0.2)) as service:
        frozen, other = await service.start(), await service.start()
        projects = ["p1", "p2", "p3"]
        await prepare(frozen, *projects)
        readers = [Reader() for _ in projects]
        asking = [
            asyncio.create_task(reader.ask(frozen, message, projectId=project_id))
            for reader, project_id in zip(readers, projects, strict=True)
        ]
        await asyncio.gather(*(reader.until("chunk") for reader in readers))
        here = [watching(frozen, reader) for reader in readers]
        there = [watching(other, reader) for reader in readers]
        frozen.send(signal.SIGSTOP)
        async with asyncio.timeout(ENDS_WITHIN):
            await asyncio.gather(*(reading for _, reading in there))
        frozen.send(signal.SIGCONT)
        async with asyncio.timeout(ENDS_WITHIN):
            await asyncio.gather(*asking, *(reading for _, reading in here))
        for reader, (second, _), (third, _) in zip(readers, here, there, strict=True):
            assert reader.events == second.events == third.events
            final = law.lawful(reader.events)
            assert (final["subtype"], final["reason"]) == ("partial", "server_lost")
        await ended_once(url, readers)
    async with running(url) as live:
        await law.billed(live, *(reader.events[-1][1] for reader in readers))
        await law.healthy(live, url)


async def test_a_database_that_stands_still_for_longer_than_leases_last_ends_no_reply() -> None:
    """All leases expire meanwhile, and the processes are well. Each process writes two replies."""
    with own_server() as server:
        await migrations.migrate(server.url)
        async with await connections.connect(server.url, as_service=False) as owner:
            await install(owner, PROJECTIONS)
        projects = ["p1", "p2", "p3", "p4"]
        async with replicas(server.url, OfflineModel(pace=0.4)) as service:
            one, two = await service.start(), await service.start()
            await prepare(one, *projects)
            readers = [Reader() for _ in projects]
            asking = [
                asyncio.create_task(reader.ask(replica, "Good morning", projectId=project_id))
                for reader, replica, project_id in zip(
                    readers, (one, two, one, two), projects, strict=True
                )
            ]
            await asyncio.gather(*(reader.until("chunk") for reader in readers))
            send(server, signal.SIGSTOP)
            await asyncio.sleep(LEASE_TIMES.lasts + 1)  # no event tells that leases have expired
            send(server, signal.SIGCONT)
            await asyncio.gather(*asking)
        for reader in readers:
            assert law.lawful(reader.events)["subtype"] == "success"
        await ended_once(server.url, readers)
        assert len(await law.logged(server.url, "ReplyStarted")) == len(readers)


async def test_readers_of_a_reply_that_was_taken_over_are_cut_when_their_access_ends(
    url: str,
) -> None:
    """One reader's token expires, the others are removed. The reply runs at the other process."""
    async with replicas(url) as service:
        frozen, other = await service.start(), await service.start()
        await prepare(frozen, "p1")
        asker = Reader()
        asking = asyncio.create_task(asker.ask(frozen, "Good morning [[offline: hang ping=1]]"))
        await asker.until("accepted")
        asked = {"userId": "u1", "projectId": "p1", "ttlSeconds": 10}
        token = (await frozen.client.post("/v1/tokens", json=asked)).json()["token"]
        guest = Reader()
        guest.events = asker.events[:1]
        visiting = asyncio.create_task(guest.join(frozen, token=token))
        async with asyncio.timeout(ENDS_WITHIN):
            await guest.news.wait()  # a process that stood still closes idle connections
        watcher, reading = watching(other, asker)
        frozen.send(signal.SIGSTOP)
        async with asyncio.timeout(ENDS_WITHIN):
            await watcher.until("notice")
        frozen.send(signal.SIGCONT)
        async with asyncio.timeout(ENDS_WITHIN):
            await asker.until("notice")
            await visiting
            owner = "/v1/projects/p1/members/u2"
            (await other.client.put(owner, json={"role": "owner"})).raise_for_status()
            (await other.client.delete("/v1/projects/p1/members/u1")).raise_for_status()
            await asyncio.gather(asking, reading)
        assert guest.sent_away == "expired"
        assert asker.sent_away == watcher.sent_away == "removed"
        assert asker.events == watcher.events
