"""The answers to the questions of `docs/questions.md`, folded from the events in plain Python.

This is the oracle. It knows no view and no SQL.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from math import floor
from typing import Any, Final

import orjson

from service.eventlog.store import Recorded

Row = tuple[Any, ...]
SPOKEN: Final = ("UserMessagePosted", "AssistantMessageAdded", "ReplyCompleted", "ReplyFailed")


@dataclass(frozen=True, slots=True)
class Fact:
    """An event with its state."""

    type: str
    stream_id: str
    at: datetime
    state: Mapping[str, Any]

    @property
    def month(self) -> date:
        """The first day of the month."""
        return self.at.date().replace(day=1)

    @property
    def is_private(self) -> bool:
        """Whether it is in a private session."""
        return self.stream_id.startswith("session-private-")


@dataclass(slots=True)
class Talk:
    """A session as its events leave it."""

    user_id: str
    mode: str
    opened_at: datetime
    last_at: datetime
    messages: int = 0
    seconds: int = 0
    status: str = "active"
    build_id: str | None = None
    prompt_id: str | None = None


@dataclass(slots=True)
class Life:
    """What a tenant's events say."""

    facts: list[Fact]
    talks: dict[str, Talk] = field(default_factory=dict[str, Talk])

    def of(self, *types: str) -> Iterator[Fact]:
        """The events of these types."""
        return (fact for fact in self.facts if fact.type in types)


def life(events: Iterable[Recorded]) -> Life:
    """The facts of these events, with the sessions."""
    facts = [
        Fact(each.type, each.stream_id, each.recorded_at, orjson.loads(each.state))
        for each in events
    ]
    known = Life(facts)
    for fact in facts:
        _talk(known.talks, fact)
    return known


def _talk(talks: dict[str, Talk], fact: Fact) -> None:
    state = fact.state
    if fact.type == "SessionOpened":
        mode, user_id = state["mode"], state["user_id"]
        talks[state["session_id"]] = Talk(user_id, mode, fact.at, fact.at)
    if fact.type == "TimeConsumed":
        talks[state["session_id"]].seconds += state["seconds"]
    if not fact.stream_id.startswith("session-"):
        return
    talk = talks[state["session_id"]]
    if fact.type in SPOKEN:
        talk.last_at = fact.at
        talk.messages += fact.type in SPOKEN[:2]
    match fact.type:
        case "SessionConverted":
            talk.status, talk.build_id = "converted", state["build_id"]
        case "SessionArchived":
            talk.status = "archived"
        case "SessionExpired":
            talk.status = "expired"
        case "SessionResumed":
            talk.status = "active"
        case "SessionInstructed":
            talk.prompt_id = state["prompt_id"]
        case _:
            pass


# Sums --------------------------------------------------------------------------------------------


def total(values: Iterable[Any]) -> Any:
    """The sum of what is known; None where nothing is."""
    known = [each for each in values if each is not None]
    return sum(known, start=type(known[0])(0)) if known else None


def share(part: int, whole: int) -> float | None:
    """A percentage."""
    return 100 * part / whole if whole else None


def percentile(values: Iterable[float | None], at: float) -> float | None:
    """The percentile of what is known, between two values where it falls between them."""
    known = sorted(each for each in values if each is not None)
    if not known:
        return None
    place = at * (len(known) - 1)
    low = floor(place)
    high = min(low + 1, len(known) - 1)
    return known[low] + (known[high] - known[low]) * (place - low)


def grouped(
    facts: Iterable[Fact], key: Callable[[Fact], Row], *sums: Callable[[list[Fact]], Any]
) -> list[Row]:
    """A row for each key, in the order of the keys: the key, then each figure of its events."""
    groups: defaultdict[Row, list[Fact]] = defaultdict(list)
    for fact in facts:
        groups[key(fact)].append(fact)
    return [(*each, *(figure(groups[each]) for figure in sums)) for each in sorted(groups)]


def summed(name: str) -> Callable[[list[Fact]], Any]:
    """The sum of a value of the events."""
    return lambda facts: total(fact.state[name] for fact in facts)


def _cost(facts: list[Fact]) -> Any:
    return total(
        None if fact.state["cost_usd"] is None else Decimal(fact.state["cost_usd"])
        for fact in facts
    )


# Money and tokens --------------------------------------------------------------------------------


def cost_of_users(known: Life) -> list[Row]:
    return grouped(
        known.of("TimeConsumed"),
        lambda fact: (fact.month, fact.state["user_id"]),
        *(summed("seconds"), _cost),
    )


def cost_of_work(known: Life) -> list[Row]:
    return grouped(
        known.of("TimeConsumed"),
        lambda fact: (fact.state["operation"],),
        *(len, summed("seconds"), summed("bonus_seconds"), _cost),
    )


def tokens(known: Life) -> list[Row]:
    kinds = ("input_tokens", "cache_read_tokens", "cache_write_tokens")

    def cached(facts: list[Fact]) -> float | None:
        each = [[fact.state[kind] for kind in kinds] for fact in facts]
        read = total(fact.state["cache_read_tokens"] for fact in facts)
        return share(read, sum(sum(row) for row in each if None not in row))

    return grouped(
        (fact for fact in known.of("TimeConsumed") if fact.state["build_id"] is None),
        lambda fact: (fact.state["model"],),
        *(summed("input_tokens"), summed("output_tokens"), summed("cache_read_tokens"), cached),
    )


def seconds_so_far(known: Life) -> list[Row]:
    months = grouped(known.of("TimeConsumed"), lambda fact: (fact.month,), summed("seconds"))
    return [
        (month, n, sum(each for _, each in months[: i + 1])) for i, (month, n) in enumerate(months)
    ]


def little_left(known: Life) -> list[Row]:
    credited, used = Counter[str](), Counter[str]()
    for fact in known.of("TimeCredited"):
        credited[fact.state["user_id"]] += fact.state["seconds"]
    for fact in known.of("TimeConsumed"):
        used[fact.state["user_id"]] += fact.state["seconds"]
    reserved = _reserved(known)
    rows = [
        (user, credited[user] - used[user] - reserved[user], reserved[user], used[user])
        for user in credited
    ]
    return sorted((row for row in rows if row[1] < 3_600), key=lambda row: (row[1], row[0]))


def _reserved(known: Life) -> Counter[str]:
    """The seconds of open reservations, by user."""
    reserved: dict[tuple[str, str], int] = defaultdict(int)
    for fact in known.of("TimeReserved", "TimeConsumed", "ReservationReleased"):
        key = (fact.state["user_id"], fact.state["reservation_id"])
        if fact.type == "TimeReserved":
            reserved[key] += fact.state["seconds"]
        else:
            del reserved[key]
    users = Counter[str]()
    for (user, _), seconds in reserved.items():
        users[user] += seconds
    return users


# Replies -----------------------------------------------------------------------------------------


def _replies(known: Life) -> Iterator[Fact]:
    ended = known.of("ReplyCompleted", "ReplyFailed")
    return (fact for fact in ended if not fact.is_private)


def _subtype(fact: Fact) -> str:
    return str(fact.state.get("subtype", "error"))


def failed_by_mode(known: Life) -> list[Row]:
    def failed(facts: list[Fact]) -> int:
        return sum(fact.type == "ReplyFailed" for fact in facts)

    return grouped(
        _replies(known),
        lambda fact: (fact.state["mode"] or "unknown",),
        *(len, failed, lambda facts: share(failed(facts), len(facts))),
    )


def reasons(known: Life) -> list[Row]:
    return grouped(
        (fact for fact in _replies(known) if _subtype(fact) != "success"),
        lambda fact: (_subtype(fact), fact.state.get("reason") or fact.state.get("code")),
        len,
    )


def latencies(known: Life) -> list[Row]:
    def at(name: str, share: float) -> Callable[[list[Fact]], Any]:
        return lambda facts: percentile((fact.state[name] for fact in facts), share)

    return grouped(
        (fact for fact in _replies(known) if _subtype(fact) == "success"),
        lambda fact: (fact.state["mode"],),
        *(at("duration_ms", 0.5), at("duration_ms", 0.95), at("first_text_ms", 0.95)),
    )


def languages(known: Life) -> list[Row]:
    said = [fact for fact in known.of("UserMessagePosted") if not fact.is_private]
    return grouped(
        [*said, *_replies(known)],
        lambda fact: (fact.state["locale"].partition("-")[0].lower(),),
        lambda facts: sum(fact.type == "UserMessagePosted" for fact in facts),
        lambda facts: sum(_subtype(f) == "success" and f.type == "ReplyCompleted" for f in facts),
    )


# Users and sessions ------------------------------------------------------------------------------


def busiest_hours(known: Life) -> list[Row]:
    said = (fact for fact in known.of("UserMessagePosted") if not fact.is_private)
    hours = Counter(fact.at.hour for fact in said)
    return sorted(hours.items(), key=lambda each: (-each[1], each[0]))[:5]


def active_users(known: Life) -> list[Row]:
    return grouped(
        known.of("TimeConsumed"),
        lambda fact: (fact.month,),
        lambda facts: len({fact.state["user_id"] for fact in facts}),
        lambda facts: len({fact.state["project_id"] for fact in facts}),
    )


def uses(known: Life) -> list[Row]:
    rows: list[Row] = []
    for mode in sorted({talk.mode for talk in known.talks.values()}):
        mine = [talk for talk in known.talks.values() if talk.mode == mode]
        messages = [talk.messages for talk in mine]
        seconds = sum(talk.seconds for talk in mine)
        rows.append((mode, len(mine), sum(messages), max(messages), seconds))
    return rows


def longest(known: Life) -> list[Row]:
    plans = [(key, talk) for key, talk in known.talks.items() if talk.mode == "plan"]
    plans.sort(key=lambda each: (each[1].opened_at - each[1].last_at, each[0]))
    return [
        (key, talk.user_id, talk.messages, (talk.last_at - talk.opened_at) / timedelta(minutes=1))
        for key, talk in plans[:10]
    ]


# Plans and builds --------------------------------------------------------------------------------


def conversions(known: Life) -> list[Row]:
    plans = [talk for talk in known.talks.values() if talk.mode == "plan"]
    months = sorted({talk.opened_at.date().replace(day=1) for talk in plans})
    rows: list[Row] = []
    for month in months:
        mine = [each for each in plans if each.opened_at.date().replace(day=1) == month]
        built = sum(each.build_id is not None for each in mine)
        rows.append((month, len(mine), built, share(built, len(mine))))
    return rows


def way_to_build(known: Life) -> list[Row]:
    waits = [
        (fact.at - known.talks[session_id].opened_at).total_seconds()
        for fact in known.of("BuildQueued")
        if (session_id := fact.state["converted_from_session_id"]) is not None
    ]
    return [(len(waits), percentile(waits, 0.5))]


def build_endings(known: Life) -> list[Row]:
    queued = {fact.state["build_id"]: fact for fact in known.of("BuildQueued")}
    endings: defaultdict[Row, list[float]] = defaultdict(list)
    for fact in known.of("BuildSucceeded", "BuildFailed"):
        begun = queued.pop(fact.state["build_id"])
        ending = fact.state.get("code", "succeeded")
        took = round((fact.at - begun.at) / timedelta(milliseconds=1))
        endings[begun.state["operation"], ending].append(took)
    assert not queued, "each build of the year has ended"
    return [(*key, len(each), percentile(each, 0.5)) for key, each in sorted(endings.items())]


# Prompts and runs --------------------------------------------------------------------------------


def used_prompts(known: Life) -> list[Row]:
    names = {fact.state["prompt_id"]: fact.state["name"] for fact in known.of("PromptCreated")}
    runs: defaultdict[str, list[Talk]] = defaultdict(list)
    for talk in known.talks.values():
        if talk.prompt_id is not None and talk.status == "active":
            runs[names[talk.prompt_id]].append(talk)
    hour = timedelta(hours=1)
    return [
        (
            name,
            len(mine),
            len({talk.user_id for talk in mine}),
            sum(talk.messages for talk in mine),
            share(sum(talk.last_at - talk.opened_at >= hour for talk in mine), len(mine)),
        )
        for name, mine in sorted(runs.items())
    ]


def run_endings(known: Life) -> list[Row]:
    best: dict[str, float] = {}
    for fact in known.of("RunCandidateReported"):
        run_id, score = fact.state["run_id"], fact.state["scores"]["overall"]
        best[run_id] = max(score, best.get(run_id, score))
    runs: defaultdict[str, list[str]] = defaultdict(list)
    for fact in known.of("RunSucceeded", "RunFailed"):
        runs["succeeded" if fact.type == "RunSucceeded" else "failed"].append(fact.state["run_id"])
    rows: list[Row] = []
    for status, mine in sorted(runs.items()):
        scores = [best[run_id] for run_id in mine if run_id in best]
        rows.append((status, len(mine), sum(scores) / len(scores) if scores else None))
    return rows


# From the log ------------------------------------------------------------------------------------


def balance(known: Life) -> list[Row]:
    rows: list[Row] = []
    left = 0
    for month, moved in _by_month(known.of("TimeCredited", "TimeConsumed")):
        credited = sum(f.state["seconds"] for f in moved if f.type == "TimeCredited")
        consumed = sum(f.state["seconds"] for f in moved if f.type == "TimeConsumed")
        left += credited - consumed
        rows.append((month, credited, consumed, left))
    return rows


def _by_month(facts: Iterable[Fact]) -> list[tuple[date, list[Fact]]]:
    months: defaultdict[date, list[Fact]] = defaultdict(list)
    for fact in facts:
        months[fact.month].append(fact)
    return sorted(months.items())


def released(known: Life) -> list[Row]:
    return grouped(
        known.of("ReservationReleased"),
        lambda fact: (fact.state["reason"],),
        *(len, summed("held_seconds")),
    )


ANSWERS: Final[Sequence[Callable[[Life], list[Row]]]] = (
    *(cost_of_users, cost_of_work, tokens, seconds_so_far, little_left),
    *(failed_by_mode, reasons, latencies, languages),
    *(busiest_hours, active_users, uses, longest),
    *(conversions, way_to_build, build_endings),
    *(used_prompts, run_endings, balance, released),
)
"""The answers in the order of the questions."""
