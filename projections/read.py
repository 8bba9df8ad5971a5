"""Reads that share a round trip: all statements are sent, then the rows are read."""

import asyncio
from typing import Any, Final, Generic, TypeVar

from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import AsyncRowFactory

SLICE: Final = 1_000
"""Rows, or events, that are decoded before other tasks have a turn."""

R = TypeVar("R")


class Read(Generic[R]):
    """A statement with its parameters, and the rows that it found.

    In pipeline mode `send` does not wait for the server. The rows are there when they are asked for
    inside of the pipeline, at the cost of a round trip, or after its end at no cost.
    """

    def __init__(
        self,
        query: bytes,
        row: AsyncRowFactory[R],
        parameters: dict[str, Any] | None = None,
        *,
        is_binary: bool = False,
    ) -> None:
        self._query = query
        self._row = row
        self._parameters = parameters
        self._is_binary = is_binary
        self._cursor: AsyncCursor[R] | None = None

    async def send(self, connection: AsyncConnection[Any]) -> None:
        """Send the statement."""
        self._cursor = connection.cursor(row_factory=self._row, binary=self._is_binary)
        await self._cursor.execute(self._query, self._parameters)

    async def rows(self) -> list[R]:
        """All rows that were found, once; the statement was sent before.

        The rows are made in slices, so that other tasks run meanwhile.
        """
        assert self._cursor is not None
        rows = await self._cursor.fetchmany(SLICE)
        found = rows
        while len(rows) == SLICE:
            await asyncio.sleep(0)
            rows = await self._cursor.fetchmany(SLICE)
            found += rows
        return found

    async def row(self) -> R | None:
        """The first row, or None; the statement was sent before."""
        assert self._cursor is not None
        return await self._cursor.fetchone()
