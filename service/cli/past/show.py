"""`throughline show`: a timeline, a session or an account as it was."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Column, Table

from service.cli.console import out
from service.cli.past.moments import Moments, at_moments, print_json, refuse

if TYPE_CHECKING:
    from service.postgres.connections import Connection

app = typer.Typer(no_args_is_help=True, help="What was there at a moment.")
At = Annotated[
    str | None,
    typer.Option(
        help="A cursor, a position, a time (2026-11-20T10:00Z), or how long ago (2h, 7d)."
    ),
]
Tenant = Annotated[str | None, typer.Option(help="The tenant. By default the keys' tenant.")]
Most = Annotated[int, typer.Option(help="The most items that are shown.", min=1, max=100_000)]
_Read = Callable[[Moments, int], Awaitable[dict[str, Any]]]
_TEXT: Final = 80
_COLUMNS: Final = ("cursor", "time", "kind", "user", "text")


@app.command("timeline")
def show_timeline(
    project: Annotated[str, typer.Argument(help="The project.")],
    at: At = None,
    tenant: Tenant = None,
    limit: Most = 50,
) -> None:
    """Show the timeline of a project, newest first: JSON on a pipe, a table on a terminal."""
    _show(partial(_timeline, project_id=project, limit=limit), at, tenant, "items")


@app.command("session")
def show_session(
    session: Annotated[str, typer.Argument(help="The session.")],
    at: At = None,
    tenant: Tenant = None,
    limit: Most = 50,
) -> None:
    """Show a session and its newest messages: JSON on a pipe, a table on a terminal."""
    _show(partial(_session, session_id=session, limit=limit), at, tenant, "messages")


@app.command("account")
def show_account(
    user: Annotated[str, typer.Argument(help="The user.")],
    at: At = None,
    tenant: Tenant = None,
    limit: Most = 50,
) -> None:
    """Show a user's balance and ledger: JSON on a pipe, a table on a terminal."""
    _show(partial(_account, user_id=user, limit=limit), at, tenant, "items")


async def _timeline(
    moments: Moments, position: int, *, project_id: str, limit: int
) -> dict[str, Any]:
    from projections import projects, timeline
    from service.api import timeline_schemas
    from service.wire import dumped

    async with moments.project(project_id, position) as connection:
        known = await projects.project(
            connection, tenant_id=moments.tenant_id, project_id=project_id, user_id=None
        )
        if known is None:
            refuse(f"there is no project {project_id} at this moment.")
        page = await timeline.page(
            connection, tenant_id=moments.tenant_id, project_id=project_id, limit=limit
        )
    shown = timeline_schemas.timeline(page, known.active_build_id, None)
    return dict(dumped(shown))


async def _session(
    moments: Moments, position: int, *, session_id: str, limit: int
) -> dict[str, Any]:
    from projections import sessions, timeline
    from service.api import messages_schemas, sessions_schemas
    from service.postgres.connections import tenant_transaction
    from service.wire import dumped

    tenant_id = moments.tenant_id
    async with tenant_transaction(moments.pool, tenant_id) as connection:
        now = await sessions.session(connection, tenant_id=tenant_id, session_id=session_id)
    if now is None:
        refuse(f"there is no session {session_id}.")
    async with moments.project(now.project_id, position) as connection:
        row = await sessions.session(connection, tenant_id=tenant_id, session_id=session_id)
        if row is None:
            refuse(f"there is no session {session_id} at this moment.")
        parts = await sessions.parts(connection, tenant_id=tenant_id, row=row)
        page = await timeline.messages(connection, tenant_id=tenant_id, parts=parts, limit=limit)
    return {
        "session": dumped(sessions_schemas.session(row, locale=None)),
        **dumped(messages_schemas.messages(page, None)),
    }


async def _account(moments: Moments, position: int, *, user_id: str, limit: int) -> dict[str, Any]:
    from projections import consumption
    from service.api import billing_schemas
    from service.eventlog.store import END
    from service.wire import dumped

    async with moments.account(user_id, position) as connection:
        balance = await balance_of(connection, moments.tenant_id, user_id)
        rows = await consumption.ledger(
            connection, tenant_id=moments.tenant_id, user_id=user_id, before=END, limit=limit
        )
    ledger = billing_schemas.ledger(rows)
    return {"account": balance, **dumped(ledger)}


async def balance_of(connection: "Connection", tenant_id: str, user_id: str) -> dict[str, Any]:
    """The balance of a user as JSON."""
    from projections import accounts
    from service.api import billing_schemas
    from service.wire import dumped

    row = await accounts.account(connection, tenant_id=tenant_id, user_id=user_id)
    return dumped(billing_schemas.account(row))


def _show(read: _Read, at: str | None, tenant: str | None, listed: str) -> None:
    """Print what `read` finds at a moment. `listed` is the member with the rows of the table."""

    async def work(moments: Moments) -> dict[str, Any]:
        position = await moments.position(at)
        return {"position": position, **await read(moments, position)}

    answer = at_moments(tenant, work)
    if not out.is_terminal:
        print_json(answer)
        return
    for name in ("session", "account"):
        for key, value in answer.get(name, {}).items():
            out.print(f"{key}: {value}")
    table = Table(*(Column(name, overflow="fold") for name in _COLUMNS))
    for each in answer[listed]:
        table.add_row(*_cells(each))
    out.print(table)


def _cells(each: dict[str, Any]) -> tuple[str, ...]:
    """The columns of an item, or of a line of the ledger."""
    asked: str | None = each.get("userMessage", {}).get("text")
    answered: str | None = each.get("aiResponse", {}).get("text")
    said = asked or answered or str(each.get("text", ""))
    billed = f"{each.get('billedSeconds')} s, {each.get('operationType')}"
    return (
        each.get("cursor", ""),
        each.get("timestamp", ""),
        each.get("kind", "billed"),
        each.get("userId", ""),
        said[:_TEXT] if "kind" in each else billed,
    )
