"""The parent of the worker processes: starts them, starts those again that end, replaces them."""

import asyncio
import signal
import tempfile
from collections.abc import Coroutine
from itertools import count
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any, Final

import structlog

from service.chat import leases
from service.chat.running import LANDING_SECONDS
from service.cli.database import Database
from service.cli.workers.job import Job
from service.cli.workers.process import WorkerProcess
from service.eventlog.errors import DATABASE_AWAY
from service.http.server import url_of
from service.ops import shared_metrics
from service.postgres import connections
from service.settings import Settings

if TYPE_CHECKING:
    from service.cli.demo.first_run import Begun

PAUSES_SECONDS: Final = (0.5, 30.0)
"""The first and the longest pause before a worker process is started again."""

SETTLED_SECONDS: Final = 60.0
"""A process that ran for so long is started again after the first pause."""

STOP_SECONDS: Final = 3 * LANDING_SECONDS
"""How long the processes may take to stop, beyond the grace of their replies."""

_log = structlog.stdlib.get_logger(__name__)


class WorkersFailed(RuntimeError):
    """The worker processes cannot be started. The message says why, and what to do."""


class Supervisor:
    """Keeps a number of worker processes on the same sockets.

    Each worker has a place, and `_keep` is the task of a place. Where a process is replaced, two of
    them run for a while: `_processes` has all that have not ended. `_places` are locks: a place
    gets one new process at a time.
    """

    def __init__(self, settings: Settings, database: Database, *, with_demo: bool) -> None:
        self.url = ""
        self.begun: Begun | None = None
        self.ready = asyncio.Event()
        self._settings = settings
        self._database = database
        self._sockets: list[socket] = []
        self._with_demo = with_demo
        self._workers: list[WorkerProcess] = []
        self._places = [asyncio.Lock() for _ in range(settings.workers)]
        self._processes: set[WorkerProcess] = set()
        self._numbers: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._burials: set[asyncio.Task[None]] = set()
        self._stop_asked = asyncio.Event()
        self._restart_asked = asyncio.Event()
        self._metrics = Path()
        self._has_failed = False

    async def serve(self, sockets: list[socket]) -> None:
        """Run until a signal; `ready` is set when all workers listen. Raises WorkersFailed."""
        self._sockets, self.url = sockets, url_of(sockets[0])
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryDirectory(prefix="throughline-metrics-") as folder:
            self._metrics = Path(folder)
            loop.add_signal_handler(signal.SIGTERM, self._stop_asked.set)
            loop.add_signal_handler(signal.SIGINT, self._on_interrupt)
            loop.add_signal_handler(signal.SIGHUP, self._restart_asked.set)
            starting = asyncio.create_task(self._start_all())
            stopping = asyncio.create_task(self._stop_asked.wait())
            try:
                await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    await stopping
            finally:
                starting.cancel()
                stopping.cancel()
                await self._stop_all()
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    loop.remove_signal_handler(number)

    def _on_interrupt(self) -> None:
        """Stop; a second Ctrl-C does not wait."""
        if self._stop_asked.is_set():
            for process in self._processes:
                process.order("stop at once")
        self._stop_asked.set()

    def require_sound(self) -> None:
        """Raises WorkersFailed where the supervisor stopped by itself."""
        if self._has_failed:
            raise WorkersFailed("The worker processes cannot be kept. The lines above say why.")

    # Start ---------------------------------------------------------------------------------------

    async def _start_all(self) -> None:
        """Start all workers, and let them listen when all of them are prepared."""
        first = range(self._settings.workers)
        demo_urls = [self.url if self._with_demo and n == 0 else None for n in first]
        started = await asyncio.gather(*(self._started(each) for each in demo_urls))
        self._workers = [each for each in started if each is not None]
        if len(self._workers) < len(started):
            raise WorkersFailed("A worker process did not start. The lines above say why.")
        for worker in self._workers:
            worker.order("listen")
            if worker.prepared is not None and worker.prepared.begun is not None:
                self.begun = worker.prepared.begun
        for place in range(len(self._workers)):
            self._run(self._keep(place))
        self._run(self._restart_when_asked())
        self.ready.set()

    async def _started(self, demo_url: str | None = None) -> WorkerProcess | None:
        """Start a process and wait until it is prepared. None where it ended before that."""
        number = next(each for each in count(1) if each not in self._numbers)
        self._numbers.add(number)
        job = Job(
            number=number,
            settings=self._settings,
            database_url=self._database.url,
            direct_url=self._database.direct_url,
            sockets=tuple(each.fileno() for each in self._sockets),
            metrics=self._metrics,
            demo_url=demo_url,
        )
        try:
            process = await WorkerProcess.start(job)
        except OSError as error:  # too many processes, no memory
            _log.error("worker_not_started", worker=number, error=str(error))
            self._numbers.discard(number)
            return None
        self._processes.add(process)
        burial = asyncio.create_task(self._bury(process))
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)
        return process if await process.is_prepared() else None

    async def _bury(self, process: WorkerProcess) -> None:
        """Do what is left to do after the end of a process. Its number is free then."""
        code = await process.ended()
        shared_metrics.forget(self._metrics, process.number)
        if code and process.prepared is not None:
            await self._release(process.prepared.lease_id)
        self._processes.discard(process)
        self._numbers.discard(process.number)

    async def _release(self, lease_id: int) -> None:
        """Let the others take over the replies of a process that was killed, at once."""
        try:
            async with await connections.connect(self._database.direct_url) as connection:
                await leases.release_of_ended(connection, lease_id)
        except DATABASE_AWAY as error:  # then the lease ends by itself
            _log.warning("lease_not_released", error=type(error).__name__)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task without which the workers are not kept: if it fails, the service stops."""

        async def supervise() -> None:
            try:
                await work
            except Exception:  # noqa: BLE001 - the outermost place of a task
                _log.exception("task_failed")
                self._has_failed = True
                self._stop_asked.set()

        self._tasks.add(asyncio.create_task(supervise()))

    # Keep ----------------------------------------------------------------------------------------

    async def _keep(self, place: int) -> None:
        """Whenever the process of this place ends by itself, start another process. For ever."""
        first, longest = PAUSES_SECONDS
        pause = 0.0
        while True:
            worker = self._workers[place]
            code = await worker.ended()
            if worker.ran_seconds > SETTLED_SECONDS:
                pause = 0.0
            while self._workers[place] is worker:  # also while no new process can be started
                pause = min(max(first, 2 * pause), longest)
                _log.error(
                    "worker_ended", worker=worker.number, exit=code, starting_again_in_s=pause
                )
                await asyncio.sleep(pause)
                async with self._places[place]:
                    if self._workers[place] is worker and (other := await self._started()):
                        self._workers[place] = other
                        other.order("listen")

    async def _restart_when_asked(self) -> None:
        while True:
            await self._restart_asked.wait()
            self._restart_asked.clear()
            await self._restart()

    async def _restart(self) -> None:
        """Replace the workers one after the other. An old worker goes when a new one is prepared,
        and stays where there is none: then the others stay, too."""
        for place, lock in enumerate(self._places):
            async with lock:
                old = self._workers[place]
                new = await self._started()
                if new is None:
                    _log.error("worker_not_replaced", worker=old.number)
                    return
                self._workers[place] = new
                new.order("listen")
            old.order("stop")
            await old.ended()
            _log.info("worker_replaced", worker=old.number, by=new.number)
        _log.info("workers_restarted")

    # Stop ----------------------------------------------------------------------------------------

    async def _stop_all(self) -> None:
        """Stop all processes, in the end by force."""
        for task in self._tasks:
            task.cancel()
        for each in self._sockets:
            each.close()
        for process in self._processes:
            if process.prepared is None:
                process.kill()
            else:
                process.order("stop")
        if self._burials:
            await asyncio.wait(self._burials, timeout=self._settings.grace_seconds + STOP_SECONDS)
        for process in self._processes:
            process.kill()
        if self._burials:
            await asyncio.wait(self._burials)
