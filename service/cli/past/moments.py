"""The read models of a tenant at a moment, for commands. Nothing is stored."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from service.access.keys import known_keys
from service.cli.console import err
from service.cli.database import database
from service.cli.past.times import time_of
from service.settings import Settings

if TYPE_CHECKING:
    from service.postgres.connections import Connection, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """A tenant's log. `most` is the number of events that may be folded for one answer."""

    pool: "Pool"
    tenant_id: str
    most: int

    async def position(self, at: str | None) -> int:
        """The position of a moment: a cursor, a position, a time, or None for the end of the log.

        Raises BadRequest.
        """
        from projections.projection import head
        from service.http.reads import moment
        from service.postgres.connections import past_transaction

        async with past_transaction(self.pool, self.tenant_id) as connection:
            if at is None:
                return await head(connection)
            time = None if at.isdecimal() else time_of(at)  # digits alone are a position
            return await moment(connection, at if time is None else time.isoformat())

    async def cursor(self, position: int) -> str | None:
        """The cursor of the event at a position."""
        from service.eventlog.store import cursor_at
        from service.postgres.connections import tenant_rows

        (found,) = await tenant_rows(self.pool, self.tenant_id, cursor_at(position))
        return found

    def project(self, project_id: str, position: int) -> AbstractAsyncContextManager["Connection"]:
        """A connection that reads a project as it was. Raises TooLarge."""
        from projections.past import copy_projects

        return self._folded(copy_projects, [project_id], position)

    def account(self, user_id: str, position: int) -> AbstractAsyncContextManager["Connection"]:
        """A connection that reads a user's account as it was. Raises TooLarge."""
        from projections.past import copy_account

        return self._folded(copy_account, user_id, position)

    @asynccontextmanager
    async def _folded(
        self, copy: Callable[..., Awaitable[None]], what: object, position: int
    ) -> AsyncGenerator["Connection"]:
        from projections import past
        from service.postgres.connections import past_transaction

        async with past_transaction(self.pool, self.tenant_id) as connection:
            await copy(connection, what, position, most=self.most)
            past.turn_back(connection, position)
            yield connection


def at_moments(
    tenant: str | None, work: Callable[[Moments], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    """What `work` finds. Ends the command where a moment is wrong or there is too much to fold."""
    settings = Settings()
    tenant_id = tenant or _only_tenant(settings)
    with database(settings) as found:
        return asyncio.run(_work(found.url, tenant_id, settings.past_events, work))


async def _work(
    url: str, tenant_id: str, most: int, work: Callable[[Moments], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    from projections.past import TooLarge
    from service.http.problems import BadRequest
    from service.postgres import connections

    async with connections.pool(url) as pool:
        try:
            return await work(Moments(pool=pool, tenant_id=tenant_id, most=most))
        except BadRequest as error:
            refuse(error.detail.replace("asOf", "the option"))
        except TooLarge:
            refuse(
                f"up to this moment there are more than {most} events. Name an earlier moment, or "
                "raise THROUGHLINE_PAST_EVENTS."
            )


def refuse(message: str) -> NoReturn:
    """End the command with a message and exit code 2."""
    err.print(f"throughline: {message}")
    raise typer.Exit(2)


def print_json(answer: dict[str, Any]) -> None:
    """Print an answer as one line of JSON."""
    import orjson

    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()


def _only_tenant(settings: Settings) -> str:
    """The tenant of the known keys. Exits where the keys have several tenants."""
    tenants = {key.tenant for key in known_keys(settings).values()}
    if len(tenants) != 1:
        refuse(f"name the tenant with --tenant; known are {', '.join(sorted(tenants))}.")
    return tenants.pop()
