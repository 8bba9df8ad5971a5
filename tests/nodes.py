"""Nodes of PostgreSQL that a test kills, freezes and promotes: one primary, and a standby that has
every commit before it is acknowledged."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import psutil
import psycopg

from service.postgres.embedded import Server
from service.postgres.supervisor import Account, clear_traces, processes_of
from tests.folders import in_memory

_START_SECONDS: Final = 60.0
_SETTINGS: Final = {
    "listen_addresses": "",
    "fsync": "off",
    "max_connections": "200",
    "synchronous_standby_names": "*",
    "synchronous_commit": "on",
}


class Node:
    """One server. Nobody starts it again but the test."""

    def __init__(self, folder: Path, programs: Path, account: Account, server_url: str) -> None:
        self._folder = folder
        self._programs = programs
        self._account = account
        self._server_url = server_url
        self._child: subprocess.Popen[bytes] | None = None
        self._sockets.mkdir(parents=True)
        for each in (self._folder, self._sockets):
            os.chown(each, account.uid, account.gid)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _sockets(self) -> Path:
        return self._folder / "socket"

    def url(self, database: str = "") -> str:
        """The address of this node."""
        return _at(self._server_url, database, str(self._sockets))

    def copy(self, url: str, *, as_standby: bool) -> None:
        """Become a copy of the server at `url`."""
        shutil.rmtree(self._data, ignore_errors=True)
        recovery = ["--write-recovery-conf"] if as_standby else []
        done = self._account.run(
            str(self._programs / "pg_basebackup"),
            f"--dbname={url}",
            f"--pgdata={self._data}",
            "--checkpoint=fast",
            "--no-sync",
            *recovery,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        """Start it; returns when it answers."""
        clear_traces(self._data, self._sockets)
        settings = _SETTINGS | {"unix_socket_directories": str(self._sockets)}
        options = [part for item in settings.items() for part in ("-c", "{}={}".format(*item))]
        with (self._folder / "log").open("ab") as log:
            self._child = subprocess.Popen(
                self._account.command(
                    str(self._programs / "postgres"), "-D", str(self._data), *options
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url(), connect_timeout=5).close()
                return
            assert time.monotonic() < deadline, (self._folder / "log").read_text()[-2_000:]
            time.sleep(0.05)

    def freeze(self) -> None:
        """Let it stand still: it keeps its connections and answers nothing."""
        for process in processes_of(self._data):
            with suppress(psutil.Error):
                process.suspend()

    def kill(self) -> None:
        """End all its processes with -9, also while it is frozen."""
        while left := processes_of(self._data):
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(0.01)
        if self._child is not None:
            self._child.wait()
            self._child = None

    def promote(self) -> None:
        """Make the standby the primary; returns when it is one."""
        with psycopg.connect(self.url(), autocommit=True) as admin:
            row = admin.execute("select pg_promote(wait => true, wait_seconds => 60)").fetchone()
            assert row == (True,)


class Pair:
    """A primary and its standby. A commit is acknowledged once both of them have it."""

    def __init__(self, primary: Node, standby: Node, server_url: str) -> None:
        self.primary, self.standby = primary, standby
        self._all = (primary, standby)
        self._server_url = server_url

    def url(self, database: str = "") -> str:
        """The address by which libpq finds the primary, whichever node that is."""
        folders = ",".join(str(node._sockets) for node in self._all)
        found = _at(self._server_url, database, folders, ports="5432,5432")
        return f"{found}&target_session_attrs=read-write"

    def join(self) -> None:
        """Let the other node follow the primary, as a new copy of it."""
        self.standby.copy(self.primary.url(), as_standby=True)
        self.standby.start()

    def fail_over(self) -> None:
        """End the primary, promote the standby, and let the old primary follow the new one."""
        self.primary.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary
        self.join()

    def stop(self) -> None:
        """End both."""
        for node in self._all:
            node.kill()


@contextmanager
def pair(server: Server) -> Iterator[Pair]:
    """Two nodes with what the tests' server has, the template of the databases included."""
    owner = server.data_dir.stat()
    account = Account(owner.st_uid, owner.st_gid)
    postmaster = int((server.data_dir / "postmaster.pid").read_text().split()[0])
    programs = Path(psutil.Process(postmaster).exe()).parent
    with tempfile.TemporaryDirectory(prefix="nodes-", dir=in_memory()) as name:
        Path(name).chmod(0o755)
        first, second = (Node(Path(name, each), programs, account, server.url) for each in "ab")
        both = Pair(first, second, server.url)
        try:
            both.primary.copy(server.url, as_standby=False)
            both.primary.start()
            both.join()
            yield both
        finally:
            both.stop()


def _at(url: str, database: str, folders: str, *, ports: str = "5432") -> str:
    parts = urlsplit(url)
    path = f"/{database}" if database else parts.path
    return parts._replace(path=path, query=f"host={quote(folders, safe=',')}&port={ports}").geturl()
