"""The log for code in threads: it runs on an event loop in a thread of its own."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from functools import partial
from threading import Lock, Thread
from typing import Any, Final, TypeVar

from service.concurrency.tasks import cancelled
from service.eventlog.live import LiveLog
from service.eventlog.store import EventStore
from service.eventlog.writer import Writer
from service.postgres import connections, migrations
from service.postgres.connections import Pool

T = TypeVar("T")
START_SECONDS: Final = 30.0
CALL_SECONDS: Final = 60.0


class LogStopped(Exception):
    """The log has ended: it was closed, or the error that is this error's cause ended it."""


class ThreadedLog:
    """Usable from any thread until closed. The loop's thread owns everything in it.

    `_stopped` is None while the loop accepts work. It is set and read under `_lock`, so that work
    is either a task on the loop, which the end of the loop cancels, or refused.
    """

    pool: Pool
    store: EventStore
    live_log: LiveLog
    writer: Writer

    def __init__(self, url: str, *, migrate: bool) -> None:
        """Start; with `migrate` the database is brought to this version first.

        Raises what the database raises, and TimeoutError after START_SECONDS.
        """
        self._url = url
        self._migrate = migrate
        self._loop = asyncio.new_event_loop()
        self._close = asyncio.Event()
        self._lock = Lock()
        self._stopped: LogStopped | None = None
        self._started: Future[None] = Future()
        self._thread = Thread(target=self._work, name="throughline-log", daemon=True)
        self._thread.start()
        self._started.result(START_SECONDS)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine on the loop. Raises LogStopped. The end of the log cancels it."""
        with self._lock:
            if self._stopped is None:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise self._stopped

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result.

        Raises what the coroutine raises, LogStopped, and TimeoutError after CALL_SECONDS.
        """
        try:
            return self.submit(work).result(CALL_SECONDS)
        except CancelledError:
            if self._stopped is None:
                raise
            raise self._stopped from None

    def close(self) -> None:
        """Write the appends that wait, then end the thread. A second time does nothing."""
        with self._lock:
            if self._stopped is None:
                self._loop.call_soon_threadsafe(self._close.set)
        self._thread.join()

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        stopped = LogStopped("the log is closed")
        try:
            await self._serve()
        except Exception as error:  # noqa: BLE001 - the threads that wait get it
            stopped = LogStopped(f"the log has stopped: {error}")
            stopped.__cause__ = error
            if not self._started.done():
                self._started.set_exception(error)
        with self._lock:
            self._stopped = stopped
        # Work that was submitted until now becomes a task here. The runner cancels all tasks.
        await asyncio.sleep(0)

    async def _serve(self) -> None:
        if self._migrate:
            await migrations.migrate(self._url)
        connect = partial(connections.connect, self._url)
        async with connections.pool(self._url) as self.pool:
            self.store = EventStore(self.pool)
            self.live_log = LiveLog(self.store)
            self.writer = Writer(connect, self.live_log)
            await self.store.head()
            writing = asyncio.create_task(self.writer.run())
            listening = asyncio.create_task(self.live_log.run(connect))
            try:
                await _first(self.live_log.listening.wait(), writing, listening)
                self._started.set_result(None)
                await _first(self._close.wait(), writing, listening)
            finally:
                self.writer.close()
                await writing
                # The end of the loop would cancel the task, too, and then leave a connection open.
                await cancelled(listening)


async def _first(awaited: Coroutine[Any, Any, object], *running: asyncio.Task[None]) -> None:
    """Wait for `awaited`. Raises the error of a running task that ends before."""
    waiting = asyncio.ensure_future(awaited)
    await asyncio.wait((waiting, *running), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in running:
        if task.done():
            task.result()
