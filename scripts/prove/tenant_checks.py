"""What each tenant was sent: nothing of another one's, all of its own, and no surprises."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

from domain.events import ReplyCompleted, UserMessagePosted
from scripts.prove.check import Check, Found
from scripts.prove.stored import stored
from scripts.prove.told import Told
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
        "build_ended",
    },
    503: {"overloaded", "unavailable", "outcome_unknown"},
}
"""What may be answered to those who ask for what is theirs."""

TROUBLES: Final = ("kills of service", "kills of postgres", "model faults", "cuts", "resumes")


async def _canaries(told: Told, _: Connection) -> Found:
    """In every byte. Each tenant must have seen its own word, or nothing was looked at."""
    counted, breaches = 0, []
    for tenant, files in told.received.items():
        seen: Counter[str] = Counter()
        for file in files:
            content = file.read_bytes()
            counted += len(content)
            for owner, canary in told.canaries.items():
                seen[owner] += content.count(canary.encode())
        breaches += [
            f"{tenant} was sent {times} words of {owner}"
            for owner, times in seen.items()
            if times and owner != tenant
        ]
        if not seen[tenant]:
            breaches.append(f"{tenant} was not even sent its own word")
    return Found(counted, breaches)


def _leaked(told: Told) -> Told:
    """One tenant was sent what another one was."""
    (tenant, files), (_, foreign), *_ = told.received.items()
    largest = max(foreign, key=lambda file: Path(file).stat().st_size)
    return replace(told, received=told.received | {tenant: [*files, largest]})


async def _strangers(told: Told, _: Connection) -> Found:
    asked = {
        (status, code): times
        for (name, status, code), times in told.answers.items()
        if name == "trespass"
    }
    breaches = [
        f"{times} times {status} {code} for what is another tenant's"
        for (status, code), times in asked.items()
        if status not in (404, 503)
    ]
    return Found(sum(asked.values()), breaches)


def _let_in(told: Told) -> Told:
    return replace(told, answers=told.answers + Counter({("trespass", 200, ""): 1}))


async def _foreseen(told: Told, _: Connection) -> Found:
    asked = {key: times for key, times in told.answers.items() if key[0] != "trespass"}
    breaches = [
        f"{name} was answered {times} times with {status} {code}"
        for (name, status, code), times in asked.items()
        if code not in FORESEEN.get(status, set())
    ]
    return Found(sum(asked.values()), breaches)


def _broken(told: Told) -> Told:
    return replace(told, answers=told.answers + Counter({("getReply", 500, "internal"): 1}))


async def _tried(told: Told, _: Connection) -> Found:
    """What was to be withstood did happen."""
    tried = {name: told.counts[name] for name in TROUBLES}
    tried["want of seconds"] = told.answers["postChatPlan", 402, "insufficient_balance"]
    return Found(sum(tried.values()), [f"no {name}" for name, times in tried.items() if not times])


def _untried(told: Told) -> Told:
    return replace(told, counts=Counter[str]())


async def _chained(told: Told, _: Connection) -> Found:
    """Each event of a feed names the one before it, which is the one that came before."""
    counted, breaches = 0, []
    for feed in told.feeds:
        before = None
        for link in feed.links:
            counted += 1
            if link.prev != before:
                breaches.append(f"{feed.tenant}: {link.cursor} comes after {before}")
            before = link.cursor
    return Found(counted, breaches)


async def _complete(told: Told, database: Connection) -> Found:
    """Each feed is its tenant's log, from the first event to the last."""
    log = await stored(database)
    breaches = [
        f"{feed.tenant}'s watcher saw {len(feed.links)} events, and not those of the log"
        for feed in told.feeds
        if [link.position for link in feed.links]
        != [each.position for each in log if each.tenant == feed.tenant]
    ]
    return Found(sum(len(feed.links) for feed in told.feeds), breaches)


def _missed(told: Told) -> Told:
    first, *others = told.feeds
    return replace(told, feeds=[replace(first, links=first.links[:3] + first.links[4:]), *others])


async def _in_the_timeline(told: Told, database: Connection) -> Found:
    """What was said is shown once to those who read the timelines in the end."""
    shown = Counter(told.items)
    said = {
        (each.tenant, each.event.message_id) for each in await stored(database, UserMessagePosted)
    } | {(each.tenant, each.event.reply_id) for each in await stored(database, ReplyCompleted)}
    acknowledged = {
        (message.tenant, reply_id) for message in told.messages for reply_id in message.replies
    }
    breaches = [f"{item} is shown {shown[item]} times" for item in said if shown[item] != 1]
    breaches += [f"{item} is not shown" for item in acknowledged if item not in shown]
    return Found(len(said), breaches)


def _hidden(told: Told) -> Told:
    acknowledged = {reply_id for message in told.messages for reply_id in message.replies}
    hidden = next(item for item in told.items if item[1] in acknowledged)
    return replace(told, items=[item for item in told.items if item != hidden])


CHECKS: Final = (
    Check(name="there was trouble of each kind", find=_tried, retell=_untried),
    Check(name="bytes hold no other tenant's words", find=_canaries, retell=_leaked),
    Check(name="what is another tenant's is not there", find=_strangers, retell=_let_in),
    Check(name="answers are those that are foreseen", find=_foreseen, retell=_broken),
    Check(name="feeds are chained by prev", find=_chained, retell=_missed),
    Check(name="feeds are the tenants' log, whole", find=_complete, retell=_missed),
    Check(name="timelines show what was said, once", find=_in_the_timeline, retell=_hidden),
)
