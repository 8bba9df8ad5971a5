"""Checks that each tenant got all of its own data, none of another tenant's, and no errors."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

from domain.events import ReplyCompleted, ReplyFailed, SessionDeleted, UserMessagePosted
from domain.modes import PRIVATE_ID
from scripts.prove.check import Check, Found
from scripts.prove.endings import ACTS, NAME
from scripts.prove.observed import Observed
from scripts.prove.stored import stored
from service.postgres.connections import Connection

FORESEEN: Final = {
    200: {""},
    201: {""},
    202: {""},
    204: {""},
    402: {"insufficient_balance"},
    409: {
        "reply_in_progress",
        "build_in_progress",
        "session_ended",
        "plan_missing",
        "build_claimed",
        "run_claimed",
        "run_ended",
        "build_ended",
    },
    503: {
        "database_away",
        "overloaded",
        "contended",
        "stopping",
        "too_slow",
        "answer_missing",
        "audit_late",
        "reply_continues",
        "reply_still_ending",
        "outcome_unknown",
    },
}
"""The answers that a caller may get for its own resources."""

FAULTS: Final = (
    "sessions of other modes",
    "kills of service",
    "kills of postgres",
    "freezes of service",
    *ACTS,
    "model faults",
    "cuts",
    "resumes",
)


async def _canaries(observed: Observed, _: Connection) -> Found:
    """No byte has another tenant's canary. Each tenant must have its own canary, as a control."""
    counted, breaches = 0, []
    for tenant, files in observed.received.items():
        seen: Counter[str] = Counter()
        for file in files:
            content = file.read_bytes()
            counted += len(content)
            for owner, canary in observed.canaries.items():
                seen[owner] += content.count(canary.encode())
        breaches += [
            f"{tenant} was sent {times} words of {owner}"
            for owner, times in seen.items()
            if times and owner != tenant
        ]
        if not seen[tenant]:
            breaches.append(f"{tenant} was not sent its own word")
    return Found(counted, breaches)


def _leaked(observed: Observed) -> Observed:
    """A distortion: a tenant received the bytes of another tenant."""
    (tenant, files), (_, foreign), *_ = observed.received.items()
    largest = max(foreign, key=lambda file: Path(file).stat().st_size)
    return replace(observed, received=observed.received | {tenant: [*files, largest]})


async def _strangers(observed: Observed, _: Connection) -> Found:
    asked = {
        (status, code): times
        for (name, status, code), times in observed.answers.items()
        if name == "trespass"
    }
    breaches = [
        f"{times} times {status} {code} for a resource of another tenant"
        for (status, code), times in asked.items()
        if status not in (404, 503)
    ]
    return Found(sum(asked.values()), breaches)


def _let_in(observed: Observed) -> Observed:
    return replace(observed, answers=observed.answers + Counter({("trespass", 200, ""): 1}))


async def _foreseen(observed: Observed, _: Connection) -> Found:
    asked = {
        key: times for key, times in observed.answers.items() if key[0] not in ("trespass", NAME)
    }
    breaches = [
        f"{name} was answered {times} times with {status} {code}"
        for (name, status, code), times in asked.items()
        if code not in FORESEEN.get(status, set())
    ]
    return Found(sum(asked.values()), breaches)


def _broken(observed: Observed) -> Observed:
    return replace(observed, answers=observed.answers + Counter({("getReply", 500, "internal"): 1}))


async def _tried(observed: Observed, _: Connection) -> Found:
    """The faults that the service had to survive did happen."""
    tried = {name: observed.counts[name] for name in FAULTS}
    tried["want of seconds"] = observed.answers["postSessionMessage", 402, "insufficient_balance"]
    return Found(sum(tried.values()), [f"no {name}" for name, times in tried.items() if not times])


def _untried(observed: Observed) -> Observed:
    return replace(observed, counts=Counter[str]())


async def _chained(observed: Observed, _: Connection) -> Found:
    """Each event of a feed names the cursor of the event before it."""
    counted, breaches = 0, []
    for feed in observed.feeds:
        before = None
        for link in feed.links:
            counted += 1
            if link.prev != before:
                breaches.append(f"{feed.tenant}: {link.cursor} comes after {before}")
            before = link.cursor
    return Found(counted, breaches)


async def _complete(observed: Observed, database: Connection) -> Found:
    """Each feed is its tenant's log, from the first event to the last."""
    log = await stored(database)
    breaches = [
        f"{feed.tenant}'s watcher saw {len(feed.links)} events, and not the log's"
        for feed in observed.feeds
        if [link.position for link in feed.links]
        != [each.position for each in log if each.tenant == feed.tenant]
    ]
    return Found(sum(len(feed.links) for feed in observed.feeds), breaches)


def _missed(observed: Observed) -> Observed:
    first, *others = observed.feeds
    return replace(
        observed, feeds=[replace(first, links=first.links[:3] + first.links[4:]), *others]
    )


async def _in_the_timeline(observed: Observed, database: Connection) -> Found:
    """Each message and each reply of a session that is not erased is in the timelines once, but
    the items of private sessions are in none."""
    shown = Counter(observed.items)
    erased = {each.stream for each in await stored(database, SessionDeleted)}
    log = await stored(database, UserMessagePosted, ReplyCompleted, ReplyFailed)
    said, private = set[tuple[str, str]](), set[tuple[str, str]]()
    for each in log:
        item = (each.tenant, getattr(each.event, "message_id", None) or each.event.reply_id)
        if each.stream.startswith(f"session-{PRIVATE_ID}"):
            private.add(item)
        elif each.stream not in erased and not isinstance(each.event, ReplyFailed):
            said.add(item)
    acknowledged = {
        (message.tenant, reply_id) for message in observed.messages for reply_id in message.replies
    }
    breaches = [f"{item} is shown {shown[item]} times" for item in said if shown[item] != 1]
    breaches += [f"{item} is not shown" for item in acknowledged - private if item not in shown]
    breaches += [f"{item} is private, and is shown" for item in private if item in shown]
    return Found(len(said) + len(private), breaches)


def _hidden(observed: Observed) -> Observed:
    acknowledged = {reply_id for message in observed.messages for reply_id in message.replies}
    hidden = next(item for item in observed.items if item[1] in acknowledged)
    return replace(observed, items=[item for item in observed.items if item != hidden])


CHECKS: Final = (
    Check(name="faults of each kind happened", find=_tried, distort=_untried),
    Check(name="received bytes have no other tenant's words", find=_canaries, distort=_leaked),
    Check(name="another tenant's resources look missing", find=_strangers, distort=_let_in),
    Check(name="answers have expected codes", find=_foreseen, distort=_broken),
    Check(name="feeds are chained by prev", find=_chained, distort=_missed),
    Check(name="feeds are the tenants' whole log", find=_complete, distort=_missed),
    Check(
        name="timelines show each message and reply once", find=_in_the_timeline, distort=_hidden
    ),
)
