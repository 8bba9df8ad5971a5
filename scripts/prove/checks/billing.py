"""Checks that nothing is billed twice: each reservation has one end, and all sums agree."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from domain.deciders import account
from domain.deciders.account import Account
from domain.events import (
    BuildFailed,
    BuildProgressed,
    BuildQueued,
    BuildSucceeded,
    ReservationReleased,
    TimeConsumed,
    TimeCredited,
    TimeReserved,
    UserMessagePosted,
)
from scripts.prove.check import Check, Found, changed, doubled_first, restated_first, without_first
from scripts.prove.observed import Observed
from scripts.prove.stored import Stored, stored
from service.postgres.connections import Connection

MONEY: Final = (TimeCredited, TimeReserved, TimeConsumed, ReservationReleased)
Owner = tuple[str, str]
"""A tenant and a user."""


async def _ends(database: Connection) -> Counter[tuple[str, str]]:
    """The number of ends of each reservation."""
    log = await stored(database, TimeReserved, TimeConsumed, ReservationReleased)
    ends = Counter({(each.tenant, each.event.reservation_id): 0 for each in log})
    ends.update(
        (each.tenant, each.event.reservation_id) for each in log if each.type != "TimeReserved"
    )
    return ends


async def _settled_once(_: Observed, database: Connection) -> Found:
    ends = await _ends(database)
    breaches = [f"{key} was settled {times} times" for key, times in ends.items() if times > 1]
    return Found(len(ends), breaches)


async def _none_open(_: Observed, database: Connection) -> Found:
    ends = await _ends(database)
    return Found(len(ends), [f"{key} is open" for key, times in ends.items() if not times])


def _steps(log: list[Stored]) -> Iterator[tuple[Owner, int, Account]]:
    """The state of each account after each of its events."""
    states: defaultdict[Owner, Account] = defaultdict(Account)
    for each in log:
        owner = (each.tenant, each.event.user_id)
        states[owner] = account.evolve(states[owner], each.event)
        yield owner, each.position, states[owner]


async def _never_below_zero(_: Observed, database: Connection) -> Found:
    log = await stored(database, *MONEY)
    breaches = [
        f"{owner} has {state.available} s at {position}"
        for owner, position, state in _steps(log)
        if state.available < 0
    ]
    return Found(len(log), breaches)


def _balance(state: Account, bonus: int) -> dict[str, int]:
    return {
        "creditedSeconds": state.credited,
        "bonusSeconds": bonus,
        "consumedSeconds": state.consumed,
        "reservedSeconds": state.reserved,
        "availableSeconds": state.available,
    }


async def _histories(database: Connection) -> dict[Owner, list[tuple[int, dict[str, int]]]]:
    """The history of each account: balances with the position from which they were valid."""
    log = await stored(database, *MONEY)
    bonus: Counter[Owner] = Counter()
    found: dict[Owner, list[tuple[int, dict[str, int]]]] = {}
    for each, (owner, position, state) in zip(log, _steps(log), strict=True):
        if each.type == "TimeCredited" and each.event.kind == "bonus":
            bonus[owner] += each.event.seconds
        found.setdefault(owner, [(0, _balance(Account(), 0))]).append(
            (position, _balance(state, bonus[owner]))
        )
    return found


async def _builds(_: Observed, database: Connection) -> Found:
    """Each build ended once. The append of its end settled what the end reported, as far as it was
    reserved, and released a reservation without such a report."""
    queued = await stored(database, BuildQueued)
    ends = await stored(database, BuildSucceeded, BuildFailed)
    reported = {
        (each.tenant, each.append, each.event.build_id): each.event.seconds
        for each in await stored(database, BuildProgressed)
        if each.event.ends
    }
    reserved: Counter[tuple[str, str]] = Counter()
    for each in await stored(database, TimeReserved):
        reserved[each.tenant, each.event.reservation_id] += each.event.seconds
    bills = [
        (each.tenant, each.append, each.event.reservation_id, getattr(each.event, "seconds", None))
        for each in await stored(database, TimeConsumed, ReservationReleased)
    ]
    expected: list[tuple[str, int, str, int | None]] = []
    for each in ends:
        key = each.event.build_id
        seconds = reported.get((each.tenant, each.append, key))
        most = reserved[each.tenant, key]
        expected.append(
            (each.tenant, each.append, key, None if seconds is None else min(seconds, most))
        )
    counted = Counter(bills)
    breaches = [
        f"{each} is in the log {counted[each]} times" for each in expected if counted[each] != 1
    ]
    ended = Counter((each.tenant, each.event.build_id) for each in ends)
    breaches += [
        f"build {each.event.build_id} ended {ended[each.tenant, each.event.build_id]} times"
        for each in queued
        if ended[each.tenant, each.event.build_id] != 1
    ]
    return Found(len(queued), breaches)


async def _balances(observed: Observed, database: Connection) -> Found:
    """An answer for a position has the balance at that position, or a later one."""
    histories = await _histories(database)
    breaches: list[str] = []
    for each in observed.balances:
        history = histories[each.tenant, each.user_id]
        earlier = [balance for position, balance in history if position <= each.position]
        later = [balance for position, balance in history if position > each.position]
        if each.account not in (earlier[-1:] + later):
            breaches.append(f"{each} was never the balance")
    return Found(len(observed.balances), breaches)


def _richer(observed: Observed) -> Observed:
    first, *others = observed.balances
    account = first.account | {"creditedSeconds": first.account["creditedSeconds"] + 1}
    return replace(observed, balances=[replace(first, account=account), *others])


async def _accounts(_: Observed, database: Connection) -> Found:
    rows = await database.execute(
        "select tenant_id, user_id, credited_seconds, bonus_seconds, consumed_seconds, "
        "reserved_seconds, credited_seconds - consumed_seconds - reserved_seconds "
        "from app.accounts"
    )
    shown = {(tenant, user): list(numbers) for tenant, user, *numbers in await rows.fetchall()}
    summed = {
        owner: list(history[-1][1].values())
        for owner, history in (await _histories(database)).items()
    }
    return Found(len(shown), _differing("account", summed, shown))


async def _consumption(_: Observed, database: Connection) -> Found:
    rows = await database.execute(
        "select tenant_id, position, user_id, session_id, message_id, reservation_id, "
        "billed_seconds, cost_usd from app.consumption"
    )
    shown = {(tenant, position): list(row) for tenant, position, *row in await rows.fetchall()}
    billed = {
        (each.tenant, each.position): [
            *(each.event.user_id, each.event.session_id, each.event.reply_id),
            *(each.event.reservation_id, each.event.seconds, each.event.cost_usd),
        ]
        for each in await stored(database, TimeConsumed)
    }
    return Found(len(shown), _differing("entry", billed, shown))


async def _sessions(_: Observed, database: Connection) -> Found:
    rows = await database.execute(
        "select tenant_id, session_id, message_count, ai_seconds, tokens_used, cost_usd "
        "from app.sessions"
    )
    shown = {(tenant, session): list(row) for tenant, session, *row in await rows.fetchall()}
    summed: dict[Any, list[Any]] = {key: [0, 0, 0, Decimal(0)] for key in shown}
    for each in await stored(database, UserMessagePosted, TimeConsumed):
        sums = summed.setdefault((each.tenant, each.event.session_id), [0, 0, 0, Decimal(0)])
        if each.type == "UserMessagePosted":
            sums[0] += 1
        else:
            sums[1] += each.event.seconds
            sums[2] += sum(
                getattr(each.event, f"{kind}_tokens") or 0
                for kind in ("input", "output", "cache_read", "cache_write")
            )
            sums[3] += each.event.cost_usd or 0
    return Found(len(shown), _differing("session", summed, shown))


def _differing(what: str, ours: dict[Any, list[Any]], shown: dict[Any, list[Any]]) -> list[str]:
    return [
        f"{what} {key}: {ours.get(key)} by the log, {shown.get(key)} in the read model"
        for key in sorted(ours.keys() | shown.keys())
        if ours.get(key) != shown.get(key)
    ]


async def _bills(observed: Observed, database: Connection) -> Found:
    """Each envelope has the seconds that were billed for it, and an error has none."""
    taken = {
        (each.tenant, each.event.reply_id): each.event.seconds
        for each in await stored(database, TimeConsumed)
    }
    breaches = [
        f"{each.reply_id}: {each.envelope['metadata']['billed_seconds']} s in the envelope, "
        f"{taken.get((each.tenant, each.reply_id), 0)} s in the log"
        for each in observed.finals
        if each.envelope["metadata"]["billed_seconds"] != taken.get((each.tenant, each.reply_id), 0)
    ]
    return Found(len(observed.finals), breaches)


CHECKS: Final = (
    Check(
        name="no reservation was settled twice",
        find=_settled_once,
        damage=doubled_first(TimeConsumed),
    ),
    Check(name="no reservation is open", find=_none_open, damage=without_first(TimeConsumed)),
    Check(
        name="no balance was ever below zero",
        find=_never_below_zero,
        damage=restated_first(TimeCredited, "seconds", "1"),
    ),
    Check(
        name="builds were billed what their ends reported, in the append of the end",
        find=_builds,
        damage=without_first(BuildSucceeded, BuildFailed),
    ),
    Check(name="balances in answers were true", find=_balances, distort=_richer),
    Check(
        name="envelopes name the seconds that were billed",
        find=_bills,
        damage=restated_first(TimeConsumed, "seconds", "59"),
    ),
    Check(
        name="accounts are the sums of their events",
        find=_accounts,
        damage=changed(
            "update app.accounts set consumed_seconds = consumed_seconds + 1 "
            "where ctid = (select min(ctid) from app.accounts)"
        ),
    ),
    Check(
        name="the ledger is what was settled",
        find=_consumption,
        damage=changed(
            "delete from app.consumption "
            "where position = (select min(position) from app.consumption)"
        ),
    ),
    Check(
        name="sessions are the sums of their messages and bills",
        find=_sessions,
        damage=changed(
            "update app.sessions set ai_seconds = ai_seconds + 1 "
            "where ctid = (select min(ctid) from app.sessions)"
        ),
    ),
)
