"""The primary dies or stands still under load, and the standby is promoted."""

import asyncio
from typing import Final

import pytest

from service.model.offline.app import OfflineModel
from tests.nodes import Pair
from tests.running import running
from tests.service.payers import Payer, paying, require_whole_log
from tests.service.replicas import PatientReader, require_alike
from tests.sizes import chance, size

pytestmark = pytest.mark.slow

FAILOVERS: Final = size(1, 20)
CLIENTS: Final = 8
STREAM_SECONDS: Final = 30.0


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
        readers: list[PatientReader] = []
        async with paying(payers):
            for number in range(FAILOVERS):
                reader = PatientReader()
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
                    await require_alike(reader, other)
        account = await service.account("payer")
        billed = [reader.events[-1][1]["metadata"]["billed_seconds"] for reader in readers]
        asking = await service.account("u1")
    acknowledged = require_whole_log(nodes.primary.url("drill"), payers)
    assert account["creditedSeconds"] == 1 + len(acknowledged)
    assert [reader.events[-1][1]["subtype"] for reader in readers] == ["success"] * FAILOVERS
    assert (asking["consumedSeconds"], asking["reservedSeconds"]) == (sum(billed), 0)
