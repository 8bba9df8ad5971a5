"""Three nodes of PostgreSQL under Patroni, which a test kills, freezes and cuts off.

Patroni keeps its state in one process of its own Raft, which no fault touches: the store. Each node
reaches the store, and everybody reaches a node, through TCP proxies of the test.
"""

import asyncio
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import yaml
from psycopg.conninfo import conninfo_to_dict

from service.postgres.embedded import Server
from service.postgres.supervisor import Account, environment, processes_of
from tests.folders import in_memory

TTL_SECONDS: Final = 20
"""How long a leader is one without a word. Patroni takes no shorter time."""
_TIMES: Final = {"ttl": TTL_SECONDS, "loop_wait": 1, "retry_timeout": 3}
_LIMIT_SECONDS: Final = 90.0
_POLL_SECONDS: Final = 0.1
_PARAMETERS: Final = {"fsync": "off", "max_connections": 200, "wal_log_hints": "on"}


class Link:
    """A TCP port that leads to another port, until the way there is cut.

    What is sent on a way that is cut is lost in both directions, and the connections stay open, as
    in a network. Afterwards what was held up is passed on: TCP sends again what a network loses.
    """

    def __init__(self, target: int, way_of: Callable[[int], asyncio.Event]) -> None:
        """`way_of` a client's port is set while the way is whole."""
        self._target = target
        self._way_of = way_of
        self.port = _free_port()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["Link"]:
        """Listen, and end all connections at the end."""
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            with suppress(OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
            writer.close()
            tasks.discard(task)

        server = await asyncio.start_server(serve, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way = await asyncio.to_thread(self._way_of, int(writer.get_extra_info("peername")[1]))
        await way.wait()
        back, there = await asyncio.open_connection("127.0.0.1", self._target)
        passing = [
            asyncio.create_task(_pass(*ends, way)) for ends in ((reader, there), (back, writer))
        ]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
            there.close()


class Member:
    """One node: a PostgreSQL and its Patroni."""

    def __init__(self, name: str, folder: Path, cluster: "Cluster") -> None:
        self.name = name
        self._folder = folder
        self._cluster = cluster
        self._patroni: subprocess.Popen[bytes] | None = None
        self._postgres_port, self._rest_port = _free_port(), _free_port()
        self.way = asyncio.Event()
        """Set while the node is not cut off."""
        self.way.set()
        self.postgres = Link(self._postgres_port, lambda _: self.way)
        self._rest = Link(self._rest_port, lambda _: self.way)
        self.links = (self.postgres, self._rest)
        folder.mkdir()
        os.chown(folder, cluster.account.uid, cluster.account.gid)

    @property
    def data(self) -> Path:
        """The folder of PostgreSQL's files."""
        return self._folder / "data"

    def url(self, database: str) -> str:
        """The node's own address, past the proxy."""
        return self._cluster.address(database, [self._postgres_port])

    async def start(self) -> None:
        """Start Patroni, which starts PostgreSQL."""
        settings: dict[str, Any] = {
            "scope": "drill",
            "name": self.name,
            "restapi": {
                "listen": f"127.0.0.1:{self._rest_port}",
                "connect_address": f"127.0.0.1:{self._rest.port}",
            },
            "raft": {"partner_addrs": [f"127.0.0.1:{self._cluster.store.port}"]},
            "bootstrap": {"dcs": self._cluster.settings},
            "postgresql": {
                "listen": f"127.0.0.1:{self._postgres_port}",
                "connect_address": f"127.0.0.1:{self.postgres.port}",
                "data_dir": str(self.data),
                "bin_dir": str(self._cluster.programs),
                "pgpass": str(self._folder / "pgpass"),
                "authentication": dict.fromkeys(
                    ("superuser", "replication", "rewind"), self._cluster.login
                ),
                "parameters": {"unix_socket_directories": str(self._folder)},
                "pg_hba": [
                    f"host {of} all 127.0.0.1/32 scram-sha-256" for of in ("all", "replication")
                ],
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
            },
            "log": {"level": "INFO"},
        }
        self._patroni = self._cluster.run("patroni", settings, self._folder)

    def freeze(self) -> None:
        """Let all its processes stand still: Patroni first, so that it notices nothing."""
        for process in self._processes():
            with suppress(psutil.Error):
                process.suspend()

    def thaw(self) -> None:
        """Let them go on: PostgreSQL first, so that it is there before Patroni demotes it."""
        for process in reversed(self._processes()):
            with suppress(psutil.Error):
                process.resume()

    async def kill(self) -> None:
        """End all its processes with -9."""
        while left := self._processes():
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            await asyncio.sleep(0.02)
            if self._patroni is not None:
                self._patroni.poll()

    def cut(self) -> None:
        """Cut the node off: from the store, from the other nodes and from the services."""
        self.way.clear()

    def mend(self) -> None:
        """End the cut."""
        self.way.set()

    def has_port(self, port: int) -> bool:
        """Whether its Patroni has a connection from this port."""
        if self._patroni is None or self._patroni.poll() is not None:
            return False
        with suppress(psutil.Error):
            connections = psutil.Process(self._patroni.pid).net_connections("tcp4")
            return any(each.laddr and each.laddr.port == port for each in connections)
        return False

    def _processes(self) -> list[psutil.Process]:
        patroni: list[psutil.Process] = []
        if self._patroni is not None and self._patroni.poll() is None:
            with suppress(psutil.Error):
                patroni = [psutil.Process(self._patroni.pid)]
        return patroni + processes_of(self.data)

    async def told(self) -> dict[str, Any]:
        """What its Patroni tells of all members; nothing while it does not answer."""
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient(timeout=2) as client:
                answer = await client.get(f"http://127.0.0.1:{self._rest_port}/cluster")
                return dict(answer.json())
        return {}

    async def hand_over(self) -> None:
        """Ask Patroni for a planned switchover."""
        async with httpx.AsyncClient(timeout=_LIMIT_SECONDS) as client:
            answer = await client.post(
                f"http://127.0.0.1:{self._rest_port}/switchover",
                json={"leader": self.name},
            )
            assert answer.status_code == 200, answer.text

    def log(self) -> str:
        """The end of Patroni's log."""
        with suppress(FileNotFoundError):
            return (self._folder / "log").read_text(errors="replace")[-6_000:]
        return "(no log)"


class Cluster:
    """The members and their store."""

    settings: Mapping[str, Any] = {
        **_TIMES,
        "synchronous_mode": True,
        "synchronous_mode_strict": True,
        "maximum_lag_on_failover": 0,
        "postgresql": {"use_pg_rewind": True, "parameters": _PARAMETERS},
    }

    def __init__(self, server: Server, folder: Path) -> None:
        owner = server.data_dir.stat()
        self.account = Account(owner.st_uid, owner.st_gid)
        postmaster = int((server.data_dir / "postmaster.pid").read_text().split()[0])
        self.programs = Path(psutil.Process(postmaster).exe()).parent
        self._server_url = server.url
        self._user, _, _ = urlsplit(server.url).netloc.rpartition("@")
        known = conninfo_to_dict(server.url)
        self.login = {"username": known["user"], "password": known["password"]}
        self._open = asyncio.Event()
        self._open.set()
        self._store_port = _free_port()
        self.store = Link(self._store_port, self._way_from)
        self._folder = folder
        self._controller: subprocess.Popen[bytes] | None = None
        self.members = [Member(f"node{n}", folder / f"node{n}", self) for n in (1, 2, 3)]

    def _way_from(self, port: int) -> asyncio.Event:
        """The way of the member whose Patroni connects from this port."""
        ways = [member.way for member in self.members if member.has_port(port)]
        return ways[0] if ways else self._open

    def address(self, database: str, ports: Sequence[int]) -> str:
        """The address of a database at these ports."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql://{self._user}@{hosts}/{database}"

    def url(self, database: str) -> str:
        """The address by which libpq finds the primary, whichever node that is."""
        ports = [member.postgres.port for member in self.members]
        return f"{self.address(database, ports)}?target_session_attrs=read-write"

    def run(
        self, program: str, settings: Mapping[str, Any], folder: Path
    ) -> subprocess.Popen[bytes]:
        """Run a program of Patroni as the user of PostgreSQL."""
        file = folder / "settings.yml"
        file.write_text(yaml.safe_dump(dict(settings)))
        os.chown(file, self.account.uid, self.account.gid)
        with (folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*_as(self.account), str(Path(sys.executable).with_name(program)), str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment(),
            )

    async def leader(self, *, after: Member | None = None) -> Member:
        """The leader, as the others tell; another one than `after`."""
        found: list[Member] = []

        async def look() -> bool:
            for member in self.members:
                told = await member.told() if member is not after else {}
                names = [each["name"] for each in told.get("members", ()) if _leads(each)]
                found[:] = [each for each in self.members if [each.name] == names]
                if found and found[0] is not after:
                    return await asyncio.to_thread(_is_primary, found[0].url("postgres"))
            return False

        await self._until(look)
        return found[0]

    async def await_all(self) -> None:
        """Wait until the leader has two standbys that stream, one of them synchronously."""

        async def look() -> bool:
            told = [await each.told() for each in self.members]
            states = [
                sorted((each["role"], each["state"]) for each in one.get("members", ()))
                for one in told
            ]
            whole = [("leader", "running"), ("replica", "streaming"), ("sync_standby", "streaming")]
            return states == [whole] * 3

        await self._until(look)

    def logs(self) -> str:
        """The ends of the logs of all members."""
        return "\n".join(f"{each.name}: {each.log()}" for each in self.members)

    async def _until(self, look: Callable[[], Any]) -> None:
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                while not await look():  # noqa: ASYNC110 - Patroni sends no news
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"Patroni did not get there:\n{self.logs()}") from None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["Cluster"]:
        """Start the store and all members; end them."""
        async with AsyncExitStack() as stack:
            for link in (self.store, *chain.from_iterable(each.links for each in self.members)):
                await stack.enter_async_context(link.running())
            try:
                await self._start()
                yield self
            finally:
                for member in self.members:
                    await member.kill()
                if self._controller is not None:
                    self._controller.kill()
                    self._controller.wait()

    async def _start(self) -> None:
        store = self._folder / "store"
        store.mkdir()
        os.chown(store, self.account.uid, self.account.gid)
        raft = {
            # The store tells this address to every client, whichever address the client came to.
            "self_addr": f"127.0.0.1:{self.store.port}",
            "bind_addr": f"127.0.0.1:{self._store_port}",
            "data_dir": str(store),
        }
        self._controller = self.run("patroni_raft_controller", {"raft": raft}, store)
        first, *others = self.members
        copied = self.account.run(
            str(self.programs / "pg_basebackup"),
            f"--dbname={self._server_url}",
            f"--pgdata={first.data}",
            "--checkpoint=fast",
            "--no-sync",
        )
        assert copied.returncode == 0, copied.stdout
        await first.start()
        await self.leader()
        for other in others:
            await other.start()
        await self.await_all()


@asynccontextmanager
async def cluster(server: Server) -> AsyncGenerator[Cluster]:
    """Three members with what the tests' server has, the template of the databases included."""
    with _folder() as folder:
        async with Cluster(server, folder).running() as running:
            yield running


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="patroni-", dir=in_memory()) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _leads(member: Mapping[str, Any]) -> bool:
    return (member["role"], member["state"]) == ("leader", "running")


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: asyncio.Event
) -> None:
    while data := await reader.read(65_536):
        await way.wait()
        writer.write(data)
        await writer.drain()
    await way.wait()  # the end of a connection is a message as well


def _is_primary(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2) as admin:
        return admin.execute("select pg_is_in_recovery()").fetchone() == (False,)
    return False


def _as(account: Account) -> list[str]:
    """What makes a program run as this user. Patroni is Python, which lies where root alone may
    look, perhaps: so the user keeps root's right to read files, and no other."""
    if os.geteuid() != 0:
        return []
    right = "+dac_read_search"
    return [
        "setpriv",
        f"--reuid={account.uid}",
        f"--regid={account.gid}",
        "--clear-groups",
        f"--inh-caps={right}",
        f"--ambient-caps={right}",
        "--pdeathsig=TERM",
    ]


def _free_port() -> int:
    """A port below those that the system gives to clients, so that no client takes it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
