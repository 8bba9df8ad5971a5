"""What holds for every read model: however its rules are run, the rows are what the log says.

The log says it through `fold`, which is the same rules in plain Python.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, pairwise
from random import Random
from typing import Any, Final, TypeAlias

import pytest
from psycopg import sql as compose
from psycopg.types.numeric import Int8

from projections import PROJECTIONS, analytics
from projections import projection as machinery
from projections.consumption import CONSUMPTION
from projections.projection import Connection, Projection, catch_up, rebuild, status, verify
from projections.sessions import SESSIONS
from projections.timeline import TIMELINE
from service.eventlog.store import NewEvent, Recorded
from tests.projections.fold import Row, rows
from tests.projections.generated import Log, World, background, live, owning, writing
from tests.sizes import SEED, size

SEEDS: Final = range(SEED, SEED + size(1, 8))
CUTS: Final = size(10, 40)
EVENTS: Final = 400

each = pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
INLINE: Final = [each for each in PROJECTIONS if each.is_inline]
"""The read models that appends carry along."""
each_log = pytest.mark.parametrize("seed", SEEDS)


async def fill(log: Log, seed: int, events: int = EVENTS) -> None:
    """A generated log, in commits of many sizes."""
    appends: list[tuple[NewEvent, ...]] = World(seed).appends(events)
    random = Random(seed)
    while appends:
        size = random.choice((1, 2, 10, 50))
        await log.append(appends[:size])
        appends = appends[size:]


async def stands_at(connection: Connection, name: str) -> int:
    await background(connection)
    return next(each.position for each in await status(connection) if each.name == name)


@dataclass(frozen=True, slots=True)
class Written:
    """A database with a generated log, and the events of that log."""

    url: str
    events: list[Recorded]


Writing: TypeAlias = Callable[..., Awaitable[Written]]


@pytest.fixture(scope="module")
def written(new_shared_database: Callable[[], str]) -> Writing:
    """Writes a generated log once, for all read models. A test leaves what it found."""
    known: dict[tuple[int, int], Written] = {}

    async def write(seed: int, events: int = EVENTS) -> Written:
        if (seed, events) not in known:
            url = new_shared_database()
            async with writing(url) as log:
                await fill(log, seed, events)
                known[seed, events] = Written(url, await log.events())
        return known[seed, events]

    return write


@each
@each_log
async def test_live_is_rebuilt_is_folded(
    written: Writing, projection: Projection, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await written(seed)
    expected = rows(projection.name, log.events)
    async with owning(log.url) as owner:
        assert await live(owner, projection.name) == expected
        monkeypatch.setattr(machinery, "CHUNK", 37)
        assert await verify(owner, projection) == 0
        await rebuild(owner, projection)
        assert await live(owner, projection.name) == expected
        assert await stands_at(owner, projection.name) == len(log.events)
        assert await verify(owner, projection) == 0


@each
async def test_the_logs_have_rows_of_each_read_model(
    written: Writing, projection: Projection
) -> None:
    logs = [await written(seed) for seed in SEEDS]
    assert any(rows(projection.name, log.events) for log in logs)


@each
@each_log
async def test_any_cutting_of_the_log_gives_the_same_rows(
    written: Writing, projection: Projection, seed: int
) -> None:
    log = await written(seed)
    expected = rows(projection.name, log.events)
    async with owning(log.url) as owner, shadow(owner, projection):
        for cut in cuts(len(log.events), Random(seed)):
            await owner.execute(f"truncate shadow.{projection.name}".encode())
            for after, upto in pairwise(cut):
                await apply(owner, projection, after, upto)
            assert await live(owner, projection.name, "shadow") == expected, cut


@each
async def test_each_event_by_itself_gives_the_rows_up_to_it(
    written: Writing, projection: Projection
) -> None:
    log = await written(0, events=60)
    async with owning(log.url) as owner, shadow(owner, projection):
        for position in range(1, len(log.events) + 1):
            await apply(owner, projection, position - 1, position)
            found = await live(owner, projection.name, "shadow")
            upto = log.events[:position]
            assert found == rows(projection.name, upto), upto[-1]


async def test_twice_is_once(written: Writing) -> None:
    """Read models that were stopped go on from their checkpoints: no event is added again."""
    log = await written(1)
    types = sorted({event.type for event in log.events})
    last = len(log.events)
    async with owning(log.url) as owner:
        for first in (last, last // 2, 1):
            async with held(log.url, *PROJECTIONS):
                pass
            again = (Int8(first), Int8(last), types)
            await owner.execute("select app.project_inline(%s, %s, %s)", again)
            assert await catch_up(owner)
            for each in PROJECTIONS:
                assert await live(owner, each.name) == rows(each.name, log.events), each.name
                assert await stands_at(owner, each.name) == last


@pytest.mark.parametrize("behind", [INLINE[::2], INLINE[1::2]], ids=["these", "the others"])
async def test_a_read_model_that_is_behind_continues_from_its_own_checkpoint(
    url: str, behind: list[Projection]
) -> None:
    """An append that comes after ones that were missed leaves none of them out."""
    appends = World(2).appends(EVENTS)
    async with writing(url) as log, owning(url) as owner:
        await log.append(appends[:50])
        async with held(url, *behind):
            await log.append(appends[50:100])
        missed = [await stands_at(owner, each.name) for each in behind]
        assert set(missed) == {sum(map(len, appends[:50]))}
        await log.append(appends[100:])
        events = await log.events()
        for each in INLINE:
            assert await stands_at(owner, each.name) == len(events)
            assert await live(owner, each.name) == rows(each.name, events), each.name


async def test_a_read_model_without_new_rows_stands_at_the_head_as_well(url: str) -> None:
    foreign = NewEvent("t1", "other-1", 1, "SomethingElse", b"{}")
    async with writing(url) as log, owning(url) as owner:
        await log.append([[foreign]])
        for each in PROJECTIONS:
            assert await stands_at(owner, each.name) == 1
            assert await live(owner, each.name) == []


# the negative control ----------------------------------------------------------------------------

CHANGED: Final = {
    "timeline": "update {0} set item_id = 'forged'",
    "sessions": "update {0} set name = 'forged'",
    "accounts": "update {0} set last_position = last_position + 1",
    "consumption": "update {0} set model = 'forged'",
    "projects": "update {0} set framework = 'forged'",
    "members": "update {0} set role = 'forged'",
    "replies": "update {0} set epoch = -1",
    "builds": "update {0} set prompt = 'forged'",
    "build_events": "update {0} set title = 'forged'",
    "versions": "update {0} set version_id = 'forged'",
    "drafts": "update {0} set title = 'forged'",
    "shares": "update {0} set user_id = 'forged'",
    "words": "update {0} set language = 'forged'",
    "runs": "update {0} set title = 'forged'",
    "run_steps": "update {0} set title = 'forged'",
    "run_candidates": "update {0} set title = 'forged'",
    "prompts": "update {0} set user_id = 'forged'",
    "prompt_versions": "update {0} set text = 'forged'",
}
TWO: Final = "where ctid in (select ctid from {0} limit 2)"
REMOVED: Final = "delete from {0} where ctid in (select ctid from {0} limit 2)"


@each
async def test_verification_counts_the_rows_that_are_missing(
    written: Writing, projection: Projection
) -> None:
    async with tampered(written, projection) as owner:
        await tamper(owner, REMOVED, projection)
        assert await verify(owner, projection) == 2


@each
async def test_verification_counts_the_rows_that_are_too_many(
    written: Writing, projection: Projection
) -> None:
    async with tampered(written, projection) as owner:
        await tamper(owner, "create temp table forged as select * from {0} limit 2", projection)
        await tamper(owner, "update forged set tenant_id = 'forged ' || tenant_id", projection)
        if projection.name in ("timeline", "consumption"):
            await tamper(owner, "update forged set position = -position", projection)
        await tamper(owner, "insert into {0} select * from forged", projection)
        assert await verify(owner, projection) == 2


@each
async def test_verification_counts_the_rows_that_are_different(
    written: Writing, projection: Projection
) -> None:
    async with tampered(written, projection) as owner:
        await tamper(owner, f"{CHANGED[projection.name]} {TWO}", projection)
        assert await verify(owner, projection) == 2


@asynccontextmanager
async def tampered(written: Writing, projection: Projection) -> AsyncIterator[Connection]:
    """The owner of a log with at least two rows of a read model, to tamper with the read model. It
    is rebuilt afterwards."""
    seeds = count(17)
    while len(rows(projection.name, (log := await written(next(seeds))).events)) < 2:
        pass
    async with owning(log.url) as owner:
        await background(owner)
        yield owner
        await rebuild(owner, projection)
        assert await verify(owner, projection) == 0


async def tamper(owner: Connection, statement: str, projection: Projection) -> None:
    await owner.execute(statement.format(f"app.{projection.name}").encode())


# the reads use their indexes ---------------------------------------------------------------------

MANY: Final = """
insert into app.timeline (
    position, tenant_id, project_id, mode, item_id, kind, is_visible, is_live, session_id, build_id,
    recorded_at
)
select n, 't' || n % 5, 'p' || n % 7, 'plan', 'm' || n,
    case when n % 50 = 0 then 'user_message' else 'reply' end,
    n % 3 > 0, false, 's' || n % 90, case when n % 50 = 0 then 'b' || n end, now()
from generate_series(1, 6000) as n;
insert into app.sessions (
    tenant_id, session_id, project_id, user_id, mode, opened_at, last_active_at, active_position,
    active_block, last_position
)
select 't' || n % 5, 's' || n, 'p' || n % 7, 'u' || n % 11, 'plan', now(), now(), n, n / 256, n
from generate_series(1, 6000) as n;
insert into app.accounts (tenant_id, user_id, credited_seconds, last_position)
select 't' || n % 5, 'u' || n, 100, n from generate_series(1, 6000) as n;
insert into app.consumption (
    position, tenant_id, user_id, project_id, session_id, message_id, reservation_id,
    operation_type, billed_seconds, prices, model, recorded_at
)
select n, 't' || n % 5, 'u' || n % 11, 'p', 's', 'm', 'h' || n, 'plan_fix', 1, '1', 'x', now()
from generate_series(1, 6000) as n;
insert into app.projects (
    tenant_id, project_id, name, registered_at, registered_position, modified_at
)
select 't' || n % 5, 'p' || n, 'A project', now(), n, now() from generate_series(1, 6000) as n;
insert into app.members (tenant_id, project_id, user_id, role, since)
select 't' || n % 5, 'p' || n, 'u' || n % 11, 'owner', now() from generate_series(1, 6000) as n;
insert into app.replies (
    tenant_id, message_id, project_id, session_id, epoch, started_at, started_position,
    ended_position
)
select 't' || n % 5, 'r' || n, 'p' || n % 7, 's', 1, now(), n, case when n % 60 > 0 then n end
from generate_series(1, 6000) as n;
insert into app.builds (
    tenant_id, build_id, project_id, session_id, message_id, user_id, prompt, locale, status,
    queued_at, heard_at, queued_position
)
select
    't' || n % 5, 'b' || n, 'p' || n % 7, 's', 'm', 'u', 'Build it', 'en',
    case when n % 60 > 0 then 'succeeded' else 'queued' end, now(), now(), n
from generate_series(1, 6000) as n;
insert into app.build_events (
    position, tenant_id, build_id, event_id, phase, type, title, user_visible, at, recorded_at
)
select n, 't' || n % 5, 'b' || n % 90, 'e' || n, 'build', 'progress', 'x', true, now(), now()
from generate_series(1, 6000) as n;
insert into app.versions (
    tenant_id, build_id, project_id, version_id, deployed_at, position
)
select 't' || n % 5, 'b' || n, 'p' || n % 7, 'v' || n, now(), n from generate_series(1, 6000) as n;
insert into app.drafts (
    tenant_id, message_id, project_id, session_id, user_id, mode, title, saved_at, position
)
select 't' || n % 5, 'r' || n, 'p' || n % 7, 's', 'u', 'fix', 'x', now(), n
from generate_series(1, 6000) as n;
insert into app.shares (
    tenant_id, share_id, message_id, project_id, session_id, user_id, token_digest, shared_at,
    expires_at, position
)
select 't' || n % 5, 'l' || n, 'r', 'p' || n % 7, 's', 'u', 'd' || n, now(), now(), n
from generate_series(1, 6000) as n;
insert into app.words (tenant_id, project_id, position, session_id, language, stems)
select 't' || n % 5, 'p' || n % 7, n, 's' || n, 'english', to_tsvector('english', 'Word ' || n)
from generate_series(1, 6000) as n;
insert into app.runs (
    tenant_id, run_id, project_id, user_id, title, status, queued_at, heard_at, queued_position
)
select
    't' || n % 5, 'n' || n, 'p' || n % 7, 'u', 'Compare',
    case when n % 60 > 0 then 'succeeded' else 'queued' end, now(), now(), n
from generate_series(1, 6000) as n;
insert into app.run_steps (tenant_id, run_id, step_id, title, at, recorded_at, position)
select 't' || n % 5, 'n' || n % 90, 's' || n, 'x', now(), now(), n
from generate_series(1, 6000) as n;
insert into app.run_candidates (
    tenant_id, run_id, candidate_id, title, scores, at, recorded_at, position
)
select 't' || n % 5, 'n' || n % 90, 'c' || n, 'x', '{"overall": 0.5}', now(), now(), n
from generate_series(1, 6000) as n;
insert into app.prompts (
    tenant_id, prompt_id, project_id, user_id, name, status, versions, created_at, active_at,
    active_position
)
select
    't' || n % 5, 'q' || n, 'p' || n % 7, 'u', 'A prompt',
    case when n % 60 > 0 then 'active' else 'erasing' end, 1, now(), now(), n
from generate_series(1, 6000) as n;
insert into app.prompt_versions (
    tenant_id, prompt_id, number, prompt_version_id, project_id, user_id, text, placeholders,
    created_at, position
)
select 't' || n % 5, 'q' || n, 1, 'q' || n || '.1', 'p' || n % 7, 'u', 'x', '{}', now(), n
from generate_series(1, 6000) as n;
analyze app.timeline, app.sessions, app.accounts, app.consumption, app.projects, app.members,
    app.replies, app.builds, app.build_events, app.versions, app.drafts,
    app.shares, app.words, app.prompts, app.prompt_versions,
    app.runs, app.run_steps, app.run_candidates;
"""

ASKED: Final[dict[str, Any]] = {
    "tenant_id": "t1",
    "project_id": "p1",
    "user_id": "u1",
    "session_id": "s1",
    "mode": None,
    "with_hidden": False,
    "before": 2**63 - 1,
    "after": 0,
    "limit": 21,
    "offset": 0,
    "full": 50,
    "spent": 100_000,
    "idle_seconds": 60,
    "reply_id": "r1",
    "lease_id": 2,
    "here": [],
    "grace_seconds": 5,
    "lease_seconds": 10,
    "with_live": False,
    "session_ids": ["s1"],
    "uptos": [2**63 - 1],
    "build_id": "b1",
    "version_id": "v1",
    "build_ids": ["b50"],
    "status": "queued",
    "worker_id": None,
    "silent_seconds": 60,
    "until": "2026-01-05",
    "after_user_id": "",
    "share_id": "l1",
    "token_digest": "d1",
    "modes": ["plan", "build"],
    "context": "{}",
    "session_mode": "plan",
    "statuses": ["active", "expired"],
    "starred": None,
    "tag": None,
    "run_id": "n1",
    "prompt_id": "q1",
    "number": 1,
    "searched": None,
    "below": 100,
    "sort": "name",
    "after_name": "",
    "after_number": 0,
    "after_position": 0,
    "query": "word",
    "run_ids": ["n1", "n6"],
    "step_id": "s1",
    "candidate_id": None,
}
SMALL: Final = {"lease"}
"""Tables of a row a process, which are read whole."""


def reads(projection: Projection) -> list[str]:
    return [name for name in projection.statements if name not in ("table", "apply", "view")]


@pytest.fixture(scope="module")
async def full(new_shared_database: Callable[[], str]) -> str:
    """The URL of a database with many rows in each read model."""
    url = new_shared_database()
    async with owning(url) as owner:
        await owner.execute(MANY.encode())
    return url


@each
async def test_every_read_uses_an_index(full: str, projection: Projection) -> None:
    async with owning(full) as owner:
        for name in reads(projection):
            for mode in ("force_custom_plan", "force_generic_plan"):
                await owner.execute(f"set plan_cache_mode = {mode}".encode())
                plan = await explained(owner, projection.statements[name].decode())
                kinds = {
                    node["Node Type"]
                    for node in nodes(plan)
                    if node.get("Relation Name") not in SMALL
                }
                assert "Seq Scan" not in kinds, (name, mode, kinds)
                indexed = {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}
                assert kinds & indexed, (name, mode, kinds)


async def test_a_list_by_the_last_message_is_read_in_the_order_of_an_index(full: str) -> None:
    """Only the sessions of a block are sorted: a page of many sessions costs as much as of few."""
    async with owning(full) as owner:
        for name in ("project_recent", "project_oldest", "user_recent", "user_oldest"):
            for mode in ("force_custom_plan", "force_generic_plan"):
                await owner.execute(f"set plan_cache_mode = {mode}".encode())
                plan = await explained(owner, SESSIONS.statements[name].decode(), status=None)
                kinds = {node["Node Type"] for node in nodes(plan)}
                assert not kinds & {"Sort", "Hash"}, (name, mode, plan)


LONG_AWAY: Final = """
insert into app.timeline (
    position, tenant_id, project_id, mode, item_id, kind, is_visible, is_live, session_id,
    text, recorded_at
)
select
    n, 't' || n % 5, case when n <= 10000 then 'quiet' else 'p' || n % 7 end,
    case when n <= 500 then 'build' else 'plan' end, 'm' || n, 'reply', true, false, 's',
    repeat('x', 300), now()
from generate_series(1, 40000) as n;
insert into app.consumption (
    position, tenant_id, user_id, project_id, session_id, message_id, reservation_id,
    operation_type, billed_seconds, prices, model, recorded_at
)
select
    n, 't' || n % 5, case when n <= 10000 then 'quiet' else 'u' || n % 7 end,
    'p', 's', 'm', 'h' || n, 'plan_fix', 1, '1', 'x', now()
from generate_series(1, 40000) as n;
"""


@pytest.mark.parametrize("projection", [TIMELINE, CONSUMPTION], ids=lambda each: each.name)
async def test_a_page_costs_its_own_rows_and_not_all_that_others_did_since(
    url: str, projection: Projection
) -> None:
    """A project or a user that was quiet for long, among busy ones: eight blocks a row at the most.

    One is for the session of the row, and the lookup of its event in the log takes up to six."""
    async with owning(url) as owner:
        await owner.execute(LONG_AWAY.encode())
        await owner.execute("vacuum analyze app.timeline, app.consumption")
        # The first call of a function in a session also reads the function's own text.
        await owner.execute("select app.cursor_at(1)")
        for planning in ("force_custom_plan", "force_generic_plan"):
            await owner.execute(f"set plan_cache_mode = {planning}".encode())
            for name in reads(projection):
                plan = await explained(
                    owner,
                    projection.statements[name].decode(),
                    options="analyze, buffers, ",
                    project_id="quiet",
                    user_id="quiet",
                    session_ids=["s"],
                    uptos=[39_000],
                )
                read = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
                assert read <= 9 * ASKED["limit"], (name, planning, read)


MANY_REPLIES: Final = """
insert into app.timeline (
    position, tenant_id, project_id, mode, item_id, kind, is_visible, is_live, chat_mode, subtype,
    duration_ms, recorded_at
)
select
    n, 't1', 'p1', 'plan', n::text, case when n % 2 = 0 then 'reply' else 'user_message' end, true,
    false, 'general', 'success', 1, timestamptz '2026-01-01' + n * interval '1 minute'
from generate_series(1, 40000) as n;
"""


async def test_the_figures_of_a_span_read_the_replies_of_that_span(url: str) -> None:
    async with owning(url) as owner:
        await owner.execute(MANY_REPLIES.encode())
        await owner.execute("vacuum analyze app.timeline")
        for planning in ("force_custom_plan", "force_generic_plan"):
            await owner.execute(f"set plan_cache_mode = {planning}".encode())
            plan = await explained(
                owner,
                analytics.SQL["replies"].decode(),
                options="analyze, buffers, ",
                since="2026-01-05",
                until="2026-01-05 02:00",
            )
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 2 * 60, planning


async def explained(
    connection: Connection, statement: str, *, options: str = "", **parameters: Any
) -> dict[str, Any]:
    """The plan of a statement with parameters, prepared as the driver prepares it, in the role that
    runs it: one that sees a tenant's rows alone, or the service's own."""
    asked = ASKED | parameters
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    numbered = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", statement)
    values = compose.SQL(", ").join(compose.Literal(asked[name]) for name in names)
    if "tenant_id" in names:
        await connection.execute("set role throughline_tenant")
        tenant = {"tenant": asked["tenant_id"]}
        await connection.execute(
            "select set_config('throughline.tenant', %(tenant)s, false)", tenant
        )
    else:
        await connection.execute("set role throughline_service")
    await connection.execute(f"prepare asked as {numbered}".encode())
    try:
        explain = compose.SQL("explain ({}format json) execute asked ({})").format(
            compose.SQL(options),
            values,
        )
        row = await (await connection.execute(explain)).fetchone()
        assert row is not None
        plan: dict[str, Any] = row[0][0]["Plan"]
        return plan
    finally:
        await connection.execute("deallocate asked")
        await connection.execute("reset role")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


# running the rules by hand -----------------------------------------------------------------------


@asynccontextmanager
async def shadow(owner: Connection, projection: Projection) -> AsyncIterator[None]:
    """Its table and its rules in a schema of their own, rolled back at the end."""
    async with owner.transaction(force_rollback=True):
        await owner.execute("create schema shadow")
        await owner.execute("set local search_path = shadow, app")
        await owner.execute(projection.statements["table"])
        await owner.execute(projection.statements["apply"])
        yield


async def apply(owner: Connection, projection: Projection, after: int, upto: int) -> None:
    await owner.execute(
        f"select shadow.apply_{projection.name}(%s, %s)".encode(), (Int8(after), Int8(upto))
    )


@asynccontextmanager
async def held(url: str, *projections: Projection) -> AsyncIterator[None]:
    """Somebody else holds these read models, as a swap does."""
    async with owning(url) as other:
        for each in projections:
            await other.execute(machinery.SQL["stop"], {"name": each.name})
        async with other.transaction():
            for each in projections:
                await other.execute(machinery.SQL["lock"], {"name": each.name})
            yield
        await other.execute("update app.projection set is_paused = false")


def cuts(events: int, random: Random) -> Iterator[list[int]]:
    """Ways to cut the positions: whole, in two, all the same size, and by chance."""
    yield [0, events]
    yield [0, events // 2, events]
    yield [*range(0, events, 7), events]
    for _ in range(CUTS):
        points = random.sample(range(1, events), random.randint(1, min(40, events - 1)))
        yield [0, *sorted(points), events]


def test_the_generated_logs_have_every_type_that_a_read_model_shows() -> None:
    shown = {kind.__name__ for projection in PROJECTIONS for kind in projection.handles}
    worlds = [World(seed).appends(1_000) for seed in range(3)]
    found = {event.type for world in worlds for append in world for event in append}
    assert shown <= found, "give World an action that makes it: tests/projections/actions"


def test_the_oracle_is_not_blind() -> None:
    """Each event of a small log changes some read model, but for the types that none shows."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    log = [
        Recorded(
            n, e.tenant_id, e.stream_id, e.version, e.type, 1, e.project_id, e.state, "{}", at, b""
        )
        for n, e in enumerate((event for append in World(9).appends(80) for event in append), 1)
    ]
    shown = {kind.__name__ for projection in PROJECTIONS for kind in projection.handles}
    before = oracle([])
    for n, event in enumerate(log, 1):
        after = oracle(log[:n])
        assert (after != before) == (event.type in shown), event
        before = after


def oracle(log: list[Recorded]) -> dict[str, list[Row]]:
    return {projection.name: rows(projection.name, log) for projection in PROJECTIONS}
