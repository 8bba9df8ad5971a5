"""Builds of plans and ideas, by workers."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, Final

from domain.deciders import account, build, project, session
from domain.deciders.build import Build
from domain.errors import BalanceInsufficient, BuildInProgress
from domain.events import BuildOperation, BuildPhase, Event, Report, ReportType
from domain.metering import BUILD_ESTIMATES
from service.cli.demo import talks
from service.cli.demo.talks import Member, Talk
from service.cli.demo.world import Append, Process, World
from service.eventlog.stream_ids import build_stream, project_stream

SILENT_SECONDS: Final = 1_800
WORKERS: Final = ("worker-1", "worker-2", "worker-3")
PHASES: Final[tuple[tuple[BuildPhase, ReportType, str], ...]] = (
    ("setup", "completed", "The workspace is ready"),
    ("development", "progress", "Writing the code"),
    ("dependencies", "completed", "The packages are installed"),
    ("build", "completed", "The tests pass"),
)


def begin_project(world: World, member: Member, *, idea: str) -> Process:
    """The first build of a project, from an idea."""
    with world.append() as append:
        talk = talks.opened(world, append, member, "build")
        build_id, message_id = world.new_id(), world.new_id()
        asking = partial(
            session.request_build,
            build_id=build_id,
            message_id=message_id,
            text=idea,
            locale=member.language,
        )
        append.decide(talk.stream, asking)
        queued = _queue(
            append, world, talk, "main_build", build_id=build_id, message_id=message_id, prompt=idea
        )
        facts = {"business_idea_summary": build.summary(idea)}
        talks.announce(world, append, talk, queued, facts)
    yield from _work(world, talk, build_id)
    talks.expire_later(world, talk)


def convert(world: World, talk: Talk, *, tries: int = 2) -> Process:
    """Turn the last plan of a session into a build; again where the build failed."""
    failed_id = None
    for _ in range(tries):
        state = world.state(talk.stream)
        if not state.plans or state.status == "archived":
            return
        build_id = yield from _order(world, talk, failed_id)
        yield from _work(world, talk, build_id)
        if world.state(build_stream(build_id)).status == "succeeded":
            return
        failed_id = build_id
        yield world.random.uniform(60, 1_200)


def _order(world: World, talk: Talk, failed_id: str | None) -> Generator[float, None, str]:
    """Order a build of the session's last plan, after the build that runs; returns its id."""
    while True:
        plan = world.state(talk.stream).plan
        build_id, message_id = world.new_id(), world.new_id()
        try:
            with world.append() as append:
                converting = partial(
                    session.convert,
                    build_id=build_id,
                    message_id=message_id,
                    user_id=talk.member.user_id,
                    plan=plan,
                    prompt=build.order(plan),
                    locale=talk.member.language,
                    failed_build_id=failed_id,
                )
                converted = append.decide(talk.stream, converting)
                queued = _queue(
                    *(append, world, talk, "update"),
                    build_id=build_id,
                    message_id=message_id,
                    prompt=build.order(plan),
                    plan=plan,
                    converted_from_session_id=talk.session_id,
                )
                talks.announce(world, append, talk, (*converted, *queued))
            return build_id
        except BuildInProgress:
            yield world.random.uniform(240, 900)
        except BalanceInsufficient:
            yield 60
            talks.buy(world, talk.member)


def _queue(
    append: Append,
    world: World,
    talk: Talk,
    operation: BuildOperation,
    *,
    build_id: str,
    message_id: str,
    **asked: Any,
) -> Sequence[Event]:
    """Queue a build, lock its project, and reserve its seconds, as the service does."""
    member = talk.member
    queueing = partial(
        build.queue,
        build_id=build_id,
        project_id=member.project_id,
        session_id=talk.session_id,
        message_id=message_id,
        user_id=member.user_id,
        locale=member.language,
        operation=operation,
        reservation_id=build_id,
        **asked,
    )
    reserving = partial(
        account.reserve,
        user_id=member.user_id,
        reservation_id=build_id,
        session_id=talk.session_id,
        reply_id=message_id,
        build_id=build_id,
        seconds=BUILD_ESTIMATES[operation],
    )
    queued = append.decide(build_stream(build_id, member.project_id), queueing)
    append.decide(project_stream(member.project_id), partial(project.lock, build_id=build_id))
    append.decide(talks.payer(world, member), reserving)
    return queued


def _work(world: World, talk: Talk, build_id: str) -> Process:
    """A worker builds: mostly it succeeds, sometimes it fails, is cancelled, or falls silent."""
    random = world.random
    lot, began = random.random(), world.now
    last = len(PHASES) if lot < 0.92 else random.randint(1, len(PHASES))
    yield random.lognormvariate(2, 0.8)
    claiming = partial(build.claim, worker_id=random.choice(WORKERS))
    _decide_build(world, talk, build_id, claiming)
    for phase, kind, title in PHASES[:last]:
        yield random.lognormvariate(4, 0.6)
        _report(world, talk, build_id, phase=phase, kind=kind, title=title)
    if 0.96 <= lot < 0.98:
        _decide_build(world, talk, build_id, build.cancel)
        return
    if lot >= 0.98:
        yield SILENT_SECONDS
        error = f"Nothing was heard of the build for {SILENT_SECONDS:g} seconds."
        timing_out = partial(build.time_out, error=error)
        _decide_build(world, talk, build_id, timing_out, {"minutes": f"{SILENT_SECONDS // 60}"})
        return
    yield random.lognormvariate(3, 0.6)
    used = {
        "seconds": round((world.now - began).total_seconds() * random.uniform(0.3, 0.7)),
        "tokens": random.choice((None, random.randint(20_000, 400_000))),
    }
    if lot < 0.86:
        version_id = f"v{world.now:%Y%m%d%H%M}"
        preview_url = f"https://{talk.member.project_id}.example/{version_id}"
        ending = {"version_id": version_id, "preview_url": preview_url, **used}
        _report(world, talk, build_id, phase="deploy", kind="completed", title="Live", **ending)
    else:
        error = random.choice(("A test fails", "A package is missing", "The disk is full"))
        ending = {"error": error, **used}
        _report(world, talk, build_id, phase="build", kind="failed", title="Failed", **ending)


def _report(
    world: World,
    talk: Talk,
    build_id: str,
    *,
    phase: BuildPhase,
    kind: ReportType,
    title: str,
    **more: Any,
) -> None:
    report = Report(
        event_id=world.new_id(),
        phase=phase,
        type=kind,
        title=title,
        at=world.now.isoformat(),
        **more,
    )
    reporting = partial(build.report, reported=[report], reference_id=world.new_id())
    _decide_build(world, talk, build_id, reporting)


def _decide_build(
    world: World,
    talk: Talk,
    build_id: str,
    decision: Callable[[Build], build.Decided],
    facts: dict[str, str] | None = None,
) -> None:
    """Decide on a build. Its end unlocks the project, is billed, and is said in the session."""
    stream = build_stream(build_id, talk.member.project_id)
    before = world.state(stream)
    with world.append() as append:
        decided = append.decide(stream, decision)
        after = append.state(stream)
        if after.has_ended and not before.has_ended:
            unlocking = partial(project.unlock, build_id=build_id)
            append.decide(project_stream(talk.member.project_id), unlocking)
            append.decide(talks.payer(world, talk.member), partial(build.bill, ended=after))
            talks.announce(world, append, talk, decided, facts)
