"""Runs PostgreSQL as a child of this process, and starts it again when it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import structlog
from psycopg import pq

FAST_LIMIT_S: Final = 30.0  # a fast shutdown writes a checkpoint first
IMMEDIATE_LIMIT_S: Final = 6.0  # PostgreSQL itself kills its processes after 5 s
BACKEND_LIMIT_S: Final = 5.0  # backends exit by themselves after their postmaster
POLL_S: Final = 0.02
PAUSES_S: Final = (0.5, 30.0)  # the first and the longest pause before a restart
SETTLED_S: Final = 60.0  # a server that ran this long restarts with the first pause

logger: Final = structlog.stdlib.get_logger()


def private(path: str, flags: int) -> int:
    """An `opener` for `open`: only its owner can read a new file."""
    return os.open(path, flags, 0o600)


class PostgresFailed(RuntimeError):
    """The embedded PostgreSQL cannot serve. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that PostgreSQL runs as."""

    uid: int
    gid: int

    def command(self, *program: str) -> list[str]:
        """The command line of `program` as this user, tied to the calling thread (see `tether`)."""
        script = Path(__file__).with_name("tether.py")
        python = [sys.executable, "-I", "-S", str(script)]
        return [*python, str(os.getpid()), str(self.uid), str(self.gid), *program]

    def run(self, *program: str) -> subprocess.CompletedProcess[str]:
        """Run `program` to its end. Its stderr goes to `stdout`."""
        return subprocess.run(
            self.command(*program),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            cwd="/",
            env=environment(),
        )


def environment() -> dict[str, str]:
    """A new environment. The service's own has secrets, and PG* variables that take effect."""
    kept = {"LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH")}  # some Pythons need it
    fixed = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    return fixed | {name: value for name, value in kept.items() if value}


@dataclass(kw_only=True, eq=False)
class Postmaster:
    """The server process of one cluster."""

    program: Sequence[str]
    account: Account
    data: Path
    sockets: Path
    output: Path
    """The file of the server's log. The log of the server before is kept as `*.1`."""
    url: str
    """The URL by which libpq asks whether the server accepts connections."""

    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _spawning: threading.Lock = field(default_factory=threading.Lock, init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)
    _answered: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        # One thread forks every child, because Linux ends a child with the thread that forked it.
        self._thread = threading.Thread(target=self._supervise, name="postmaster", daemon=True)

    def start(self) -> None:
        """Return when the server accepts connections, after a recovery of any length.

        Raises PostgresFailed when the server exits.
        """
        clear_traces(self.data, self.sockets)
        with suppress(FileNotFoundError):
            self.output.rename(f"{self.output}.1")
        self._thread.start()
        while pq.PGconn.ping(f"{self.url}&connect_timeout=5".encode()) != pq.Ping.OK:
            self._thread.join(POLL_S)
            if not self._thread.is_alive():
                end = self.output.read_text(errors="replace")[-2000:]
                raise PostgresFailed(
                    f"PostgreSQL exited while it was starting. {self.output} ends with:\n{end}"
                )
        self._answered.set()

    def stop(self) -> None:
        """Shut the server down fast, after FAST_LIMIT_S by force; returns when no process is left.

        Open transactions are rolled back, and clients are disconnected.
        """
        with self._spawning:
            self._stopping.set()
        for how, limit in (
            (signal.SIGINT, FAST_LIMIT_S),
            (signal.SIGQUIT, IMMEDIATE_LIMIT_S),
            (signal.SIGKILL, None),
        ):
            if not self._thread.is_alive():  # also when the start was interrupted
                return
            if self._child:
                self._child.send_signal(how)
            self._thread.join(limit)

    def _supervise(self) -> None:
        """Start the server again and again until `stop`, or until the first start has failed."""
        first, longest = PAUSES_S
        pause = 0.0
        while not self._stopping.wait(pause):
            born = time.monotonic()
            end = self._live()
            clear_traces(self.data, self.sockets)
            if self._stopping.is_set() or not self._answered.is_set():
                return
            settled = time.monotonic() - born > SETTLED_S
            pause = first if settled else min(max(first, 2 * pause), longest)
            logger.error(
                "postgres_died", end=end, output=str(self.output), starting_again_in_s=pause
            )

    def _live(self) -> str:
        """Run the server once, to its end. Returns the end in words."""
        try:
            child = self._spawn()
        except OSError as error:
            return str(error)
        return f"exit status {child.wait()}" if child else "not started"

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        # Under the lock, because `stop` must know the last child.
        with self._spawning, open(self.output, "ab", opener=private) as output:
            if self._stopping.is_set():
                return None
            self._child = subprocess.Popen(
                self.account.command(*self.program),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.data,
                env=environment(),
                start_new_session=True,  # Ctrl-C in the terminal must not reach the server
            )
            return self._child


def clear_traces(data: Path, sockets: Path) -> None:
    """End the processes of an earlier server, and remove its files that name a process id.

    The ids in those files are ignored, because another process may have the id now. PostgreSQL
    would take that process, or a zombie, for a running server.
    """
    end_left_overs(data)
    (data / "postmaster.pid").unlink(missing_ok=True)
    for left in sockets.glob(".s.PGSQL.*"):
        left.unlink(missing_ok=True)


def end_left_overs(data: Path) -> None:
    """End the processes of an earlier server of this cluster, first by a signal, then by force.

    A process that SIGKILL does not end is stuck in the kernel, and PostgreSQL refuses to start.
    """
    recovery = [process for process in processes_of(data) if _is_postmaster(process)]
    _signal(recovery, signal.SIGINT)
    limit = FAST_LIMIT_S if recovery else BACKEND_LIMIT_S
    for harsher in (signal.SIGQUIT, signal.SIGKILL):
        if _gone(data, limit):
            return
        _signal(processes_of(data), harsher)
        limit = IMMEDIATE_LIMIT_S
    _gone(data, limit)


def processes_of(data: Path) -> list[psutil.Process]:
    """The running PostgreSQL processes, without zombies, whose cluster is in `data`."""
    return [process for process in psutil.process_iter() if _serves(process, data)]


def _serves(process: psutil.Process, data: Path) -> bool:
    """Whether the process works in the data folder, as all processes of PostgreSQL do."""
    try:
        return process.name() == "postgres" and os.path.samefile(_working_folder(process), data)
    except (OSError, psutil.Error):  # it has ended, is a zombie, or belongs to another user
        return False


def _working_folder(process: psutil.Process) -> str:
    """The folder through /proc where that exists, as a path means another folder in a container."""
    return f"/proc/{process.pid}/cwd" if sys.platform == "linux" else process.cwd()


def _is_postmaster(process: psutil.Process) -> bool:
    """Whether the process is the postmaster; its children have names such as `postgres: writer`."""
    try:
        return not process.cmdline()[0].startswith("postgres:")
    except (IndexError, psutil.Error):
        return False


def _signal(processes: Iterable[psutil.Process], how: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(how)


def _gone(data: Path, limit: float) -> bool:
    """Whether no process of the cluster is left within `limit` seconds."""
    deadline = time.monotonic() + limit
    while processes_of(data):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
