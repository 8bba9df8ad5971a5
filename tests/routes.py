"""The way of the tests' services to the database.

Usually it is direct. With `THROUGHLINE_ROUTE=pooler,replica`, as in `make prove`, every service of
a test goes through PgBouncer, reads from a standby, or both.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from service.postgres.embedded import Server
from tests.pooler import Pooler, pooler
from tests.standby import Standby, is_of, standby

VARIABLE: Final = "THROUGHLINE_ROUTE"
NAMES: Final = frozenset(filter(None, os.environ.get(VARIABLE, "").split(",")))


@dataclass(frozen=True, slots=True)
class Route:
    """The addresses of one database, for a service."""

    url: str
    direct_url: str
    replica_url: str | None = None


@dataclass(frozen=True, slots=True)
class _Way:
    server: Server
    pooler: Pooler | None
    standby: Standby | None


_ways: list[_Way] = []


@contextmanager
def prepared(server: Server) -> Iterator[None]:
    """Set up what the environment variable names, for all services on this server."""
    assert {"pooler", "replica"} >= NAMES, f"{VARIABLE} is pooler, replica, or both with a comma"
    with ExitStack() as stack:
        through = stack.enter_context(pooler(server, size=10)) if "pooler" in NAMES else None
        beside = stack.enter_context(standby(server)) if "replica" in NAMES else None
        _ways.append(_Way(server, through, beside))
        try:
            yield
        finally:
            _ways.pop()


def route(url: str) -> Route:
    """The way to a database. What is no address of the server itself stays as it is: a test has put
    something between."""
    if not _ways or not is_of(url, _ways[-1].server):
        return Route(url, url)
    way = _ways[-1]
    replica_url = None
    if way.standby is not None:
        way.standby.await_database(url)
        replica_url = way.standby.url(url)
    return Route(way.pooler.url(url) if way.pooler else url, url, replica_url)
