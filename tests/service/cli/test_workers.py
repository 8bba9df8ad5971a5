"""Several worker processes are one service, while they are killed, replaced and stopped."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import AsyncConnection
from structlog.testing import capture_logs

from service.cli.database import Database
from service.cli.workers.supervisor import Supervisor, WorkersFailed
from service.http.server import bound_sockets
from service.model.offline.app import OfflineModel, serving
from service.postgres.embedded import Server
from service.settings import Settings
from tests import sizes
from tests.folders import in_memory
from tests.running import KEYS, Signed
from tests.service import law
from tests.service.ops.metrics_page import families
from tests.service.replicas import Reader, keys_as_json, prepare

pytestmark = pytest.mark.slow

THROUGHLINE = Path(sys.executable).parent / "throughline"
HANGS = "Add a page [[offline: hang after=6]]"
KILLS = sizes.size(1, 10)
STEP_SECONDS = 60.0
EACH = 2
"""The replies of each worker while one of them is killed."""


@dataclass(slots=True)
class Caller:
    """What a `Reader` calls."""

    client: httpx.AsyncClient


@dataclass(slots=True)
class Served:
    """A running `throughline serve --workers 2`: its client, and the lines of its log."""

    process: asyncio.subprocess.Process
    client: httpx.AsyncClient
    lines: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    news: asyncio.Event = field(default_factory=asyncio.Event)
    clients: list[httpx.AsyncClient] = field(default_factory=list[httpx.AsyncClient])

    async def listen(self) -> None:
        """Keep the lines of the log, to its end."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            if line.startswith(b"{"):
                self.lines.append(json.loads(line))
                self.news.set()

    async def until(self, event: str, *, since: int) -> dict[str, Any]:
        """Wait until the log has a line of this event after the first `since` lines."""
        async with asyncio.timeout(STEP_SECONDS):
            while True:
                for line in self.lines[since:]:
                    if line["event"] == event:
                        return line
                self.news.clear()
                await self.news.wait()

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker processes, the oldest first."""
        children = psutil.Process(self.process.pid).children()
        workers = [each for each in children if "service.cli.workers.worker" in each.cmdline()]
        return sorted(workers, key=lambda each: each.create_time())

    async def client_of(self, worker: psutil.Process) -> httpx.AsyncClient:
        """A client with one connection, which this worker has accepted.

        The other workers are frozen for that moment. A frozen worker may hold a lock of the
        database, but this moment needs no database.
        """
        pinned = httpx.AsyncClient(
            base_url=self.client.base_url,
            auth=Signed(),
            timeout=60,
            limits=httpx.Limits(max_connections=1),
        )
        self.clients.append(pinned)
        others = [each for each in self.workers if each != worker]
        for each in others:
            each.suspend()
        try:
            assert (await pinned.get("/healthz")).status_code == 200
        finally:
            for each in others:
                each.resume()
        return pinned

    async def metric(self, client: httpx.AsyncClient, name: str, **labels: str) -> float:
        """The sum of the samples of a metric that have these labels, as a client reads them."""
        page = (await client.get("/metrics")).text
        return sum(
            each.value
            for family in text_string_to_metric_families(page)
            for each in family.samples
            if each.name == f"throughline_{name}" and labels.items() <= each.labels.items()
        )


@contextmanager
def data_folder() -> Iterator[str]:
    """A new folder, which the user of PostgreSQL can reach."""
    with tempfile.TemporaryDirectory(prefix="throughline-", dir=in_memory()) as folder:
        Path(folder).chmod(0o755)
        yield folder


@asynccontextmanager
async def served(model: OfflineModel) -> AsyncGenerator[Served]:
    """Start the service with two workers and a database of its own, as a user does."""
    with data_folder() as folder:
        async with serving(model) as model_url:
            process = await asyncio.create_subprocess_exec(
                *(THROUGHLINE, "serve", "--workers", "2"),
                env={
                    **os.environ,
                    "THROUGHLINE_DATA_DIR": folder,
                    "THROUGHLINE_PORT": "0",
                    "THROUGHLINE_LOG_LEVEL": "info",
                    "THROUGHLINE_USER_MESSAGES": "10000",
                    "THROUGHLINE_HMAC_KEYS": keys_as_json(),
                    "ANTHROPIC_API_KEY": "offline",
                    "ANTHROPIC_BASE_URL": model_url,
                },
                stdout=PIPE,
                stderr=PIPE,
            )
            assert process.stdout is not None
            url = ""
            while "listens on" not in url:
                url = (await process.stdout.readline()).decode()
            url = url.split("listens on ")[1].strip()
            # A connection is of one process: each request has a new one, so that any may answer.
            each_its_own = {"Connection": "close"}
            async with httpx.AsyncClient(
                base_url=url, auth=Signed(), timeout=60, headers=each_its_own
            ) as client:
                found = Served(process, client)
                listening = asyncio.create_task(found.listen())
                try:
                    yield found
                finally:
                    for each in found.clients:
                        await each.aclose()
                    if process.returncode is None:
                        process.send_signal(signal.SIGTERM)
                        await process.wait()
                    await listening


async def test_workers_are_one_service_while_they_are_killed_replaced_and_stopped() -> None:
    async with served(OfflineModel(pace=0.01)) as run:
        await each_worker_answers(run)
        for number in range(KILLS):
            await all_replies_have_an_end_when_a_worker_is_killed(run, number)
        await no_request_is_refused_when_all_workers_are_replaced(run)
        await a_running_reply_has_its_end_when_all_workers_stop(run)


async def each_worker_answers(run: Served) -> None:
    """Both processes answer at one port, and each answers with the metrics of both."""
    clients = [await run.client_of(worker) for worker in run.workers]
    for number, client in enumerate(clients):
        await prepare(Caller(client), f"p{number}")
    for client in clients:
        assert await run.metric(client, "requests_total", operation="registerProject") == 2
    page = (await clients[0].get("/metrics")).text
    running = families(page)["throughline_replies_running"]
    assert [each.labels for each in running.samples] == [{}], "a sum, not a value a worker"
    answered = {line["worker"] for line in run.lines if line.get("operation") == "registerProject"}
    assert answered == {1, 2}


async def all_replies_have_an_end_when_a_worker_is_killed(run: Served, number: int) -> None:
    """The other worker ends the replies of the dead one at once, and another process starts."""
    dying, other = run.workers
    lost, kept = [Reader() for _ in range(EACH)], [Reader() for _ in range(EACH)]
    projects = [f"k{number}-{n}" for n in range(2 * EACH)]
    await prepare(run, *projects)
    asking: dict[Reader, asyncio.Task[None]] = {}
    for worker, readers in ((dying, lost), (other, kept)):
        for reader in readers:
            caller = Caller(await run.client_of(worker))
            asked = reader.ask(caller, HANGS, projectId=projects.pop())
            asking[reader] = asyncio.create_task(asked)
            await reader.until("chunk")
    assert await run.metric(run.client, "replies_running") == 2 * EACH
    since = len(run.lines)
    dying.kill()
    async with asyncio.timeout(STEP_SECONDS):
        for reader in lost:
            await asking[reader]
            await reader.join(run)
        for reader in kept:
            path = f"/v1/chat-plan/replies/{reader.reply_id}/cancel"
            assert (await run.client.post(path, params={"userId": "u1"})).is_success
            await asking[reader]
    assert ends(lost) == {("partial", "server_lost")}
    assert ends(kept) == {("partial", "cancelled")}
    died = await run.until("worker_ended", since=since)
    assert died["exit"] == -signal.SIGKILL
    assert (await run.until("listening", since=since))["worker"] == died["worker"]
    assert other in run.workers
    assert len(run.workers) == 2
    assert await run.metric(run.client, "replies_running") == 0


def ends(readers: list[Reader]) -> set[tuple[str, str]]:
    """How these replies ended."""
    finals = [law.lawful(reader.events) for reader in readers]
    return {(final["subtype"], final["reason"]) for final in finals}


async def no_request_is_refused_when_all_workers_are_replaced(run: Served) -> None:
    """On SIGHUP new processes take over, one after the other, under a stream of requests."""
    before, since = run.workers, len(run.lines)
    stop = asyncio.Event()
    await prepare(run, "hup0", "hup1")
    asking = [
        asyncio.create_task(asks_again_and_again(run, stop, keep=True)),
        asyncio.create_task(asks_again_and_again(run, stop, keep=False)),
        *(asyncio.create_task(talks_again_and_again(run, stop, f"hup{n}")) for n in range(2)),
    ]
    run.process.send_signal(signal.SIGHUP)
    await run.until("workers_restarted", since=since)
    stop.set()
    assert all([await each > 0 for each in asking])
    assert not {each.pid for each in before} & {each.pid for each in run.workers}
    assert len(run.workers) == 2


async def asks_again_and_again(run: Served, stop: asyncio.Event, *, keep: bool) -> int:
    """Read until `stop`, on one connection or each time on a new one; returns the answers."""
    answers = 0
    headers = {} if keep else {"Connection": "close"}
    async with httpx.AsyncClient(base_url=run.client.base_url, timeout=60) as client:
        while not stop.is_set():
            answer = await client.get("/healthz", headers=headers)
            assert answer.status_code == 200
            answers += 1
            await asyncio.sleep(0.01)
    return answers


async def talks_again_and_again(run: Served, stop: asyncio.Event, project_id: str) -> int:
    """Ask for replies until `stop`; no stream breaks, and each reply is whole.

    A worker that stops while the machine is busy sends its readers away. They come back at the end.
    """
    readers: list[Reader] = []
    while not stop.is_set():
        readers.append(reader := Reader())
        await reader.ask(run, "Good morning", projectId=project_id)
        assert reader.is_done or reader.sent_away == "stopping", "the stream broke"
    for reader in readers:
        await reader.finish(run)
        assert law.lawful(reader.events)["subtype"] == "success"
    return len(readers)


async def a_running_reply_has_its_end_when_all_workers_stop(run: Served) -> None:
    """SIGTERM: what runs comes to its end, nothing new is accepted, and no process is left."""
    family = psutil.Process(run.process.pid).children(recursive=True)
    await prepare(run, "last")
    reader = Reader()
    asking = asyncio.create_task(reader.ask(run, "Add a page", projectId="last"))
    await reader.until("accepted")
    run.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(STEP_SECONDS):
        await asking
        assert await run.process.wait() == 0
    assert law.lawful(reader.events)["subtype"] == "success"
    assert not psutil.wait_procs(family, timeout=10)[1]
    with pytest.raises(httpx.ConnectError):
        await httpx.AsyncClient(base_url=run.client.base_url).get("/healthz")


async def test_the_service_does_not_start_where_a_worker_does_not() -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    settings = Settings(port=0, workers=1, hmac_keys=KEYS)
    supervisor = Supervisor(settings, Database(nowhere, nowhere, "none"), with_demo=False)
    with pytest.raises(WorkersFailed):
        await supervisor.serve(bound_sockets("127.0.0.1", 0))
    assert not supervisor.ready.is_set()


async def test_the_pause_grows_while_no_worker_can_be_started(
    server: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.workers.supervisor.PAUSES_SECONDS", (0.01, 30.0))
    monkeypatch.setattr("service.cli.workers.supervisor.SETTLED_SECONDS", 0.0)
    settings = Settings(port=0, workers=1, hmac_keys=KEYS)
    supervisor = Supervisor(settings, Database(url, url, "a test"), with_demo=False)
    pauses: asyncio.Queue[float] = asyncio.Queue()

    def take(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if line["event"] == "worker_ended":
            pauses.put_nowait(line["starting_again_in_s"])
        return line

    with capture_logs(processors=[take]):
        serving = asyncio.create_task(supervisor.serve(bound_sockets("127.0.0.1", 0)))
        try:
            async with asyncio.timeout(STEP_SECONDS):
                await supervisor.ready.wait()
                async with await AsyncConnection.connect(server.url, autocommit=True) as admin:
                    await admin.execute(closing(url, is_open=False))
                    (worker,) = supervisor._processes
                    worker.kill()
                    assert [await pauses.get() for _ in range(3)] == [0.01, 0.02, 0.04]
                    await admin.execute(closing(url, is_open=True))
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


def closing(url: str, *, is_open: bool) -> bytes:
    """The statement that lets a database take new connections, or none."""
    name = urlsplit(url).path[1:]
    return f"alter database {name} allow_connections {is_open}".encode()
