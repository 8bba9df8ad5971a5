"""The nodes of the drills."""

from collections.abc import Iterator

import psycopg
import pytest

from service.postgres.embedded import Server
from tests.nodes import Pair, pair


@pytest.fixture
def nodes(server: Server, template: str) -> Iterator[Pair]:
    """A primary and its standby, with the database `drill`."""
    assert template
    with pair(server) as both:
        with psycopg.connect(both.primary.url(), autocommit=True) as admin:
            admin.execute("create database drill template throughline_template")
        yield both
