"""Read models whose rules fail: halted or without a stream, alone, until they are mended."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import psycopg
import pytest

from domain.events import ERASURES
from projections import PROJECTIONS
from projections import projection as machinery
from projections.accounts import ACCOUNTS
from projections.projection import Connection, Projection, catch_up, rebuild, verify
from projections.projects import PROJECTS
from projections.sessions import SESSIONS
from service.eventlog.store import NewEvent, Recorded
from tests.projections.fold import rows
from tests.projections.generated import World, live, owning, writing
from tests.projections.trouble import (
    CREDITED,
    IN_THE_EVENT,
    INLINE,
    OPENED,
    assert_all_is_well,
    break_,
    held,
    mend,
    odd,
    schemas,
    statuses,
)
from tests.sizes import PROVE

ERASING = {kind.__name__ for kind in ERASURES}
UNPAID = b'{"user_id":"x","reservation_id":"h","session_id":"s","message_id":"m","seconds":2}'
Append = tuple[NewEvent, ...]


def together(
    projections: Sequence[Projection], group: Callable[[Projection], object]
) -> pytest.MarkDecorator:
    """Break read models: those of a group at once, and in `make prove` each by itself."""
    groups: dict[object, list[Projection]] = {}
    for each in projections:
        groups.setdefault(each.name if PROVE else group(each), []).append(each)
    names = [" ".join(each.name for each in group) for group in groups.values()]
    return pytest.mark.parametrize("broken", list(groups.values()), ids=names)


def appends_with(kinds: set[str]) -> tuple[list[Append], list[Append]]:
    """A generated log: what is before the first event of these types, and what comes from there on,
    with an event of each type, and some appends after them."""
    for log in (World(seed).appends(400) for seed in count(16)):
        firsts = [
            next((n for n, append in enumerate(log) if kind in {e.type for e in append}), len(log))
            for kind in kinds
        ]
        if max(firsts) < len(log):
            return log[: min(firsts)], log[min(firsts) : max(firsts) + 60]
    raise AssertionError


@together(INLINE, lambda each: each.handles[-1].__name__)
async def test_a_rule_that_fails_halts_alone(url: str, broken: list[Projection]) -> None:
    """The append succeeds, the others move on, the status says where and why, mending mends."""
    (kind,) = {each.handles[-1].__name__ for each in broken}
    earlier, later = appends_with({kind})
    async with writing(url) as log, owning(url) as owner:
        for projection in broken:
            await break_(owner, projection, at=kind)
        before = datetime.now(UTC) - timedelta(seconds=5)
        await log.append(earlier)
        known = await log.events()  # as they are before later ones erase some of it
        for append in later:
            await log.append([append])
        events = await log.events()
        assert len(events) == sum(map(len, earlier + later))
        first = next(event.position for event in events if event.type == kind)

        found = await statuses(owner)
        for halted in [found.pop(each.name) for each in broken]:
            assert halted.state == "halted"
            assert halted.position < first <= (halted.halted_before or 0)
            assert halted.halted_reason == f"made to fail on {kind}"
            assert halted.halted_at is not None
            assert before < halted.halted_at < datetime.now(UTC) + timedelta(seconds=5)
        for model in found.values():
            assert (model.state, model.position) == ("live", len(events))

        # Trying again finds the event itself, shows all before it, and stays halted.
        while not await catch_up(owner):
            pass
        found = await statuses(owner)
        for projection in broken:
            halted = found[projection.name]
            stands = (halted.state, halted.position, halted.halted_before)
            assert stands == ("halted", first - 1, first)
            shown = await live(owner, projection.name)
            assert shown == rows(projection.name, [*known, *events[len(known) : first - 1]])
            await mend(owner, projection)
        while not await catch_up(owner):
            pass
        await assert_all_is_well(owner, log)
        await log.append([odd(1)])
        await assert_all_is_well(owner, log)


def without_streams(events: Sequence[Recorded], failing: str) -> tuple[list[Recorded], set[str]]:
    """The events that are left without the streams that have an event of a type, from that event
    on, but with the erasures of these streams; and the streams."""
    left: list[Recorded] = []
    aside: set[str] = set()
    for event in events:
        if event.type == failing:
            aside.add(f"{event.tenant_id}/{event.stream_id}")
        elif f"{event.tenant_id}/{event.stream_id}" not in aside or event.type in ERASING:
            left.append(event)
    return left, aside


def set_aside_on(projection: Projection) -> str:
    """The last type of a read model that is no erasure."""
    names = [kind.__name__ for kind in projection.handles]
    return next(name for name in reversed(names) if name not in ERASING)


@together(PROJECTIONS, lambda each: PROJECTIONS.index(each) % 2)
async def test_a_stream_on_whose_event_a_rule_fails_is_set_aside_alone(
    url: str, broken: list[Projection]
) -> None:
    """All other rows are exact and live. A rebuild with mended rules brings the stream back."""
    failing = {each.name: set_aside_on(each) for each in broken}
    async with writing(url) as log, owning(url) as owner:
        for projection in broken:
            await break_(owner, projection, at=failing[projection.name], error=IN_THE_EVENT)
        earlier, later = appends_with(set(failing.values()))
        await log.append([*earlier, *later[:20]])
        for append in later[20:]:
            await log.append([append])
        events = await log.events()
        models = await statuses(owner)
        found = await machinery.set_aside(owner)
        for projection in broken:
            name, kind = projection.name, failing[projection.name]
            left, aside = without_streams(events, kind)
            model = models.pop(name)
            assert (model.state, model.set_aside) == ("live", len(aside)), model
            assert aside
            assert await live(owner, name) == rows(name, left)
            mine = [each for each in found if each.projection == name]
            assert {f"{each.tenant_id}/{each.stream_id}" for each in mine} == aside
            assert {each.reason for each in mine} == {f"made to fail on {kind}"}
            await mend(owner, projection)
            assert await verify(owner, projection) == 0
            await rebuild(owner, projection)
        assert {(each.state, each.set_aside) for each in models.values()} == {("live", 0)}
        assert await machinery.set_aside(owner) == []
        assert {each.set_aside for each in (await statuses(owner)).values()} == {0}
        await assert_all_is_well(owner, log)


async def test_a_stream_is_set_aside_in_a_catch_up_and_in_a_rebuild_too(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "CHUNK", 50)
    unpaid = NewEvent("t1", "account-t1-x", 1, "TimeReserved", UNPAID)
    # Less than what the first event takes, so that no range of both can succeed.
    later = NewEvent("t1", "account-t1-x", 2, "TimeCredited", CREDITED.replace(b'"u"', b'"x"'))
    async with writing(url) as log, owning(url) as owner:
        appends = World(22).appends(200)
        async with held(url, "accounts"):
            await log.append([*appends[:150], [unpaid], *appends[150:], [later]])
        while not await catch_up(owner):
            pass
        events = await log.events()
        left = [event for event in events if event.stream_id != "account-t1-x"]
        for work in (None, rebuild):
            if work is not None:
                await work(owner, ACCOUNTS)
            assert await live(owner, "accounts") == rows("accounts", left)
            assert await verify(owner, ACCOUNTS) == 0
            (found,) = await machinery.set_aside(owner)
            assert (found.projection, found.stream_id) == ("accounts", "account-t1-x")
            assert events[found.position - 1].type == "TimeReserved"
            assert (await statuses(owner))["accounts"].set_aside == 1
        assert await schemas(owner) == set()


POISON = (
    ("SessionOpened", b"not JSON at all", "session"),
    ("SessionOpened", b"[]", "session"),
    ("SessionOpened", b"\xff\xfe", "session"),
    ("SessionRenamed", b'{"session_id": "s", "name": "\\u0000"}', "session"),
    ("ReplyStarted", b'{"message_id":"m","session_id":"s","epoch":1e99}', "session"),
    ("ReplyCompleted", b'{"tokens_used": "many"}', "session"),
    ("TimeCredited", b'{"user_id":"u","seconds":99999999999999999999}', "account-t1"),
    ("TimeConsumed", b'{"session_id":"s","seconds":"x"}', "account-t1"),
    ("MemberAdded", b'{"project_id": null}', "project"),
    ("BuildRequested", b"5", "build"),
    ("VersionDeployed", b'{"build_id": {}}', "build"),
)
"""Types, states that no event of the type has, and the kind of their streams."""

HALF_POISON = (
    ("SessionOpened", b"{}", "session"),
    ("PlanSaved", b'{"message_id": []}', "session"),
)
"""The timeline shows these events, and other read models set their streams aside."""

TOGETHER = (POISON, HALF_POISON)


@pytest.mark.parametrize("poison", [[each] for each in POISON + HALF_POISON] if PROVE else TOGETHER)
async def test_no_state_of_an_event_halts_a_read_model(
    url: str, poison: Sequence[tuple[str, bytes, str]]
) -> None:
    """The other streams of the tenant, and the other tenants, stay exact and live."""
    appends = World(11).appends(60)
    events = [
        NewEvent("t1", f"{stream}-poison-{n}", 1, kind, state, "p1")
        for n, (kind, state, stream) in enumerate(poison)
    ]
    streams = {each.stream_id for each in events}
    async with writing(url) as log, owning(url) as owner:
        await log.append(appends[:30])
        await log.append([*appends[30:40], *([each] for each in events)])
        for append in appends[40:]:
            await log.append([append])
        left = [event for event in await log.events() if event.stream_id not in streams]
        for name, model in (await statuses(owner)).items():
            assert model.state == "live"
            if model.set_aside:
                assert await live(owner, name) == rows(name, left)
        for projection in PROJECTIONS:
            assert await verify(owner, projection) == 0


async def test_a_halted_read_model_costs_the_next_appends_nothing(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await break_(owner, PROJECTS, at="ProjectRegistered")
        await log.append([odd(1)])
        first = (await statuses(owner))["projects"]
        for n in range(2, 20):
            await log.append([odd(n)])
        assert (await statuses(owner))["projects"] == replace(first, head=19)
        assert await catch_up(owner)
        assert (await statuses(owner))["projects"] == replace(first, head=19)


async def test_a_rebuild_mends_what_is_broken(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await log.append(World(16).appends(100))
        await break_(owner, SESSIONS, at="SessionOpened")
        await log.append([[NewEvent("t1", "session-odd", 1, "SessionOpened", OPENED, "p")]])
        assert (await statuses(owner))["sessions"].state == "halted"
        await rebuild(owner, SESSIONS)
        await log.append([odd(1)])
        await assert_all_is_well(owner, log)


async def break_rebuilds(owner: Connection) -> None:
    """Let the rules of every rebuild fail for another reason than what is in an event."""
    await owner.execute(
        """
        create or replace function app.project_around(
            p_schema text, p_name text, p_after bigint, p_upto bigint
        ) returns void
        language plpgsql as $$
        begin
            raise exception 'the disk is full' using errcode = 'disk_full';
        end
        $$
        """
    )


async def test_a_rule_that_fails_in_a_rebuild_leaves_the_live_rows(url: str) -> None:
    async with writing(url) as log, owning(url) as owner:
        await log.append(World(22).appends(200))
        before = await live(owner, "accounts")
        await break_rebuilds(owner)
        with pytest.raises(psycopg.errors.DiskFull):
            await rebuild(owner, ACCOUNTS)
        assert await schemas(owner) == set()
        assert await live(owner, "accounts") == before
