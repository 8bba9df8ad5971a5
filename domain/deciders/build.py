"""A build: its order, its worker, the worker's reports, and its one end."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from re import split
from textwrap import shorten
from typing import Final, assert_never

from domain.deciders import account, reports
from domain.deciders.account import Account
from domain.deciders.reports import Seen, Status
from domain.errors import BuildEnded, BuildFull, BuildInProgress, BuildTaken, BuildUnknown
from domain.events import (
    BuildClaimed,
    BuildErased,
    BuildEvent,
    BuildFailed,
    BuildFault,
    BuildOperation,
    BuildProgressed,
    BuildQueued,
    BuildReferenced,
    BuildSucceeded,
    Json,
    Report,
    VersionDeployed,
)
from domain.metering import WORKER, cost_of_build

SUMMARY_CHARACTERS: Final = 120

Decided = tuple[BuildEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What decisions need to know. `seen` are the ids of the reports.

    The user `user_id` pays for the build, by the reservation `reservation_id`. `seconds` and
    `tokens` are what the report of the build's end says that the build used. `code` says why the
    build failed.
    """

    build_id: str = ""
    project_id: str = ""
    session_id: str = ""
    message_id: str = ""
    user_id: str = ""
    operation: BuildOperation | None = None
    reservation_id: str | None = None
    status: Status = "new"
    code: BuildFault | None = None
    worker_id: str | None = None
    is_referenced: bool = False
    seen: Seen = reports.NONE
    seconds: int | None = None
    tokens: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the build has ended. Its end never changes."""
        return reports.has_ended(self)


INITIAL: Final = Build()


def evolve(state: Build, event: BuildEvent) -> Build:
    """The build after one more event."""
    match event:
        case BuildQueued():
            return Build(
                build_id=event.build_id,
                project_id=event.project_id,
                session_id=event.session_id,
                message_id=event.message_id,
                user_id=event.user_id,
                operation=event.operation,
                reservation_id=event.reservation_id,
                status="queued",
            )
        case BuildClaimed():
            return replace(state, status="running", worker_id=event.worker_id)
        case BuildProgressed():
            return _progressed(state, event)
        case BuildReferenced():
            return replace(state, is_referenced=True)
        case BuildSucceeded():
            return replace(state, status="succeeded")
        case BuildFailed():
            return replace(state, status="failed", code=event.code)
        case BuildErased():
            return Build(build_id=state.build_id, project_id=state.project_id, status="erased")
        case VersionDeployed():
            return state
        case _:
            assert_never(event)


def fold(events: Iterable[BuildEvent], state: Build = INITIAL) -> Build:
    """The build after all of `events`."""
    for event in events:
        state = evolve(state, event)
    return state


def queue(
    state: Build,
    *,
    build_id: str,
    project_id: str,
    session_id: str,
    message_id: str,
    user_id: str,
    prompt: str,
    locale: str,
    operation: BuildOperation,
    reservation_id: str,
    plan: Json = None,
    converted_from_session_id: str | None = None,
) -> Decided:
    """Queue a build for a worker. Raises BuildEnded when the id was used before."""
    if state.status != "new":
        raise BuildEnded(status=state.status)
    return (
        BuildQueued(
            build_id=build_id,
            project_id=project_id,
            session_id=session_id,
            message_id=message_id,
            user_id=user_id,
            prompt=prompt,
            locale=locale,
            plan=plan,
            converted_from_session_id=converted_from_session_id,
            operation=operation,
            reservation_id=reservation_id,
        ),
    )


def claim(state: Build, *, worker_id: str) -> Decided:
    """Give the build to a worker. A second claim of the same worker changes nothing.

    Raises BuildUnknown, BuildTaken, BuildEnded.
    """
    _require_known(state)
    if not reports.is_new_claim(state, worker_id, taken=BuildTaken, ended=BuildEnded):
        return ()
    return (BuildClaimed(build_id=state.build_id, worker_id=worker_id),)


def report(state: Build, reported: Sequence[Report], *, reference_id: str) -> Decided:
    """Store what a worker reports, each report once, in any order.

    `reference_id` becomes the id of the timeline's item when development begins with these reports.
    The first end stays the end. Raises BuildUnknown, BuildFull.
    """
    _require_known(state)
    decide = partial(_reported, reference_id=reference_id)
    return reports.each_once(state, reported, decide=decide, fold=fold, full=BuildFull)


def time_out(state: Build, *, error: str) -> Decided:
    """End a build whose worker is silent for too long. A build that has ended does not change."""
    if not reports.is_open(state):
        return ()
    return (BuildFailed(build_id=state.build_id, code="timed_out", error=error),)


def cancel(state: Build) -> Decided:
    """End a build because a member wants it to end. A build that has ended does not change.

    Raises BuildUnknown.
    """
    _require_known(state)
    if state.has_ended:
        return ()
    return (BuildFailed(build_id=state.build_id, code="cancelled", error="Cancelled."),)


def bill(funds: Account, *, ended: Build) -> account.Decided:
    """Settle the reservation of a build that has ended, on the account of its user.

    What the report of the end says is billed, at most what was reserved. Nothing is billed for a
    build without such a report. Decides nothing for a build without a reservation.
    """
    if ended.reservation_id is None or ended.operation is None:
        return ()
    if ended.seconds is None and ended.tokens is None:
        return account.release(
            funds,
            user_id=ended.user_id,
            reservation_id=ended.reservation_id,
            reason=ended.code or "not_reported",
        )
    return account.settle(
        funds,
        user_id=ended.user_id,
        reservation_id=ended.reservation_id,
        project_id=ended.project_id,
        session_id=ended.session_id,
        reply_id=ended.message_id,
        build_id=ended.build_id,
        operation=ended.operation,
        seconds=ended.seconds or 0,
        model=WORKER,
        cost=cost_of_build(ended.tokens),
    )


def erase(state: Build) -> Decided:
    """Erase the build's texts, once. Raises BuildInProgress, as its worker still reports."""
    if not reports.is_known(state):
        return ()
    if not state.has_ended:
        raise BuildInProgress(build_id=state.build_id)
    return (BuildErased(build_id=state.build_id),)


def summary(idea: str) -> str:
    """The first sentence of an idea, on one line, in at most 120 characters."""
    first = split(r"(?<=[.!?؟。])\s|\n", idea.strip(), maxsplit=1)[0]
    return shorten(first.rstrip(".!?؟。"), SUMMARY_CHARACTERS, placeholder="…") or "…"


def order(plan: Json) -> str:
    """The order in words: the plan's build prompt, or else the plan's own description."""
    if "buildPrompt" in plan:
        return str(plan["buildPrompt"])
    if "plan" in plan:
        return f"{plan['summary']}\n\n{plan['plan']['overview']}"
    return f"{plan['issue']['description']}\n\n{plan['solution']['approach']}"


def _reported(state: Build, report: Report, *, reference_id: str) -> Decided:
    """The events of one new report."""
    decided: list[BuildEvent] = [BuildProgressed(build_id=state.build_id, **asdict(report))]
    if (report.phase, report.type) == ("development", "progress") and not state.is_referenced:
        decided.append(
            BuildReferenced(
                build_id=state.build_id,
                session_id=state.session_id,
                message_id=reference_id,
                title=report.title,
            )
        )
    if report.ends and not state.has_ended:
        decided += _end(state, report)
    return tuple(decided)


def _progressed(state: Build, event: BuildProgressed) -> Build:
    """The build after a report. The report that ends the build says what the build used."""
    status: Status = "running" if state.status == "queued" else state.status
    seen = state.seen.with_id(event.event_id)
    if not event.ends or state.has_ended:
        return replace(state, status=status, seen=seen)
    return replace(state, status=status, seen=seen, seconds=event.seconds, tokens=event.tokens)


def _end(state: Build, report: Report) -> Decided:
    if report.type == "failed" or report.version_id is None:
        error = report.error or report.title
        return (BuildFailed(build_id=state.build_id, code="failed", error=error),)
    return (
        BuildSucceeded(build_id=state.build_id, version_id=report.version_id),
        VersionDeployed(
            build_id=state.build_id,
            project_id=state.project_id,
            session_id=state.session_id,
            version_id=report.version_id,
            preview_url=report.preview_url,
            artifact_url=report.artifact_url,
        ),
    )


def _require_known(state: Build) -> None:
    if not reports.is_known(state):
        raise BuildUnknown
