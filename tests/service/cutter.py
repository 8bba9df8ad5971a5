"""A proxy before PostgreSQL that breaks a connection right before or right after a statement."""

import asyncio
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_READY = b"Z\0\0\0\5"  # ReadyForQuery: the statement is done and committed


class Cutter:
    """A proxy on a Unix socket. `cuts` is the number of connections cut at a statement."""

    def __init__(self, url: str) -> None:
        self._target = conninfo_to_dict(url)
        self._folder = tempfile.TemporaryDirectory(prefix="cut-")
        self.url = make_conninfo(url, host=self._folder.name, port="5432")
        self.refuse = False
        self.mute = False
        """Read requests and pass none on, like a network that loses packets."""
        self.cuts = 0
        self._cut_request: bytes | None = None
        self._cut_answer: bytes | None = None
        self._ends: set[asyncio.StreamWriter] = set()

    def cut_request_with(self, text: bytes) -> None:
        """Cut the next connection that executes a statement with `text`, before it arrives."""
        self._cut_request = text

    def cut_answer_to(self, text: bytes) -> None:
        """Cut the next connection that executes a statement with `text`, once it is committed."""
        self._cut_answer = text

    def sever(self) -> None:
        """Cut every connection, and refuse new ones until `restore`."""
        self.refuse = True
        for end in self._ends:
            end.close()

    def restore(self) -> None:
        """Accept connections again."""
        self.refuse = False

    async def __aenter__(self) -> Self:
        path = Path(self._folder.name, ".s.PGSQL.5432")
        self._server = await asyncio.start_unix_server(self._serve, path)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        self.sever()
        self._folder.cleanup()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.close()
            return
        socket = f"{self._target['host']}/.s.PGSQL.{self._target.get('port') or 5432}"
        up_reader, up_writer = await asyncio.open_unix_connection(socket)
        ends = {writer, up_writer}
        if self.refuse:  # severed while this connection was made
            for end in ends:
                end.close()
            return
        self._ends |= ends
        doomed = asyncio.Event()
        there = asyncio.create_task(self._requests(reader, up_writer, doomed))
        back = asyncio.create_task(self._answers(up_reader, writer, doomed))
        await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        for task in (there, back):
            task.cancel()
        for end in ends:
            end.close()
        await asyncio.gather(there, back, return_exceptions=True)
        self._ends -= ends

    async def _requests(
        self, reader: asyncio.StreamReader, up: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        """Pass on message by message. `doomed` is set if the answer must not arrive."""
        up.write(await self._message(reader, kind=b""))
        statements: dict[bytes, bytes] = {}
        while kind := await reader.read(1):
            message = await self._message(reader, kind)
            text = _executed(message, statements)
            if self._cut_request and self._cut_request in text:
                self._cut_request = None
                self.cuts += 1
                return
            if self._cut_answer and self._cut_answer in text:
                self._cut_answer = None
                doomed.set()
            if not self.mute:
                up.write(message)
                await up.drain()

    async def _message(self, reader: asyncio.StreamReader, kind: bytes) -> bytes:
        size = await reader.readexactly(4)
        return kind + size + await reader.readexactly(int.from_bytes(size) - 4)

    async def _answers(
        self, up: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        swallowed = b""
        while data := await up.read(65_536):
            if not doomed.is_set():
                writer.write(data)
                await writer.drain()
                continue
            swallowed += data
            if _READY in swallowed:
                self.cuts += 1
                return


def _executed(message: bytes, statements: dict[bytes, bytes]) -> bytes:
    """The text that this message executes. A Parse only names the text for a later Bind."""
    kind, body = message[:1], message[5:]
    if kind == b"P":
        name, text, _ = body.split(b"\0", 2)
        statements[name] = text
    if kind == b"B":
        _, name, _ = body.split(b"\0", 2)
        return statements[name]
    return body if kind == b"Q" else b""
