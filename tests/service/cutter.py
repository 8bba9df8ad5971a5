"""A way to PostgreSQL that breaks at a chosen moment: right before, or right after, a statement."""

import asyncio
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Cutter:
    """A proxy on a Unix socket. `cuts` counts the connections that it cut."""

    def __init__(self, url: str) -> None:
        self._target = conninfo_to_dict(url)
        self._folder = tempfile.TemporaryDirectory(prefix="cut-")
        self.url = make_conninfo(url, host=self._folder.name, port="5432")
        self.refuse = False
        self.cuts = 0
        self._cut_request: bytes | None = None
        self._cut_answer: bytes | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    def cut_request_with(self, text: bytes) -> None:
        """Cut the next connection that sends `text`, before it arrives."""
        self._cut_request = text

    def cut_answer_to(self, text: bytes) -> None:
        """Cut the next connection that sends `text`, when the answer to it comes."""
        self._cut_answer = text

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
        for connection in self._connections:
            connection.close()
        self._folder.cleanup()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.close()
            return
        socket = f"{self._target['host']}/.s.PGSQL.{self._target.get('port') or 5432}"
        up_reader, up_writer = await asyncio.open_unix_connection(socket)
        self._connections |= {writer, up_writer}
        answering = asyncio.Event()
        there = asyncio.create_task(self._requests(reader, up_writer, answering))
        back = asyncio.create_task(self._answers(up_reader, writer, answering))
        await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        there.cancel()
        back.cancel()
        up_writer.close()
        writer.close()

    async def _requests(
        self, reader: asyncio.StreamReader, up: asyncio.StreamWriter, answering: asyncio.Event
    ) -> None:
        known = b""
        while data := await reader.read(65_536):
            known += data
            if self._cut_request and self._is_append(data, self._cut_request):
                self._cut_request = None
                self.cuts += 1
                return
            if self._cut_answer and self._is_append(data, self._cut_answer):
                self._cut_answer = None
                answering.set()
            up.write(data)
            await up.drain()

    def _is_append(self, data: bytes, text: bytes) -> bool:
        """The statement itself, or a prepared one that binds arrays of streams."""
        return text in data or b"s-" in data or b"\x00\x00\x00\x01a" in data

    async def _answers(
        self, up: asyncio.StreamReader, writer: asyncio.StreamWriter, answering: asyncio.Event
    ) -> None:
        while data := await up.read(65_536):
            if answering.is_set():
                self.cuts += 1
                return
            writer.write(data)
            await writer.drain()
