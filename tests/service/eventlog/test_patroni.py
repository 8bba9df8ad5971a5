"""Three nodes under Patroni: the primary is killed, frozen, cut off and replaced under load."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
import pytest
import structlog

from service.model.offline.app import OfflineModel
from service.postgres.embedded import Server
from tests.patroni import Cluster, Member, cluster
from tests.service.payers import Payer, paying, require_whole_log
from tests.service.replicas import PatientReader, Replica, prepare, replicas, require_alike
from tests.service.supervisor import Supervisor
from tests.sizes import chance, size

ROUNDS: Final = size(1, 5)
"""How many times each fault happens."""
CLIENTS: Final = 6
STREAM_SECONDS: Final = 30.0
"""The limit from the moment at which there is a new primary."""

_log = structlog.stdlib.get_logger(__name__)


class Probe:
    """A client on the side of the old primary: the primary must not acknowledge its write."""

    def __init__(self, node: Member) -> None:
        self._node = node

    async def __aenter__(self) -> "Probe":
        self._connection = await psycopg.AsyncConnection.connect(
            self._node.url("drill"), autocommit=True
        )
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._connection.close()

    async def require_refused(self) -> None:
        """Write. It ends with an error, at the latest when the primary is demoted."""
        with pytest.raises((psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)):
            await self._connection.execute("insert into public.probe values (1)")


@pytest.fixture
async def nodes(server: Server, template: str) -> AsyncIterator[Cluster]:
    assert template
    async with cluster(server) as running:
        leader = await running.leader()
        async with await psycopg.AsyncConnection.connect(
            leader.url("postgres"), autocommit=True
        ) as admin:
            await admin.execute("create database drill template throughline_template")
        async with await psycopg.AsyncConnection.connect(
            leader.url("drill"), autocommit=True
        ) as admin:
            await admin.execute("create table public.probe (n int)")
        yield running


@asynccontextmanager
async def _killed(old: Member) -> AsyncIterator[None]:
    await old.kill()
    yield
    await old.start()


@asynccontextmanager
async def _frozen(old: Member) -> AsyncIterator[None]:
    """When it thaws, it must take no write: it is demoted."""
    async with Probe(old) as probe:
        old.freeze()
        yield
        old.thaw()
        await probe.require_refused()


@asynccontextmanager
async def _cut_off(old: Member) -> AsyncIterator[None]:
    """A client on its side of the cut gets no write acknowledged."""
    async with Probe(old) as probe:
        old.cut()
        writing = asyncio.create_task(probe.require_refused())
        yield
        await writing
        old.mend()


@asynccontextmanager
async def _handed_over(old: Member) -> AsyncIterator[None]:
    await old.hand_over()
    yield


FAULTS: Final = {
    "killed": _killed,
    "frozen": _frozen,
    "cut off": _cut_off,
    "handed over": _handed_over,
}


async def test_patroni_replaces_the_primary_and_nothing_acknowledged_is_lost(
    nodes: Cluster,
) -> None:
    """Every reply ends within the limit and is told alike by all processes; bills are exact."""
    random = chance("patroni")
    async with replicas(nodes.url("drill"), OfflineModel(pace=0.05)) as services:
        three = [await services.start() for _ in range(3)]
        await prepare(three[0], "p1")
        credit = {"userId": "payer", "seconds": 1, "kind": "paid"}
        (await three[0].client.post("/v1/billing/credits", json=credit)).raise_for_status()
        payers = [Payer(three[number % 3], number) for number in range(CLIENTS)]
        readers: list[PatientReader] = []
        async with Supervisor(services).watching(three) as supervisor, paying(payers):
            for name in random.sample([*FAULTS] * ROUNDS, len(FAULTS) * ROUNDS):
                readers.append(PatientReader())
                asked, *others = random.sample(three, 3)
                await _fail_over(nodes, name, readers[-1], asked, others)
                _log.info("faults", count=len(readers), restarts=supervisor.restarts)
        account = await _account(three[1], "payer")
        billed = [reader.events[-1][1]["metadata"]["billed_seconds"] for reader in readers]
        user = await _account(three[2], "u1")
    primary = (await nodes.leader()).url("drill")
    acknowledged = require_whole_log(primary, payers)
    refused = sum((payer.refused for payer in payers), Counter[str]())
    _log.info("payments", acknowledged=len(acknowledged), refused=dict(refused))
    assert account["creditedSeconds"] == 1 + len(acknowledged)
    assert (user["consumedSeconds"], user["reservedSeconds"]) == (sum(billed), 0)
    with psycopg.connect(primary) as log:
        assert log.execute("select count(*) from public.probe").fetchone() == (0,)


async def _fail_over(
    nodes: Cluster, name: str, reader: PatientReader, asked: Replica, others: Sequence[Replica]
) -> None:
    """Replace the primary while a reply is read. All processes tell the reply to its end in time.
    Afterwards all nodes are back."""
    asking = asyncio.create_task(reader.ask(asked, "Good morning"))
    await reader.until("chunk")
    old = await nodes.leader()
    began = time.monotonic()
    async with FAULTS[name](old):
        await nodes.leader(after=old)
        replaced = time.monotonic()
        try:
            async with asyncio.timeout(STREAM_SECONDS):
                await asking
                await reader.finish(asked)
                for other in others:
                    await require_alike(reader, other)
        except TimeoutError:
            hangs = f"a stream hangs after the primary was {name}:\n{nodes.logs()}"
            raise AssertionError(hangs) from None
        seconds = {"primary": replaced - began, "streams": time.monotonic() - replaced}
        _log.info(name, **{each: round(took, 1) for each, took in seconds.items()})
    await nodes.await_all()


async def _account(service: Replica, user: str) -> dict[str, Any]:
    return dict((await service.client.get(f"/v1/billing/accounts/{user}")).json())
