"""An event that was never acknowledged is read by all processes, and then lost in a failover."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import httpx
import psycopg
import pytest

from service.eventlog.errors import OutcomeUnknown
from tests.nodes import Pair
from tests.service.eventlog.logs import running_log
from tests.service.eventlog.test_kept import interrupt, until_a_commit_waits
from tests.service.payers import Payer, paying, require_whole_log
from tests.service.replicas import Replica, prepare, replicas
from tests.service.supervisor import Supervisor
from tests.service.watching import SSE, said, until


class Watcher:
    """A reader of all events of its tenant, until its connection ends."""

    def __init__(self, service: Replica) -> None:
        self._service = service
        self.cursors: list[str] = []

    async def run(self) -> None:
        """Read."""
        with suppress(httpx.TransportError):
            async with self._service.client.stream("GET", "/v1/events", headers=SSE) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("id: "):
                        self.cursors.append(line.removeprefix("id: "))


async def test_processes_that_read_a_lost_event_start_again_and_go_on(nodes: Pair) -> None:
    """Nothing that was acknowledged is lost, and every process serves again."""
    async with replicas(nodes.url("drill")) as services:
        two = [await services.start() for _ in range(2)]
        await prepare(two[0], "p1")
        credit = {"userId": "payer", "seconds": 1, "kind": "paid"}
        (await two[0].client.post("/v1/billing/credits", json=credit)).raise_for_status()
        payers = [Payer(two[number % 2], number) for number in range(4)]
        async with Supervisor(services).watching(two) as supervisor, paying(payers):
            watchers = [Watcher(each) for each in two]
            watching = [asyncio.create_task(each.run()) for each in watchers]
            await until(lambda: all(watcher.cursors for watcher in watchers))
            await _until_all_pay(payers)
            lost = await _lost(nodes, watchers)
            assert supervisor.restarts == 0
            nodes.primary.kill()
            nodes.standby.start()
            await asyncio.to_thread(nodes.fail_over)
            await asyncio.gather(*watching)
            await until(lambda: supervisor.restarts == len(two))
            await _until_all_pay(payers)
    url = nodes.primary.url("drill")
    require_whole_log(url, payers)
    with psycopg.connect(url) as log:
        found = log.execute("select app.cursor_at(split_part(%s, '.', 1)::bigint)", (lost,))
        assert found.fetchone() not in ((lost,), (None,))


async def _lost(nodes: Pair, watchers: Sequence[Watcher]) -> str:
    """Let an operator interrupt the wait for the standby. Returns the cursor of the event: the
    primary alone has the event, and all watchers have read it."""
    url = nodes.primary.url("drill")
    async with running_log(url) as log:
        nodes.standby.kill()
        appending = asyncio.create_task(log.writer.append([said("not acknowledged")]))
        pid = await until_a_commit_waits(url, of="append")  # the append of any process
        await interrupt(url, pid, "cancel")
        lost = await log.store.head_cursor()
        await until(lambda: all(lost in watcher.cursors for watcher in watchers))
        assert not appending.done()
        log.writing.cancel()
        with pytest.raises(OutcomeUnknown):
            await appending
    return lost


async def _until_all_pay(payers: Sequence[Payer]) -> None:
    before = [len(payer.acknowledged) for payer in payers]
    await until(
        lambda: all(
            len(payer.acknowledged) > count for payer, count in zip(payers, before, strict=True)
        )
    )
