"""`throughline diff`: what changed in a project between two moments."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.table import Column, Table

from service.cli.console import out
from service.cli.past.changes import changes
from service.cli.past.moments import Moments, at_moments, print_json, refuse
from service.cli.past.show import Tenant, balance_of

if TYPE_CHECKING:
    from service.postgres.connections import Connection


def diff(
    project: Annotated[str, typer.Option(help="The project.")],
    begin: Annotated[str, typer.Option("--from", help="The earlier moment, as for show --at.")],
    end: Annotated[
        str | None, typer.Option("--to", help="The later moment. The default is now.")
    ] = None,
    tenant: Tenant = None,
) -> None:
    """Show what changed in a project between two moments: its sessions, items and builds, and the
    balances of its members. JSON on a pipe, a table on a terminal."""
    found = at_moments(tenant, partial(_diff, project_id=project, begin=begin, end=end))
    if out.is_terminal:
        out.print(_table(found))
    else:
        print_json(found)


@dataclass(frozen=True, slots=True)
class _State:
    """A project at a moment: JSON by id."""

    sessions: dict[str, Any]
    builds: dict[str, Any]
    users: set[str]
    items: list[Any]
    """The items after the earlier moment."""


async def _diff(
    moments: Moments, *, project_id: str, begin: str, end: str | None
) -> dict[str, Any]:
    first, last = await moments.position(begin), await moments.position(end)
    if first > last:
        refuse("--from is after --to. Name the earlier moment first.")
    before = await _state(moments, project_id, first, after=first)
    after = await _state(moments, project_id, last, after=first)
    users = sorted(before.users | after.users)
    return {
        "projectId": project_id,
        "from": await moments.cursor(first),
        "to": await moments.cursor(last),
        "sessions": changes(before.sessions, after.sessions, "sessionId"),
        "items": {"added": after.items},
        "builds": changes(before.builds, after.builds, "buildId"),
        "balances": changes(
            await _balances(moments, users, first), await _balances(moments, users, last), "userId"
        ),
    }


async def _state(moments: Moments, project_id: str, position: int, *, after: int) -> _State:
    from projections import builds, projects, timeline
    from service.api import builds_schemas, sessions_schemas, timeline_schemas
    from service.eventlog.store import END
    from service.wire import dumped

    asked: dict[str, Any] = {"tenant_id": moments.tenant_id, "project_id": project_id}
    most = moments.most
    async with moments.project(project_id, position) as connection:
        if await projects.project(connection, **asked, user_id=None) is None:
            refuse(f"there is no project {project_id} at position {position}.")
        page = await timeline.page(connection, **asked, limit=most, after=after)
        ordered = await builds.of_project(connection, **asked, status=None, before=END, limit=most)
        opened = await _sessions(connection, moments, project_id)
        members = await projects.members(connection, **asked, after="", limit=most)
    sessions = [sessions_schemas.session(row, locale=None) for row in opened]
    return _State(
        sessions={each.session_id: dumped(each) for each in sessions},
        builds={row.build_id: dumped(builds_schemas.build_answer(row)) for row in ordered},
        users={row.user_id for row in members} | {each.user_id for each in sessions},
        items=dumped(timeline_schemas.timeline(page, None, None))["items"],
    )


async def _sessions(connection: "Connection", moments: Moments, project_id: str) -> list[Any]:
    from projections import sessions

    return await sessions.page_of_project(
        connection,
        tenant_id=moments.tenant_id,
        project_id=project_id,
        user_id=None,
        wanted=sessions.Wanted(statuses=("active", "converted", "expired", "archived")),
        sort="oldest",
        after=None,
        limit=moments.most,
    )


async def _balances(moments: Moments, users: list[str], position: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for user_id in users:
        async with moments.account(user_id, position) as connection:
            found[user_id] = await balance_of(connection, moments.tenant_id, user_id)
    return found


def _table(found: dict[str, Any]) -> Table:
    """A line for each new thing, and for each member that changed."""
    columns = ("what", "id", "member", "before", "after")
    table = Table(*(Column(name, overflow="fold") for name in columns))
    names = {"sessions": "sessionId", "items": "id", "builds": "buildId", "balances": "userId"}
    for what, name in names.items():
        for each in found[what]["added"]:
            table.add_row(what, each[name], "new", "", _short(each.get("name", each.get("kind"))))
        for each in found[what].get("changed", []):
            for member, value in each["after"].items():
                before = each["before"][member]
                table.add_row(what, each[name], member, _short(before), _short(value))
    return table


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= 60 else f"{text[:59]}…"
