"""Runs of engines with their steps and candidates, and prompts that get better by them."""

from collections.abc import Callable, Generator
from functools import partial
from typing import Final

from domain.deciders import prompt, run, session
from domain.deciders.prompt import Source
from domain.deciders.run import Run
from domain.deciders.session import About
from domain.events import RunReportType
from service.cli.demo import talks, words
from service.cli.demo.talks import Member, Talk
from service.cli.demo.world import World
from service.eventlog.stream_ids import prompt_stream, run_stream

ENGINES: Final = ("engine-1", "engine-2")
SILENT_SECONDS: Final = 1_800


# Runs --------------------------------------------------------------------------------------------


def run_engine(
    world: World, member: Member, prompt_version_id: str | None
) -> Generator[float, None, str]:
    """A member asks for a run, and an engine does it; returns the id of the run."""
    random, run_id = world.random, world.new_id()
    title = f"Compare texts about {random.choice(words.THINGS['en'])}"
    queueing = partial(
        run.queue,
        run_id=run_id,
        project_id=member.project_id,
        user_id=member.user_id,
        title=title,
        prompt_version_id=prompt_version_id,
        given={"candidates": list(words.CANDIDATES)},
    )
    _decide(world, member, run_id, queueing)
    yield random.lognormvariate(2.5, 1)
    lot = random.random()
    if lot > 0.97:
        _decide(world, member, run_id, run.cancel)
        return run_id
    _decide(world, member, run_id, partial(run.claim, worker_id=random.choice(ENGINES)))
    for n, name in enumerate(words.CANDIDATES[: random.randint(2, 4)], 1):
        yield random.lognormvariate(3.5, 0.5)
        _report_candidate(world, member, run_id, n, name)
    if lot > 0.94:
        yield SILENT_SECONDS
        _decide(world, member, run_id, partial(run.time_out, error="No report for 30 minutes."))
        return run_id
    kind: RunReportType = "failed" if lot > 0.86 else "succeeded"
    ending = run.Report(
        event_id=world.new_id(),
        type=kind,
        title="The comparison has ended",
        at=world.now.isoformat(),
        summary="The shorter text is better." if kind == "succeeded" else None,
        error=None if kind == "succeeded" else "The engine has no memory left.",
        seconds=random.randint(20, 200),
        tokens=random.randint(2_000, 30_000),
    )
    _decide(world, member, run_id, partial(run.report, reported=[ending]))
    return run_id


def _report_candidate(world: World, member: Member, run_id: str, n: int, name: str) -> None:
    at = world.now.isoformat()
    step = run.Report(
        event_id=world.new_id(),
        type="step",
        title=f"Write: {name}",
        at=at,
        step_id=f"s{n}",
        prompt=f"Write it {name}.",
        output=f"A text, {name}.",
    )
    scores = {"overall": round(world.random.uniform(0.2, 1), 3)}
    candidate = run.Report(
        event_id=world.new_id(),
        type="candidate",
        title=name,
        at=at,
        candidate_id=f"c{n}",
        scores=scores,
    )
    _decide(world, member, run_id, partial(run.report, reported=[step, candidate]))


def _decide(
    world: World, member: Member, run_id: str, decision: Callable[[Run], run.Decided]
) -> None:
    with world.append() as append:
        append.decide(run_stream(run_id, member.project_id), decision)


def discuss(world: World, member: Member, run_id: str) -> Talk:
    """Open a session about a run. It begins with what came of the run."""
    kind, message_id = "run_results", world.new_id()
    with world.append() as append:
        talk = talks.opened(world, append, member, "run_feedback", About(run_id=run_id))
        noting = partial(
            run.give_material, session_id=talk.session_id, message_id=message_id, kind=kind
        )
        if append.decide(run_stream(run_id, member.project_id), noting):
            text = f"Run {run_id}: the shorter text is better."
            giving = partial(session.give_material, message_id=message_id, kind=kind, text=text)
            append.decide(talk.stream, giving)
    return talk


# Prompts -----------------------------------------------------------------------------------------


def create_prompt(world: World, member: Member) -> str:
    """Create a prompt with its first version; returns its id."""
    name, text = world.random.choice(words.PROMPTS)
    prompt_id = world.new_id()
    stream = prompt_stream(prompt_id, member.project_id)
    with world.append() as append:
        creating = partial(
            prompt.create,
            prompt_id=prompt_id,
            project_id=member.project_id,
            user_id=member.user_id,
            name=name,
        )
        append.decide(stream, creating)
        adding = partial(prompt.add_version, user_id=member.user_id, text=text)
        append.decide(stream, adding)
    return prompt_id


def accept_improvements(world: World, talk: Talk, prompt_id: str) -> None:
    """Now and then the improved prompt in a reply becomes the next version of a prompt."""
    for reply_id in sorted(world.state(talk.stream).improvements):
        if world.random.random() < 0.3:
            _accept(world, talk, prompt_id, reply_id)


def _accept(world: World, talk: Talk, prompt_id: str, reply_id: str) -> None:
    stream = prompt_stream(prompt_id, talk.member.project_id)
    user_id = talk.member.user_id
    source = Source(session_id=talk.session_id, message_id=reply_id)
    adding = partial(
        prompt.add_version, user_id=user_id, text=words.IMPROVED, note="improved", source=source
    )
    with world.append() as append:
        append.decide(stream, adding)
        version_id = prompt.version_id(prompt_id, append.state(stream).versions)
        accepting = partial(
            session.accept_improvement,
            reply_id=reply_id,
            user_id=user_id,
            prompt_id=prompt_id,
            prompt_version_id=version_id,
        )
        append.decide(talk.stream, accepting)
