"""The past: what a read model was at an earlier position, without what was erased since."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from itertools import product
from typing import Final

import psycopg
import pytest
from psycopg import sql as compose
from psycopg.rows import dict_row

from projections import past
from projections.projection import Connection, Projection
from service.eventlog.store import Recorded
from service.postgres import connections
from tests.projections.fold import Row, key_of, rows
from tests.projections.generated import PROJECTS, TENANTS, USERS, World, live, owning, writing
from tests.sizes import SEED, size

EVENTS: Final = size(350, 1_500)
STEP: Final = size(25, 10)
"""After how many appends the rows are recorded."""

ERASURES: Final = (
    "SessionDeleted",
    "MaterialErased",
    "BuildErased",
    "RunErased",
    "PromptErasureRequested",
    "PromptErased",
    "ProjectErasureRequested",
    "ProjectErased",
)
MOST: Final = 1_000_000


@asynccontextmanager
async def turned_back(
    pool: connections.Pool, tenant_id: str, upto: int, *, project_id: str = "", user_id: str = ""
) -> AsyncGenerator[Connection]:
    """A transaction that reads a project, or else the account of a user, as it was."""
    async with connections.past_transaction(pool, tenant_id) as connection:
        if user_id:
            await past.fold_account(connection, user_id, upto, most=MOST)
        else:
            await past.fold_projects(connection, [project_id], upto, most=MOST)
        yield connection


async def found(connection: Connection, projection: Projection) -> list[Row]:
    """The rows of the past, by key."""
    query = compose.SQL("select * from {} order by {}").format(
        compose.Identifier("past", projection.name),
        compose.SQL(", ").join(map(compose.Identifier, key_of(projection.name))),
    )
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query)
        return await cursor.fetchall()


def of(everything: Mapping[str, list[Row]], name: str, tenant_id: str, project_id: str) -> list[Row]:
    """The rows of a read model about a project. Parts of runs and builds name their run or build."""
    whole = {"run_steps": "runs", "run_candidates": "runs", "build_events": "builds"}.get(name, name)
    key = "project_id" if whole == name else f"{whole.removesuffix('s')}_id"
    known = {
        row[key]
        for row in everything[whole]
        if (row["tenant_id"], row["project_id"]) == (tenant_id, project_id)
    }
    return [row for row in everything[name] if row["tenant_id"] == tenant_id and row[key] in known]


def as_remembered(events: list[Recorded], upto: int) -> dict[str, list[Row]]:
    """What the log says of a position now: what was erased later is not in it."""
    began = {(event.tenant_id, event.stream_id) for event in events if event.position <= upto}
    kept = [
        event
        for event in events
        if event.position <= upto
        or (event.type in ERASURES and (event.tenant_id, event.stream_id) in began)
    ]
    return {each.name: rows(each.name, kept) for each in past.OF_PROJECT}


async def test_the_past_of_a_project_is_what_was_recorded_then(
    url: str, pool: connections.Pool
) -> None:
    recorded: dict[int, dict[str, list[Row]]] = {}
    async with writing(url) as log, owning(url) as owner:
        appends = World(SEED).appends(EVENTS)
        for at in range(0, len(appends), STEP):
            await log.append(appends[at : at + STEP])
            recorded[await log.store.head()] = {
                each.name: await live(owner, each.name) for each in past.OF_PROJECT
            }
        events = await log.events()
    for upto, then in recorded.items():
        remembered = as_remembered(events, upto)
        for tenant_id, project_id in product(TENANTS, PROJECTS):
            is_erased = any(
                event.position > upto and event.type in ERASURES
                for event in events
                if (event.tenant_id, event.project_id) == (tenant_id, project_id)
            )
            async with turned_back(pool, tenant_id, upto, project_id=project_id) as connection:
                for each in past.OF_PROJECT:
                    known = await found(connection, each)
                    place = (each.name, tenant_id, project_id)
                    assert known == of(remembered, *place), (place, upto)
                    if not is_erased:
                        assert known == of(then, *place), (place, upto)
