"""Checks that a reply survives its connections: what each reader saw, and what is stored now."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import orjson

from domain.events import ReplyCompleted, ReplyFailed, ReplyStarted
from domain.replies.operations import Misfit, fold
from scripts.prove.check import Check, Found, doubled_first, without_first
from scripts.prove.observed import Event, Observed, Reading
from scripts.prove.stored import stored
from service.postgres.connections import Connection


async def _ends(database: Connection) -> Counter[tuple[str, str]]:
    """The number of ends of each reply that was started."""
    log = await stored(database, ReplyStarted, ReplyCompleted, ReplyFailed)
    ends = Counter({(each.tenant, each.event.reply_id): 0 for each in log})
    ends.update((each.tenant, each.event.reply_id) for each in log if each.type != "ReplyStarted")
    return ends


async def _all_ended(_: Observed, database: Connection) -> Found:
    ends = await _ends(database)
    return Found(len(ends), [f"{reply} has no end" for reply, times in ends.items() if not times])


async def _ended_once(_: Observed, database: Connection) -> Found:
    ends = await _ends(database)
    breaches = [f"{reply} has {times} ends" for reply, times in ends.items() if times > 1]
    return Found(len(ends), breaches)


def _same(value: Any) -> bytes:
    """The value as bytes, because 1, 1.0 and True are equal in Python."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


async def _finals(observed: Observed, _: Connection) -> Found:
    """Every final envelope that a reader saw equals the reply's state now."""
    now = {(each.tenant, each.reply_id): _same(each.envelope) for each in observed.states}
    breaches = [
        f"{each.reply_id} ended with another envelope than its present state"
        for each in observed.finals
        if _same(each.envelope) != now.get((each.tenant, each.reply_id))
    ]
    breaches += [f"{each.reply_id} has no end" for each in observed.states if not each.envelope]
    return Found(len(observed.finals), breaches)


async def _in_the_log(observed: Observed, database: Connection) -> Found:
    """Every final envelope that a reader saw is in the log."""
    ended = {
        (each.tenant, each.event.reply_id): _same(getattr(each.event, "data", None))
        for each in await stored(database, ReplyCompleted, ReplyFailed)
    }
    breaches = [
        f"{each.reply_id} ended with other data than the log has"
        for each in observed.finals
        if _same(each.envelope["data"]) != ended.get((each.tenant, each.reply_id))
    ]
    return Found(len(observed.finals), breaches)


async def _came_to_an_end(observed: Observed, _: Connection) -> Found:
    breaches = [
        f"{each.reply_id}: a reader stopped after event {each.last}"
        for each in observed.readings
        if [event.name for event in each.events].count("final") != 1 or not each.is_done
    ]
    return Found(len(observed.readings), breaches)


async def _dense(observed: Observed, _: Connection) -> Found:
    counted, breaches = 0, []
    for reading in observed.readings:
        last = 0
        for event in (each for each in reading.events if each.n):
            counted += 1
            # A snapshot replaces all events up to its own number.
            follows = event.n > last if event.name == "snapshot" else event.n == last + 1
            if not follows:
                breaches.append(f"{reading.reply_id}: {event.n} after {last}")
            last = event.n
    return Found(counted, breaches)


async def _the_same(observed: Observed, _: Connection) -> Found:
    """All readers of an event get the same bytes."""
    known: dict[tuple[str, int], bytes] = {}
    counted, breaches = 0, []
    for reading in observed.readings:
        for event in reading.events:
            if event.n and event.name != "snapshot":
                counted += 1
                if known.setdefault((reading.reply_id, event.n), event.raw) != event.raw:
                    breaches.append(f"{reading.reply_id}.{event.n} reads in two ways")
    return Found(counted, breaches)


async def _folded(observed: Observed, _: Connection) -> Found:
    """The operations since the last reset, folded, equal the final data."""
    done = [reading for reading in observed.readings if reading.is_done]
    breaches = [
        f"{reading.reply_id}: what was shown is not its data"
        for reading in done
        if _shown(reading) != _same(reading.events[-1].data["data"])
    ]
    return Found(len(done), breaches)


def _shown(reading: Reading) -> bytes:
    start: Any = None
    ops: list[Any] = []
    for event in reading.events:
        if event.name in ("reset", "snapshot"):
            start, ops = (event.data["data"] if event.name == "snapshot" else None), []
        elif event.name == "chunk":
            ops += event.data["ops"]
    try:
        return _same(fold(ops, start))
    except Misfit as error:
        return str(error).encode()


async def _no_stream_hangs(observed: Observed, _: Connection) -> Found:
    """A stream ends when its reply is erased or its reader removed, whatever its server goes
    through meanwhile."""
    breaches = [
        f"{each.reply}: a stream is still open, although {each.act}"
        for each in observed.watched
        if each.end is None
    ]
    return Found(len(observed.watched), breaches)


# Controls ----------------------------------------------------------------------------------------


def _distorted(change: Callable[[list[Event]], list[Event]]) -> Callable[[Observed], Observed]:
    """A distortion: the reading with the most events is changed."""

    def distort(observed: Observed) -> Observed:
        longest = max(observed.readings, key=lambda reading: len(reading.events))
        others = [reading for reading in observed.readings if reading is not longest]
        changed = replace(longest, events=change(longest.events))
        # The unchanged reading stays, so that a check can compare the two.
        return replace(observed, readings=[longest, changed, *others])

    return distort


def _without_one(events: list[Event]) -> list[Event]:
    chunks = [event for event in events if event.name == "chunk"]
    return [event for event in events if event is not chunks[-1]]


def _without_final(events: list[Event]) -> list[Event]:
    return events[:-1]


def _reworded(events: list[Event]) -> list[Event]:
    """The last chunk with a little more text."""
    last = max(n for n, event in enumerate(events) if event.name == "chunk")
    raw = events[last].raw.replace(b'"text":"', b'"text":"x')
    if raw == events[last].raw:
        raw = events[last].raw.replace(b'"path":"/', b'"path":"/x')
    return [*events[:last], replace(events[last], raw=raw), *events[last + 1 :]]


def _hanging(observed: Observed) -> Observed:
    first, *others = observed.watched
    return replace(observed, watched=[replace(first, end=None), *others])


def _redated(observed: Observed) -> Observed:
    first, *others = observed.finals
    changed = replace(first, envelope=first.envelope | {"timestamp": "another"})
    return replace(observed, finals=[changed, *others])


CHECKS: Final = (
    Check(name="replies have an end", find=_all_ended, damage=without_first(ReplyCompleted)),
    Check(name="no reply has two ends", find=_ended_once, damage=doubled_first(ReplyCompleted)),
    Check(name="final envelopes are what the replies say now", find=_finals, distort=_redated),
    Check(
        name="final data is what the log has",
        find=_in_the_log,
        damage=without_first(ReplyCompleted),
    ),
    Check(
        name="readers came to the final event, once",
        find=_came_to_an_end,
        distort=_distorted(_without_final),
    ),
    Check(name="no stream hangs", find=_no_stream_hangs, distort=_hanging),
    Check(name="ids of events are dense", find=_dense, distort=_distorted(_without_one)),
    Check(name="events read the same for everybody", find=_the_same, distort=_distorted(_reworded)),
    Check(name="operations folded are the final data", find=_folded, distort=_distorted(_reworded)),
)
