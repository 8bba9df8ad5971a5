"""The service in processes that tests kill, freeze and start again."""

import asyncio
import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import httpx
import psutil

from domain.replies.contracts import CONTRACT_VERSION
from service.model.offline.app import OfflineModel, serving
from tests import routes
from tests.running import ALL_SCOPES, KEYS, Event, Signed, events_of
from tests.service.replica import StandardError, run

START_SECONDS = 60.0
EVENT_SECONDS = 60.0

# The import of the service takes longer than its start. So one process imports the service, and
# each replica is a fork of that process.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.service.replica"])


def keys_as_json() -> str:
    """The keys of the tests, as the setting has them."""
    return json.dumps(
        {
            key_id: {
                "secret": key.secret.get_secret_value(),
                "tenant": key.tenant,
                "scopes": sorted(ALL_SCOPES),
            }
            for key_id, key in KEYS.items()
        }
    )


class Called(Protocol):
    """What answers the calls of a client as tenant t1."""

    @property
    def client(self) -> httpx.AsyncClient:
        """The client."""
        ...


@dataclass(slots=True)
class Replica:
    """One process. `client` calls it as tenant t1."""

    process: BaseProcess
    client: httpx.AsyncClient

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process. Raises ProcessLookupError if the process has ended."""
        assert self.process.pid is not None
        if self.process.exitcode is not None:
            raise ProcessLookupError
        os.kill(self.process.pid, number)

    async def wait(self) -> int | None:
        """Wait for the end of the process; returns the exit status."""
        await asyncio.to_thread(self.process.join)
        return self.process.exitcode

    async def kill(self) -> None:
        """End the process with -9, and wait for its end."""
        with suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        await self.wait()

    @property
    def cpu(self) -> psutil.Process:
        """The process in the view of the system, for its CPU times."""
        return psutil.Process(self.process.pid)


@dataclass(slots=True)
class Replicas:
    """Processes on one database, asking one model."""

    url: str
    model: OfflineModel
    model_url: str
    settings: dict[str, str]
    running: list[Replica] = field(default_factory=list[Replica])

    async def start(self) -> Replica:
        """Start one more; returns when it listens."""
        way = routes.route(self.url)
        environment = {
            "THROUGHLINE_DATABASE_URL": way.url,
            "THROUGHLINE_DATABASE_DIRECT_URL": way.direct_url,
            "THROUGHLINE_DATABASE_REPLICA_URL": way.replica_url or "",
            "THROUGHLINE_PORT": "0",
            "THROUGHLINE_LOG_LEVEL": "warning",
            "THROUGHLINE_HMAC_KEYS": keys_as_json(),
            "ANTHROPIC_API_KEY": "offline",
            "ANTHROPIC_BASE_URL": self.model_url,
        }
        process, address = await asyncio.to_thread(_started, environment | self.settings)
        client = httpx.AsyncClient(base_url=address, auth=Signed(), timeout=60)
        replica = Replica(process, client)
        self.running.append(replica)
        return replica

    async def stop(self) -> None:
        """End all processes with -9."""
        for replica in self.running:
            await replica.client.aclose()
            with suppress(ProcessLookupError):
                replica.send(signal.SIGCONT)
            await replica.kill()


def _started(environment: dict[str, str]) -> tuple[BaseProcess, str]:
    """A process that listens, and its URL."""
    here, there = _processes.Pipe(duplex=False)
    process = _processes.Process(
        target=run, args=(environment, there, StandardError()), daemon=True
    )
    process.start()
    there.close()
    with here:
        assert here.poll(START_SECONDS), "the process does not listen"
        return process, here.recv()


@asynccontextmanager
async def replicas(
    url: str, model: OfflineModel | None = None, **settings: str
) -> AsyncGenerator[Replicas]:
    """Processes that end with the test. `settings` are environment variables."""
    model = model or OfflineModel(pace=0.02)
    async with serving(model) as model_url:
        all_of_them = Replicas(url, model, model_url, settings)
        try:
            yield all_of_them
        finally:
            await all_of_them.stop()


async def prepare(replica: Called, *projects: str) -> None:
    """Register projects of the user u1, and give u1 credit."""
    for project_id in projects:
        known = {"projectId": project_id, "name": "A project", "members": [{"userId": "u1"}]}
        (await replica.client.post("/v1/projects", json=known)).raise_for_status()
    credit = {"userId": "u1", "seconds": 36_000, "kind": "paid"}
    (await replica.client.post("/v1/billing/credits", json=credit)).raise_for_status()


class Reader:
    """A client of one reply, which can resume at any replica after the last event that it read.

    `sent_away` is the reason of the last `goaway`.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.sent_away = ""
        self.news = asyncio.Event()

    @property
    def reply_id(self) -> str:
        """The reply's id."""
        assert self.events[0][1]["contract"] == CONTRACT_VERSION
        return str(self.events[0][1]["messageId"])

    @property
    def is_done(self) -> bool:
        """Whether the reader has the final event."""
        return bool(self.events) and self.events[-1][0] == "final"

    async def ask(self, replica: Called, message: str, **members: Any) -> None:
        """Post a message and read until the connection ends or breaks."""
        body = {"userId": "u1", "projectId": "p1", "message": message} | members
        await self._read(replica, "POST", "/v1/chat-plan", json=body)

    async def join(self, replica: Called, *, token: str = "") -> None:
        """Resume after the last event, and read until the connection ends or breaks.

        With a browser's `token` the request is not signed.
        """
        path = f"/v1/chat-plan/replies/{self.reply_id}/stream?userId=u1"
        if token:
            await self._read(replica, "GET", f"{path}&ticket={token}", auth=None)
        else:
            await self._read(replica, "GET", path)

    async def finish(self, replica: Called) -> None:
        """Resume until the final event has come."""
        while not self.is_done:
            await self.join(replica)

    async def _read(self, replica: Called, method: str, path: str, **how: Any) -> None:
        last = next((at for _, _, at in reversed(self.events) if at), "")
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
        with suppress(httpx.TransportError):
            async with replica.client.stream(method, path, headers=headers, **how) as answer:
                if answer.status_code != 200:
                    await self._refused(answer)
                    return
                text = ""
                async for piece in answer.aiter_text():
                    *blocks, text = (text + piece).split("\n\n")
                    self._add([each for block in blocks for each in events_of(block)])
                    self.news.set()

    async def _refused(self, answer: httpx.Response) -> None:
        raise AssertionError(await answer.aread())

    def _add(self, events: list[Event]) -> None:
        for event in events:
            if event[2]:
                self.events.append(event)
            elif event[0] == "goaway":
                self.sent_away = event[1]["reason"]

    async def until(self, name: str, count: int = 1) -> None:
        """Wait until the reader has this number of events of this name.

        A busy machine makes fewer chunks of a reply: pieces that arrive together are one chunk.
        """
        async with asyncio.timeout(EVENT_SECONDS):
            while [event for event, _, _ in self.events].count(name) < count:
                assert not self.is_done, f"the reply ended with less than {count} {name}"
                self.news.clear()
                await self.news.wait()


class PatientReader(Reader):
    """A reader that comes again after an honest refusal, and after a connection that broke."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: Counter[str] = Counter()

    async def ask(self, replica: Called, message: str, **members: Any) -> None:
        """Ask until the message is accepted, then read until the connection ends or breaks."""
        while not self.events:
            await super().ask(replica, message, **members)

    async def join(self, replica: Called, *, token: str = "") -> None:
        """Resume, and pause where the reply has not ended yet."""
        await super().join(replica, token=token)
        if not self.is_done:
            await asyncio.sleep(0.2)

    async def _refused(self, answer: httpx.Response) -> None:
        await answer.aread()
        assert answer.status_code == 503, answer.text
        refusal = answer.json()
        assert self.events or refusal["stored"] == "nothing", "the message may be stored"
        self.refused[refusal["code"]] += 1
        await asyncio.sleep(0.2)


async def require_alike(reader: PatientReader, other: Called) -> None:
    """Another process tells the reply as its own reader heard it."""
    again = PatientReader()
    again.events = reader.events[:1]
    await again.finish(other)
    assert again.events == reader.events
