"""The HTTP server: uvicorn, with a proper end of all streams when it is stopped."""

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager
from socket import socket
from types import FrameType
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette

from service.chat.running import LANDING_SECONDS
from service.http.call import Service
from service.http.connection_limits import LimitedProtocol, most_connections
from service.settings import Settings

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_log = structlog.stdlib.get_logger(__name__)


class Server(uvicorn.Server):
    """Lets running replies end when a signal comes, while their streams are still open.

    Uvicorn itself only waits for connections; nobody would tell the replies to come to an end.
    """

    def __init__(self, app: Starlette, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=LimitedProtocol,
                ws="none",  # there are none, and their protocol has other limits
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=round(settings.grace_seconds + LANDING_SECONDS) + 5,
            )
        )
        self._app = app
        self._grace_seconds = settings.grace_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen; `ready` is set when it does."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        _log.info("listening", most_connections=most_connections())
        self.ready.set()

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take the signals while it serves. Uvicorn would raise them once more afterwards, and so
        end the process before its database is stopped."""
        former = {each: signal.signal(each, self.handle_exit) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in former.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; a second Ctrl-C does not wait."""
        if self._loop is not None and not self.should_exit:
            self._loop.call_soon_threadsafe(self._drain)
        super().handle_exit(sig, frame)

    def _drain(self) -> None:
        service: Service = self._app.state.service
        service.merged_streams.stop()
        service.build_polls.stop()
        self._draining = asyncio.ensure_future(service.running_turns.drain(self._grace_seconds))
