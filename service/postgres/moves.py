"""Notices that another server has become the primary while the former one stands still.

A server that stands still keeps its connections open and answers nothing. No time limit of TCP ends
such connections while the machine itself goes on. So a process that gets no answer looks for the
primary, and drops its connections to a server that is not the primary any more.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable
from typing import Final, TypeVar

import psycopg
import structlog

from service.postgres.connections import OPEN, Connect, Connection

T = TypeVar("T")

SILENT_SECONDS: Final = 5.0
"""How long a server may take for an answer before the process looks for another primary."""

_log = structlog.stdlib.get_logger(__name__)


async def answered(work: Awaitable[T], connection: Connection, connect: Connect) -> T:
    """The result of `work`, which waits for the server of the connection.

    While there is no answer, `connect` looks for the primary. Where the primary is another server,
    `work` gets an OperationalError. Raises what `work` raises. A cancelled caller waits until
    `work` has ended: `work` uses the connection until then.
    """
    at = address(connection)
    working = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait((working,), timeout=SILENT_SECONDS))[0]:
            await _drop_if_moved(at, connect)
        return await working
    finally:
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


def address(connection: Connection) -> tuple[str, int]:
    """The host and the port of the server that the connection leads to."""
    return connection.info.host, connection.info.port


async def _drop_if_moved(at: tuple[str, int], connect: Connect) -> None:
    """Drop the connections of the server at an address if another server is the primary."""
    try:
        async with await connect() as primary:
            there = address(primary)
    except (psycopg.OperationalError, OSError):  # there is no primary
        return
    if there != at:
        _log.warning("primary_moved", dropped=sum(_dropped(at)))


def _dropped(at: tuple[str, int]) -> list[bool]:
    return [_drop(each) for each in tuple(OPEN) if not each.closed and address(each) == at]


def _drop(connection: Connection) -> bool:
    """End both directions of the connection: what waits for an answer gets an error at once."""
    try:
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as ours:
            ours.shutdown(socket.SHUT_RDWR)
    except (psycopg.OperationalError, OSError):  # it has ended by itself
        return False
    return True
