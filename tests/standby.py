"""A replica of the tests' PostgreSQL: a hot standby, made by `pg_basebackup`."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from service.postgres.embedded import Server
from service.postgres.supervisor import Account, Postmaster
from tests.folders import in_memory


class Standby:
    """A hot standby in a folder of its own, which a test may stop, start and pause."""

    def __init__(self, server: Server, folder: Path) -> None:
        owner = server.data_dir.stat()
        self._account = Account(owner.st_uid, owner.st_gid)
        postmaster = int((server.data_dir / "postmaster.pid").read_text().split()[0])
        # The copy of the programs that this account can reach.
        self._programs = Path(psutil.Process(postmaster).exe()).parent
        self._folder = folder
        self._server_url = server.url
        self._postmaster: Postmaster | None = None
        self._copy()

    def url(self, url: str) -> str:
        """The address here of a database of the primary."""
        socket = quote(str(self._folder / "socket"), safe="")
        return urlsplit(url)._replace(query=f"host={socket}&port=5432").geturl()

    def _copy(self) -> None:
        done = self._account.run(
            str(self._programs / "pg_basebackup"),
            f"--dbname={self._server_url}",
            f"--pgdata={self._folder / 'data'}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        """Start it; returns when it answers reads."""
        sockets = self._folder / "socket"
        settings = {
            "unix_socket_directories": str(sockets),
            "listen_addresses": "",
            "fsync": "off",
            "max_connections": "200",
        }
        options = [part for item in settings.items() for part in ("-c", "{}={}".format(*item))]
        self._postmaster = Postmaster(
            program=[
                str(self._programs / "postgres"),
                "-D",
                str(self._folder / "data"),
                *options,
            ],
            account=self._account,
            data=self._folder / "data",
            sockets=sockets,
            output=self._folder / "standby.log",
            url=self.url(self._server_url),
        )
        self._postmaster.start()

    def stop(self) -> None:
        """End all its processes."""
        if self._postmaster is not None:
            self._postmaster.stop()
            self._postmaster = None

    @property
    def process(self) -> psutil.Process:
        """Its first process."""
        pid = (self._folder / "data" / "postmaster.pid").read_text().split()[0]
        return psutil.Process(int(pid))

    def execute(self, statement: str) -> None:
        """Execute a statement there, as the superuser."""
        with psycopg.connect(self.url(self._server_url), autocommit=True) as admin:
            admin.execute(statement.encode())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it fall behind: what it receives is not replayed until the end."""
        self.execute("select pg_wal_replay_pause()")
        try:
            yield
        finally:
            self.execute("select pg_wal_replay_resume()")

    def await_database(self, url: str) -> None:
        """Wait until it has the whole of a database of the primary, as that is now."""
        with psycopg.connect(url, autocommit=True) as primary:
            primary.execute("select pg_current_xact_id()")  # its commit writes all before it
            at = primary.execute("select pg_current_wal_flush_lsn()::text").fetchone()
        assert at is not None
        with psycopg.connect(self.url(self._server_url), autocommit=True) as here:
            while here.execute(
                "select pg_last_wal_replay_lsn() < %s::pg_lsn, pg_sleep(0.005)", at
            ).fetchone() == (True, ""):
                pass


@contextmanager
def standby(server: Server) -> Iterator[Standby]:
    """A running standby of a server."""
    with tempfile.TemporaryDirectory(prefix="standby-", dir=in_memory()) as name:
        folder = Path(name)
        folder.chmod(0o755)
        owner = server.data_dir.stat()
        for each in (folder / "data", folder / "socket"):
            each.mkdir(mode=0o700)
            _give(each, owner.st_uid, owner.st_gid)
        made = Standby(server, folder)
        made.start()
        try:
            with _sending_at_once(server):
                yield made
        finally:
            made.stop()


@contextmanager
def _sending_at_once(server: Server) -> Iterator[None]:
    """Have a commit written before it is told, as everywhere but in tests: what is not written is
    not sent to the standby."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        role = Identifier(admin.info.user)
        admin.execute(SQL("alter role {} set synchronous_commit = local").format(role))
        try:
            yield
        finally:
            admin.execute(SQL("alter role {} reset synchronous_commit").format(role))


def _give(path: Path, uid: int, gid: int) -> None:
    os.chown(path, uid, gid)


def is_of(url: str, server: Server) -> bool:
    """Whether the address leads to the server itself, and not to a proxy before it."""
    return conninfo_to_dict(url).get("host") == conninfo_to_dict(server.url).get("host")
