"""The HTTP server: uvicorn, with a proper end of all streams when it is stopped."""

import asyncio
import errno
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette

from service.chat.running import LANDING_SECONDS
from service.http.call import Service
from service.http.connection_limits import LimitedProtocol, most_connections
from service.settings import Settings

ACCEPTED_AT_ONCE: Final = 64
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_REASONS: Final = {
    errno.EADDRINUSE: "is in use. Stop the other program, or choose another THROUGHLINE_PORT",
    errno.EACCES: "is not allowed to this user. Choose a THROUGHLINE_PORT above 1023",
    errno.EADDRNOTAVAIL: "cannot be used: the address is not of this machine. See THROUGHLINE_HOST",
}
_log = structlog.stdlib.get_logger(__name__)


class CannotListen(RuntimeError):
    """The address of the settings cannot be listened on. The message says why, and what to do."""


def bound_sockets(host: str, port: int) -> list[socket.socket]:
    """Sockets for every address of the host; for port 0, one socket with a free port.

    Nobody can connect before the server listens on them. Raises CannotListen.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        reason = error.strerror or "it is unknown"
        raise CannotListen(f"THROUGHLINE_HOST={host!r} cannot be used: {reason}.") from None
    addresses = dict.fromkeys((family, address) for family, _, _, _, address in found)
    sockets: list[socket.socket] = []
    for family, address in list(addresses)[: 1 if port == 0 else None]:
        try:
            sockets.append(_bound(family, address))
        except OSError as error:
            for each in sockets:
                each.close()
            reason = _REASONS.get(error.errno or 0, f"cannot be used: {error.strerror}")
            raise CannotListen(f"Port {port} of {host} {reason}.") from None
    return sockets


def url_of(listening: socket.socket) -> str:
    """The URL of a socket that is bound."""
    host, port = listening.getsockname()[:2]
    return f"http://{host}:{port}"


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


class ServiceFailed(RuntimeError):
    """The service stopped by itself. The message says what to do."""


class Server(uvicorn.Server):
    """Lets running replies end when a signal comes, while their streams are still open.

    Uvicorn itself only waits for connections; nobody would tell the replies to come to an end.

    `before_listening` is awaited when the service has started, before any client can connect. The
    sockets are then shared with other processes.
    """

    def __init__(
        self,
        app: Starlette,
        settings: Settings,
        *,
        before_listening: Callable[["Server"], Awaitable[None]] | None = None,
    ) -> None:
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
        self._before_listening = before_listening
        self._grace_seconds = settings.grace_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._listeners: list[socket.socket] = []
        self._accepting: set[asyncio.Task[object]] = set()
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; `ready` is set when it does."""
        self._loop = asyncio.get_running_loop()
        if self._before_listening is None:
            await super().startup(sockets)
            listening = [each for server in self.servers for each in server.sockets]
        else:
            await super().startup([])
            await self._before_listening(self)
            listening = [] if self.should_exit else sockets or []
            for each in listening:
                each.listen(self.config.backlog)
        self._listeners = [each.dup() for each in listening]
        for listener in self._listeners:
            listener.setblocking(False)
            self._loop.add_reader(listener, self._accept_waiting, listener)
        _log.info("listening", most_connections=most_connections())
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, and wait until the open connections have ended."""
        await self._stop_accepting()
        await super().shutdown(sockets)

    async def _stop_accepting(self) -> None:
        """Accept the connections that wait, and then no more. Return when all of them are open."""
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            while self._accept_waiting(listener):
                pass
            listener.close()
        self._listeners = []
        for server in self.servers:
            server.close()
        if self._accepting:
            await asyncio.wait(self._accepting)

    def _accept_waiting(self, listener: socket.socket) -> bool:
        """Accept all connections that wait, up to a limit. Returns whether more may wait.

        Uvloop's own server accepts one connection in each round of the loop. A busy loop makes a
        few rounds a second, and hundreds of clients would wait for a word that they are refused.
        """
        assert self._loop is not None
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except OSError:  # none waits, or no descriptor is free
                return False
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opening = self._loop.create_task(self._open(connection))
            self._accepting.add(opening)
            opening.add_done_callback(self._accepting.discard)
        return True

    async def _open(self, connection: socket.socket) -> None:
        """Serve an accepted connection as uvicorn serves its own ones."""

        def protocol() -> LimitedProtocol:
            return LimitedProtocol(self.config, self.server_state, self.lifespan.state)

        try:
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)
        except OSError:  # the client has left
            connection.close()

    @property
    def service(self) -> Service:
        """The parts of the service, once it is ready."""
        service: Service = self._app.state.service
        return service

    @property
    def has_failed(self) -> bool:
        """Whether the service stopped by itself, because a part of it failed."""
        return getattr(self._app.state, "has_failed", False)

    def require_sound(self) -> None:
        """Raises ServiceFailed where the service stopped by itself. A supervisor of processes
        starts the service again only where the process ends with a failure."""
        if self.has_failed:
            raise ServiceFailed("A part of the service failed. Its log says why. Start it again.")

    @property
    def url(self) -> str:
        """Where it listens."""
        return url_of(self.servers[0].sockets[0])

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
        if self._loop is not None and self.started and not self.should_exit:
            self._loop.call_soon_threadsafe(self._begin_to_stop)
        super().handle_exit(sig, frame)

    def _begin_to_stop(self) -> None:
        self._stopping = asyncio.ensure_future(self._stop())

    async def _stop(self) -> None:
        """Accept no more connections, answer the open connections, and let replies end.

        The next answer on each connection is the last one there, and says so. A client whose
        connection was accepted, but whose request is still on its way, is answered, too.
        """
        await self._stop_accepting()
        for each in list(self.server_state.connections):
            each.shutdown()
        service = self.service
        service.merged_streams.stop()
        service.build_polls.stop()
        service.run_polls.stop()
        await service.running_turns.drain(self._grace_seconds, may_come=self._may_ask)

    def _may_ask(self) -> bool:
        return any(
            isinstance(each, LimitedProtocol) and each.is_asking
            for each in self.server_state.connections
        )
