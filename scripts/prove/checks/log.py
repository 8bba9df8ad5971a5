"""Checks that nothing acknowledged is lost and nothing is done twice, against the log."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from domain.events import (
    BuildFailed,
    BuildProgressed,
    BuildQueued,
    BuildSucceeded,
    ProjectLocked,
    ProjectUnlocked,
    ReplyStarted,
    RequestCompleted,
    RunCandidateReported,
    RunFailed,
    RunProgressed,
    RunStepReported,
    RunSucceeded,
    SessionConverted,
    TimeCredited,
    UserMessagePosted,
)
from scripts.prove.check import Check, Found, doubled_first, restated_first, without_first
from scripts.prove.observed import Message, Observed, Reported
from scripts.prove.stored import stored
from service.postgres.connections import Connection


async def _positions(_: Observed, database: Connection) -> Found:
    log = await stored(database)
    breaches = [
        f"position {each.position} in place of {place}"
        for place, each in enumerate(log, 1)
        if each.position != place
    ]
    return Found(len(log), breaches)


async def _versions(_: Observed, database: Connection) -> Found:
    known: dict[tuple[str, str], int] = {}
    breaches: list[str] = []
    for each in await stored(database):
        before = known.get((each.tenant, each.stream), 0)
        if each.version != before + 1:
            breaches.append(f"{each.stream} steps from {before} to {each.version}")
        known[each.tenant, each.stream] = each.version
    return Found(len(known), breaches)


async def _messages(observed: Observed, database: Connection) -> Found:
    """Each acknowledged reply has its message in the log, word for word, at the given position."""
    posted = {
        (each.tenant, each.event.message_id): each
        for each in await stored(database, UserMessagePosted)
    }
    asked = {
        (each.tenant, each.event.reply_id): each.event.in_reply_to
        for each in await stored(database, ReplyStarted)
    }
    breaches: list[str] = []
    acknowledged = [each for each in observed.messages if each.replies]
    for message in acknowledged:
        for reply_id in message.replies:
            found = posted.get((message.tenant, asked.get((message.tenant, reply_id), "")))
            if found is None or found.event.text != message.text:
                breaches.append(f"{message.key}: acknowledged, but not in the log")
            elif message.positions != {found.append}:
                breaches.append(
                    f"{message.key}: acknowledged at {message.positions}, stored elsewhere"
                )
    return Found(len(acknowledged), breaches)


async def _once(observed: Observed, database: Connection) -> Found:
    """Each key made one message; none where all tries were refused."""
    texts = Counter(
        (each.tenant, each.event.text)
        for each in await stored(database, UserMessagePosted)
        if each.event.mode == "plan"
    )
    breaches = [
        f"{message.key}: {texts[message.tenant, message.text]} messages, replies {message.replies}"
        for message in observed.messages
        if not _is_once(message, texts[message.tenant, message.text])
    ]
    return Found(len(observed.messages), breaches)


def _is_once(message: Message, messages: int) -> bool:
    if message.replies:
        return messages == 1 and len(message.replies) == 1
    return messages == 0 if message.refusal else messages <= 1


async def _keys(observed: Observed, database: Connection) -> Found:
    done = Counter(
        (each.tenant, each.event.key) for each in await stored(database, RequestCompleted)
    )
    breaches = [f"{key} was done {times} times" for key, times in done.items() if times != 1]
    breaches += [
        f"{message.key} was done, but has no RequestCompleted"
        for message in observed.messages
        if message.replies and not done[message.tenant, message.key]
    ]
    return Found(len(done), breaches)


async def _answered(observed: Observed, _: Connection) -> Found:
    breaches = [
        f"{each.key} was never answered" for each in observed.messages if not each.is_answered
    ]
    return Found(len(observed.messages), breaches)


def _unanswered(observed: Observed) -> Observed:
    first, *others = observed.messages
    return replace(observed, messages=[replace(first, is_answered=False), *others])


async def _credits(observed: Observed, database: Connection) -> Found:
    given = Counter(
        (each.tenant, each.append, each.event.user_id, each.event.reason, each.event.seconds)
        for each in await stored(database, TimeCredited)
    )
    reasons = Counter((tenant, reason) for tenant, _, _, reason, _ in given.elements())
    breaches = [
        f"{each} is in the log {reasons[each.tenant, each.reason]} times"
        for each in observed.credits
        if given[each.tenant, each.position, each.user_id, each.reason, each.seconds] != 1
        or reasons[each.tenant, each.reason] != 1
    ]
    return Found(len(observed.credits), breaches)


async def _builds(observed: Observed, database: Connection) -> Found:
    queued = _counted(
        (each.tenant, each.event.build_id) for each in await stored(database, BuildQueued)
    )
    converted = _counted(
        (each.tenant, each.event.session_id, each.event.build_id)
        for each in await stored(database, SessionConverted)
    )
    breaches = [
        f"{each} is in the log {queued[each.tenant, each.build_id]} times"
        for each in observed.builds
        if queued[each.tenant, each.build_id] != 1
        or converted[each.tenant, each.session_id, each.build_id] != 1
    ]
    return Found(len(observed.builds), breaches)


async def _build_reports(observed: Observed, database: Connection) -> Found:
    known = _counted(
        (each.tenant, each.event.build_id, each.event.event_id)
        for each in await stored(database, BuildProgressed)
    )
    return _reports([each for each in observed.reports if each.work == "build"], known)


async def _run_reports(observed: Observed, database: Connection) -> Found:
    kinds = (RunProgressed, RunStepReported, RunCandidateReported, RunSucceeded, RunFailed)
    known = _counted(
        (each.tenant, each.event.run_id, each.event.event_id)
        for each in await stored(database, *kinds)
    )
    return _reports([each for each in observed.reports if each.work == "run"], known)


def _reports(reports: list[Reported], known: Counter[tuple[str, ...]]) -> Found:
    breaches = [
        f"{each} is in the log {known[each.tenant, each.work_id, each.event_id]} times"
        for each in reports
        if known[each.tenant, each.work_id, each.event_id] != 1
    ]
    return Found(len(reports), breaches)


async def _freed(_: Observed, database: Connection) -> Found:
    """Every build has ended, and no project is locked."""
    log = await stored(database, ProjectLocked, ProjectUnlocked, BuildSucceeded, BuildFailed)
    found = {
        kind: _counted((each.tenant, each.event.build_id) for each in log if each.type in kinds)
        for kind, kinds in {
            "locked": {"ProjectLocked"},
            "unlocked": {"ProjectUnlocked"},
            "ended": {"BuildSucceeded", "BuildFailed"},
        }.items()
    }
    breaches = [
        f"build {build}: ended {found['ended'][build]} times, "
        f"its project was unlocked {found['unlocked'][build]} times"
        for build in found["locked"]
        if (found["ended"][build], found["unlocked"][build]) != (1, 1)
    ]
    return Found(len(found["locked"]), breaches)


def _counted(things: Iterable[tuple[str, ...]]) -> Counter[tuple[str, ...]]:
    return Counter(things)


CHECKS: Final = (
    Check(
        name="positions are 1 to the head without a gap",
        find=_positions,
        damage=without_first(UserMessagePosted),
    ),
    Check(
        name="versions of each stream are without a gap",
        find=_versions,
        damage=doubled_first(UserMessagePosted),
    ),
    Check(name="messages were answered", find=_answered, distort=_unanswered),
    Check(
        name="acknowledged messages are in the log word for word",
        find=_messages,
        damage=without_first(UserMessagePosted),
    ),
    Check(
        name="an Idempotency-Key made one message, a refused one none",
        find=_once,
        damage=doubled_first(UserMessagePosted),
    ),
    Check(
        name="named requests were done once",
        find=_keys,
        damage=doubled_first(RequestCompleted),
    ),
    Check(
        name="acknowledged credits are in the log once",
        find=_credits,
        damage=doubled_first(TimeCredited),
    ),
    Check(
        name="acknowledged builds are in the log once",
        find=_builds,
        damage=without_first(BuildQueued),
    ),
    Check(
        name="acknowledged reports of builds are in the log once",
        find=_build_reports,
        damage=restated_first(BuildProgressed, "event_id", '"another"'),
    ),
    Check(
        name="acknowledged reports of runs are in the log once",
        find=_run_reports,
        damage=restated_first(RunStepReported, "event_id", '"another"'),
    ),
    Check(
        name="builds ended once, and their projects are free again",
        find=_freed,
        damage=without_first(ProjectUnlocked),
    ),
)
