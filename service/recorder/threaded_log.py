"""The log for code that waits in threads: on a loop in a thread of its own."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import partial
from threading import Thread
from typing import Any, Final, TypeVar

from service.eventlog.live import LiveLog
from service.eventlog.store import EventStore
from service.eventlog.writer import Writer
from service.postgres import connections
from service.postgres.connections import Pool

T = TypeVar("T")
START_SECONDS: Final = 30.0
CALL_SECONDS: Final = 60.0


class ThreadedLog:
    """Usable from any thread until closed. The loop's thread owns everything in it."""

    pool: Pool
    store: EventStore
    live_log: LiveLog
    writer: Writer

    def __init__(self, url: str, *, migrate: bool) -> None:
        """Start; with `migrate` the database is brought to this version first.

        Raises what the database raises.
        """
        self._url = url
        self._migrate = migrate
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started: Future[None] = Future()
        self._thread = Thread(target=self._work, name="throughline-log", daemon=True)
        self._thread.start()
        self._started.result(START_SECONDS)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do a coroutine on the loop and wait for it."""
        return self.submit(work).result(CALL_SECONDS)

    def close(self) -> None:
        """Write what waits, then end the thread. A second time does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            except Exception as error:  # noqa: BLE001 - told to who waits for the start
                self._started.set_exception(error)

    async def _serve(self) -> None:
        if self._migrate:
            await connections.migrate(self._url)
        connect = partial(connections.connect, self._url)
        async with connections.pool(self._url) as self.pool:
            self.store = EventStore(self.pool)
            self.live_log = LiveLog(self.store)
            self.writer = Writer(connect, self.live_log)
            await self.store.head()
            writing = asyncio.create_task(self.writer.run())
            listening = asyncio.create_task(self.live_log.run(connect))
            await self.live_log.listening.wait()
            self._started.set_result(None)
            await self._stop.wait()
            self.writer.close()
            await writing
            listening.cancel()
