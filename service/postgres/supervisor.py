"""One PostgreSQL as a child of this process: started, watched, started again, stopped."""

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
IMMEDIATE_LIMIT_S: Final = 6.0  # PostgreSQL itself kills what does not quit within 5 s
BACKEND_LIMIT_S: Final = 5.0  # backends leave by themselves when their postmaster is gone
POLL_S: Final = 0.02
PAUSES_S: Final = (0.5, 30.0)  # the first and the longest before it is started again
SETTLED_S: Final = 60.0  # one that lived this long starts again with the first pause

logger: Final = structlog.stdlib.get_logger()


def private(path: str, flags: int) -> int:
    """An `opener` for `open`: a new file is for its owner alone."""
    return os.open(path, flags, 0o600)


class PostgresFailed(RuntimeError):
    """The embedded PostgreSQL cannot serve. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that PostgreSQL runs as."""

    uid: int
    gid: int

    def command(self, *program: str) -> list[str]:
        """What runs `program` as this user, tied to the calling thread (see `tether`)."""
        script = Path(__file__).with_name("tether.py")
        python = [sys.executable, "-I", "-S", str(script)]
        return [*python, str(os.getpid()), str(self.uid), str(self.gid), *program]

    def run(self, *program: str) -> subprocess.CompletedProcess[str]:
        """Run `program` to its end; stderr is in `stdout`."""
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
    """A fresh one: the service's own holds secrets, and PG* variables that would take effect."""
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
    """The file that the server's log goes to. That of the time before is kept as `*.1`."""
    url: str
    """For libpq, to ask whether the server accepts connections."""

    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _spawning: threading.Lock = field(default_factory=threading.Lock, init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)
    _answered: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        # Every child is forked by this thread: Linux ends a child with the thread that forked it.
        self._thread = threading.Thread(target=self._supervise, name="postmaster", daemon=True)

    def start(self) -> None:
        """Return when the server accepts connections, however long it recovers before that.

        Raises PostgresFailed when it exits instead.
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
        """Return when no process of the server is left: a fast shutdown, by force if it takes long.

        Open transactions are rolled back, clients disconnected.
        """
        with self._spawning:
            self._stopping.set()
        for how, limit in (
            (signal.SIGINT, FAST_LIMIT_S),
            (signal.SIGQUIT, IMMEDIATE_LIMIT_S),
            (signal.SIGKILL, None),
        ):
            if not self._thread.is_alive():  # or never was, when the start was interrupted
                return
            if self._child:
                self._child.send_signal(how)
            self._thread.join(limit)

    def _supervise(self) -> None:
        """Start the server again and again until it is to stop, or did not even start once."""
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
        """Run the server once, to its end. Returns that end in words."""
        try:
            child = self._spawn()
        except OSError as error:
            return str(error)
        return f"exit status {child.wait()}" if child else "not started"

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        # The lock, for `stop` must know the last child there will be.
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
                start_new_session=True,  # Ctrl-C in the terminal is for us: we stop it in order
            )
            return self._child


def clear_traces(data: Path, sockets: Path) -> None:
    """Make way for a new server: no process of an earlier one runs, no file of it names a process.

    The process ids in those files are not looked at, because the number may be another's by now,
    and PostgreSQL would take that one (or a zombie) for a server that runs.
    """
    end_left_overs(data)
    (data / "postmaster.pid").unlink(missing_ok=True)
    for left in sockets.glob(".s.PGSQL.*"):
        left.unlink(missing_ok=True)


def end_left_overs(data: Path) -> None:
    """End whatever still runs from an earlier server of this cluster: politely, then by force.

    One that SIGKILL does not end is stuck in the kernel; PostgreSQL will refuse to start beside it.
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
    """The living PostgreSQL processes (zombies do not live) whose cluster is in `data`."""
    return [process for process in psutil.process_iter() if _serves(process, data)]


def _serves(process: psutil.Process, data: Path) -> bool:
    """PostgreSQL works inside its data folder, all of its processes do."""
    try:
        return process.name() == "postgres" and os.path.samefile(_working_folder(process), data)
    except (OSError, psutil.Error):  # gone, a zombie, or somebody else's: not ours in any case
        return False


def _working_folder(process: psutil.Process) -> str:
    """Through /proc where there is one: the same name in a container is another folder."""
    return f"/proc/{process.pid}/cwd" if sys.platform == "linux" else process.cwd()


def _is_postmaster(process: psutil.Process) -> bool:
    """Its children call themselves `postgres: checkpointer` and the like."""
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
