"""PgBouncer in transaction mode before the tests' PostgreSQL."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from service.postgres.embedded import Server
from service.postgres.supervisor import Account
from tests.folders import in_memory

PROGRAM: Final = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
"""`.ci/run` installs it. Where it is missing, the tests of the pooler are not collected."""

_CONFIGURATION: Final = """\
[databases]
* = host={server} port=5432

[pgbouncer]
unix_socket_dir = {folder}
listen_port = 5432
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 2000
server_idle_timeout = 5
logfile = {folder}/log
"""
_START_SECONDS: Final = 20.0


class Pooler:
    """A running PgBouncer. Its folder has its socket."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, url: str) -> str:
        """The address of a database through the pooler."""
        return make_conninfo(url, host=str(self._folder), port="5432")

    @property
    def log(self) -> str:
        """What it has logged until now."""
        return (self._folder / "log").read_text()


@contextmanager
def pooler(server: Server, *, size: int = 4) -> Iterator[Pooler]:
    """A pooler with so many sessions of the server for each database."""
    assert PROGRAM is not None, "apt-get install pgbouncer"
    owner = server.data_dir.stat()
    account = Account(owner.st_uid, owner.st_gid)
    where = conninfo_to_dict(server.url)
    with tempfile.TemporaryDirectory(prefix="pooler-", dir=in_memory()) as name:
        folder = Path(name)
        folder.chmod(0o777)
        files = {
            "users": '"{user}" "{password}"\n'.format(**where),
            "ini": _CONFIGURATION.format(server=where["host"], folder=folder, size=size),
        }
        for file, text in files.items():
            (folder / file).write_text(text)
            (folder / file).chmod(0o644)
        process = subprocess.Popen(
            account.command(PROGRAM, "-q", str(folder / "ini")), stderr=subprocess.DEVNULL
        )
        try:
            _await_socket(folder / ".s.PGSQL.5432")
            yield Pooler(folder)
        finally:
            ended, log = process.poll(), (folder / "log").read_text()[-2_000:]
            process.terminate()
            process.wait()
        assert ended is None, f"PgBouncer ended by itself with {ended}. Its log ends with:\n{log}"


def _await_socket(path: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with socket.socket(socket.AF_UNIX) as trial:
            try:
                trial.connect(str(path))
            except OSError:
                assert time.monotonic() < deadline, f"PgBouncer does not listen at {path}"
                time.sleep(0.01)
            else:
                return
