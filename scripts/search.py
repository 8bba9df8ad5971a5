"""Measures ways to search a project's messages: what a search costs, and what each message costs.

    .venv/bin/python -m scripts.search

It fills the timeline with 10,000 sessions of four items in one project, and as many of another
tenant. docs/decisions/0017-search.md has the results and says which way was chosen.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from projections import PROJECTIONS
from projections.projection import install
from service.postgres import connections, migrations
from service.postgres.connections import Connection, tenant_transaction
from service.postgres.embedded import embedded

SESSIONS: Final = 10_000
ROUNDS: Final = 7
ADDED: Final = 2_000

_FILL: Final = """
insert into app.timeline (
    position, tenant_id, project_id, mode, item_id, kind, is_visible, is_live, session_id, locale,
    text, data, recorded_at
)
select
    n, 't' || n %% 2, 'p', 'plan', n::text, case when is_reply then 'reply' else 'user_message' end,
    true, false, 's' || n / 8, 'en',
    case when not is_reply then said.words end,
    case when is_reply then jsonb_build_object('summary', said.words, 'plan', said.words) end,
    now()
from generate_series(%(after)s + 1, %(after)s + %(rows)s) as n
cross join lateral (select n / 2 %% 2 = 1 as is_reply) as kind
cross join lateral (
    select string_agg(
        -- A few words are in most texts, and most words in few texts.
        substr(md5((5000 * power(random(), 4))::integer::text), 1, 6), ' '
    ) || case when n / 2 %% 1000 = 7 then ' quillworts' else '' end as words
    from generate_series(1, case when is_reply then 90 else 25 end)
) as said
"""
"""%(rows)s items, those of two tenants in turn. `quillworts` is in one of a thousand."""

_TEXT: Final = """
coalesce(text, '') || ' '
    || coalesce(data ->> 'summary', '') || ' ' || coalesce(data ->> 'plan', '')
"""
_PREPARE: Final = f"""
create function app.words_of(text text, data jsonb) returns tsvector
language sql immutable parallel safe return to_tsvector('english', {_TEXT});

create table app.narrow (
    tenant_id text not null collate "C", project_id text not null collate "C",
    position bigint not null, words tsvector not null,
    primary key (tenant_id, project_id, position)
);
select app.keep_tenants_apart('app.narrow');
insert into app.narrow
select tenant_id, project_id, position, app.words_of(text, data) from app.timeline;

create table app.wide (like app.timeline including all);
alter table app.wide add column words tsvector
    generated always as (app.words_of(text, data)) stored;
select app.keep_tenants_apart('app.wide');
insert into app.wide select * from app.timeline;

create table app.indexed (like app.timeline including all);
insert into app.indexed select * from app.timeline;
create index on app.indexed using gin (app.words_of(text, data));
create function app.found(tenant text, project text, query tsquery)
returns table (item bigint) language sql stable security definer as $$
    select position from app.indexed
    where tenant_id = tenant and project_id = project and app.words_of(text, data) @@ query
    order by position desc limit 20
$$;
grant execute on function app.found to throughline_tenant;
"""

_WHERE: Final = "tenant_id = 't0' and project_id = 'p'"
_LAST: Final = "order by position desc limit 20"
SEARCHES: Final[Mapping[str, str]] = {
    "scan, words at query time": f"""
        select position from app.timeline where {_WHERE}
            and app.words_of(text, data) @@ to_tsquery('english', %s) {_LAST}""",
    "scan, words in the timeline": f"""
        select position from app.wide where {_WHERE}
            and words @@ to_tsquery('english', %s) {_LAST}""",
    "scan, words in a table": f"""
        select position from app.narrow where {_WHERE}
            and words @@ to_tsquery('english', %s) {_LAST}""",
    "definer function, GIN index": """
        select item from app.found('t0', 'p', to_tsquery('english', %s))""",
}
QUERIES: Final = {
    "frequent": "cfcd20",
    "rare": "quillwort",
    "absent": "zygomorph",
    "all of three": "cfcd20 & c4ca42 & zygomorph",
}

ADDITIONS: Final[Mapping[str, str]] = {
    "scan, words at query time": "insert into app.timeline select * from added",
    "scan, words in the timeline": "insert into app.wide select * from added",
    "scan, words in a table": """
        , stored as (insert into app.timeline select * from added
            returning tenant_id, project_id, position, text, data)
        insert into app.narrow
        select tenant_id, project_id, position, app.words_of(text, data) from stored""",
    "definer function, GIN index": "insert into app.indexed select * from added",
}


async def _searched(pool: connections.Pool, statement: str, word: str) -> float:
    """The median of the milliseconds that the search takes, as the tenant's role."""
    took: list[float] = []
    for _ in range(ROUNDS):
        async with tenant_transaction(pool, "t0") as connection:
            began = time.perf_counter()
            await (await connection.execute(statement.encode(), [word])).fetchall()
            took.append(1_000 * (time.perf_counter() - began))
    return statistics.median(took)


async def _added(owner: Connection, statement: str) -> float:
    """The microseconds that one more item takes, in a statement of its own."""
    took: list[float] = []
    for _ in range(ROUNDS):
        await _run(owner, "begin")
        await _run(owner, _ONE_BY_ONE.format(statement.replace("added", "one")))
        began = time.perf_counter()
        await _run(owner, "select pg_temp.add_each()")
        took.append(1_000_000 * (time.perf_counter() - began) / ADDED)
        await _run(owner, "rollback")
    return statistics.median(took)


_ONE_BY_ONE: Final = """
create function pg_temp.add_each() returns void language plpgsql as $$
declare item app.timeline;
begin
    for item in select * from added loop
        with one as (select item.*) {0};
    end loop;
end $$
"""


async def _run(owner: Connection, statement: str, asked: Mapping[str, Any] | None = None) -> None:
    await owner.execute(statement.encode(), asked)


async def _measure(url: str) -> None:
    await migrations.migrate(url)
    async with await connections.connect(url, as_service=False) as owner:
        await install(owner, PROJECTIONS)
        await _run(owner, "select setseed(0.5)")
        rows = 2 * 4 * SESSIONS
        await _run(owner, _FILL, {"after": 0, "rows": rows})
        await _run(owner, _PREPARE)
        await _run(owner, "vacuum analyze")
        async with connections.pool(url) as pool:
            await pool.wait()
            for way, statement in SEARCHES.items():
                figures = [
                    f"{name} {await _searched(pool, statement, word):.1f}"
                    for name, word in QUERIES.items()
                ]
                print(f"{way}: milliseconds: {', '.join(figures)}")
        await _run(owner, "create temp table added (like app.timeline including defaults)")
        await _run(owner, "alter table app.timeline no force row level security")
        filling = _FILL.replace("insert into app.timeline", "insert into added")
        await _run(owner, filling, {"after": rows, "rows": ADDED})
        for way, statement in ADDITIONS.items():
            print(f"{way}: microseconds for one more item: {await _added(owner, statement):.0f}")


def main() -> None:
    """Measure on a PostgreSQL of its own."""
    with tempfile.TemporaryDirectory(prefix="throughline-") as folder:
        Path(folder).chmod(0o755)
        with embedded(Path(folder, "postgres")) as server:
            asyncio.run(_measure(server.url))


if __name__ == "__main__":
    main()
