"""Conversations: a user opens a session, asks, reads the reply, asks on, and leaves."""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from math import ceil
from typing import Final, TypeAlias

from domain.deciders import account, place, project, prompt, session
from domain.deciders.account import Account
from domain.deciders.session import About, Session, UsedPrompt
from domain.errors import BalanceInsufficient, BuildInProgress
from domain.events import (
    AccountEvent,
    ChatMode,
    CreditKind,
    Event,
    ReplyCompleted,
    ReplyFailed,
    ReplyMode,
    SessionEvent,
    SessionMode,
    TimeConsumed,
)
from domain.metering import ESTIMATES, Usage, cost_of
from domain.modes import MODES, estimate, operation, session_id
from domain.texts import announcements
from service.cli.demo import words
from service.cli.demo.world import Append, Process, World
from service.eventlog.stream_ids import (
    StreamId,
    account_stream,
    place_stream,
    project_stream,
    prompt_stream,
    session_stream,
)
from service.model.offline.replies import Language

IDLE_SECONDS: Final = 1_800
BOUGHT_SECONDS: Final = 36_000
MODEL: Final = "claude-sonnet-5-5"
MODELS: Final = (MODEL, "claude-haiku-4-5", "claude-opus-4-5")
HINTS: Final[tuple[ChatMode, ...]] = ("question", "feature", "fix", "analysis", "general")
SECONDS: Final[Mapping[ReplyMode, float]] = {
    "question": 5.0,
    "feature": 24.0,
    "fix": 17.0,
    "analysis": 33.0,
    "general": 4.0,
    "improvement": 11.0,
}
"""How long the model usually takes for a reply of each mode."""
FAULTS: Final = ("provider_busy", "provider_failed", "provider_unreachable", "internal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A user in a project, with the user's language."""

    user_id: str
    project_id: str
    language: Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A session of a member."""

    member: Member
    session_id: str
    mode: SessionMode

    @property
    def stream(self) -> StreamId[Session, SessionEvent]:
        """The stream of the session."""
        return session_stream(self.session_id, self.member.project_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A message that was admitted, with its reply to come."""

    talk: Talk
    message_id: str
    reply_id: str
    reservation_id: str
    text: str
    mode: ReplyMode
    model: str


def payer(world: World, member: Member) -> StreamId[Account, AccountEvent]:
    """The stream of the member's account."""
    return account_stream(world.tenant_id, member.user_id, member.project_id)


def opened(
    world: World, append: Append, member: Member, mode: SessionMode, about: About = session.NOTHING
) -> Talk:
    """Open a session in an append, as a message without a session does."""
    talk = Talk(member=member, session_id=session_id(mode, world.new_id()), mode=mode)
    shown = append.state(project_stream(member.project_id)).description.name
    opening = append.decide(
        talk.stream,
        partial(
            session.open_session,
            session_id=talk.session_id,
            project_id=member.project_id,
            user_id=member.user_id,
            mode=mode,
            context=about,
        ),
    )
    announce(world, append, talk, opening, {"project_name": shown})
    if mode == "plan":
        key = place.key(project_id=member.project_id, user_id=member.user_id, mode=mode, context={})
        giving = partial(place.give, session_id=talk.session_id)
        append.decide(place_stream(key, member.project_id), giving)
    return talk


def announce(
    world: World,
    append: Append,
    talk: Talk,
    events: Iterable[Event],
    facts: Mapping[str, str] | None = None,
) -> None:
    """Say in the session what these events mean to its user."""
    saying = partial(announcements.announced, events=events, new_id=world.new_id, facts=facts)
    append.decide(talk.stream, saying)


Talking: TypeAlias = Generator[float, None, Talk]
"""Waits as a process does, and returns the session in the end."""


# A message and its reply -------------------------------------------------------------------------


def ask(
    world: World, member: Member, talk: Talk | None, mode: ReplyMode, *, sort: SessionMode
) -> Generator[float, None, Asked]:
    """Send a message; without a session in a new one. Waits for a build, and buys seconds."""
    text = words.asked(world.random, member.language, mode)
    hint = _hint(mode) if world.random.random() < 0.3 else None
    while True:
        try:
            with world.append() as append:
                here = talk or opened(world, append, member, sort)
                return _admit(world, append, here, text=text, mode=mode, hint=hint)
        except BuildInProgress:
            yield world.random.uniform(240, 900)
        except BalanceInsufficient:
            yield world.random.choice((20.0, 60.0, 90.0, 7_200.0))
            buy(world, member)


def _hint(mode: ReplyMode) -> ChatMode | None:
    return None if mode == "improvement" else mode


def _admit(
    world: World, append: Append, talk: Talk, *, text: str, mode: ReplyMode, hint: ChatMode | None
) -> Asked:
    """Admit a message as the service does: all of it is one append."""
    member, state = talk.member, append.state(talk.stream)
    asked = Asked(
        talk=talk,
        message_id=world.new_id(),
        reply_id=world.new_id(),
        reservation_id=world.new_id(),
        text=text,
        mode=mode,
        model=state.model or MODEL,
    )
    append.decide(
        project_stream(member.project_id),
        partial(
            project.admit_message,
            user_id=member.user_id,
            reply_id=asked.reply_id,
            at=world.now,
            waits_for_builds=MODES[talk.mode].is_locked,
        ),
    )
    append.decide(
        payer(world, member),
        partial(
            account.reserve,
            user_id=member.user_id,
            reservation_id=asked.reservation_id,
            session_id=talk.session_id,
            reply_id=asked.reply_id,
            seconds=estimate(talk.mode, hint),
            at=world.now,
        ),
    )
    append.decide(talk.stream, session.resume)
    append.decide(
        talk.stream,
        partial(
            session.post_message,
            message_id=asked.message_id,
            text=text,
            locale=member.language,
            chat_mode=hint,
        ),
    )
    append.decide(
        talk.stream,
        partial(
            session.start_reply,
            reply_id=asked.reply_id,
            in_reply_to=asked.message_id,
            model=asked.model,
            reservation_id=asked.reservation_id,
            lease_id=1,
        ),
    )
    return asked


def buy(world: World, member: Member) -> None:
    """Buy AI seconds."""
    _credit(world, member, seconds=BOUGHT_SECONDS, kind="paid", reason="order")


def give_bonus(world: World, member: Member, seconds: int) -> None:
    """Give AI seconds for nothing."""
    _credit(world, member, seconds=seconds, kind="bonus", reason="welcome")


def _credit(world: World, member: Member, *, seconds: int, kind: CreditKind, reason: str) -> None:
    stream = account_stream(world.tenant_id, member.user_id)
    with world.append() as append:
        crediting = partial(
            account.credit,
            user_id=member.user_id,
            credit_id=world.new_id(),
            seconds=seconds,
            kind=kind,
            reason=reason,
        )
        append.decide(stream, crediting)


def reply(world: World, asked: Asked) -> Generator[float, None, ReplyCompleted | ReplyFailed]:
    """Let the model write, and settle the reply. A session that expires then does so later."""
    random = world.random
    seconds = SECONDS[asked.mode] * random.lognormvariate(0, 0.4)
    first_text_ms = round(1_000 * min(seconds, random.lognormvariate(0, 0.4)))
    course = _Course(seconds=seconds, first_text_ms=first_text_ms)
    lot = random.random()
    if lot < 0.045:
        yield seconds * random.random()
        return _fail(world, asked, course)
    if seconds > ESTIMATES[asked.mode] / 2:
        yield seconds / 2
        _extend(world, asked)
        seconds /= 2
    reason = None
    if lot < 0.06:
        reason = "cancelled"
        yield seconds / 2
        with world.append() as append:
            cancelling = partial(session.cancel_reply, reply_id=asked.reply_id, reason="cancelled")
            append.decide(asked.talk.stream, cancelling)
    elif lot < 0.07:
        reason = "time_limit"
    yield seconds
    return _complete(world, asked, course, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """How a reply went."""

    seconds: float
    first_text_ms: int


def _extend(world: World, asked: Asked) -> None:
    """Reserve more seconds for a reply that takes long."""
    with world.append() as append:
        extending = partial(
            account.extend,
            user_id=asked.talk.member.user_id,
            reservation_id=asked.reservation_id,
            session_id=asked.talk.session_id,
            reply_id=asked.reply_id,
            seconds=estimate(asked.talk.mode, asked.mode),
        )
        append.decide(payer(world, asked.talk.member), extending)


def _fail(world: World, asked: Asked, course: _Course) -> ReplyFailed:
    code = world.random.choice(FAULTS)
    failed = ReplyFailed(
        session_id=asked.talk.session_id,
        reply_id=asked.reply_id,
        in_reply_to=asked.message_id,
        code=code,
        duration_ms=round(1_000 * course.seconds) + 400,
        mode=world.random.choice((None, asked.mode)),
        locale=asked.talk.member.language,
        frames=world.random.randint(1, 4),
        retries=world.random.randint(0, 2),
    )
    releasing = partial(
        account.release,
        user_id=asked.talk.member.user_id,
        reservation_id=asked.reservation_id,
        reason=code,
    )
    with world.append() as append:
        append.decide(payer(world, asked.talk.member), releasing)
        append.decide(asked.talk.stream, partial(session.fail_reply, end=failed))
    return failed


def _complete(world: World, asked: Asked, course: _Course, reason: str | None) -> ReplyCompleted:
    talk, usage = asked.talk, _usage(world, asked)
    data = words.answered(talk.member.language, asked.mode, asked.text)
    if not MODES[talk.mode].contracts:
        data = {"markdown": words.answered(talk.member.language, "general", asked.text)["markdown"]}
    with world.append() as append:
        consumed = append.decide(
            payer(world, talk.member),
            partial(
                account.settle,
                user_id=talk.member.user_id,
                reservation_id=asked.reservation_id,
                project_id=talk.member.project_id,
                session_id=talk.session_id,
                reply_id=asked.reply_id,
                operation=operation(talk.mode, asked.mode),
                seconds=ceil(course.seconds),
                model=asked.model,
                cost=cost_of(asked.model, usage),
            ),
        )
        completed = ReplyCompleted(
            session_id=talk.session_id,
            reply_id=asked.reply_id,
            in_reply_to=asked.message_id,
            subtype="success" if reason is None else "partial",
            mode=asked.mode,
            data=data,
            duration_ms=round(1_000 * course.seconds) + world.random.randint(200, 900),
            billed_seconds=sum(e.seconds for e in consumed if isinstance(e, TimeConsumed)),
            model=asked.model,
            reason=reason,
            tokens_used=usage.total,
            cache_hits=usage.cache_read_tokens,
            frames=world.random.randint(8, 60),
            locale=talk.member.language,
            first_text_ms=course.first_text_ms,
            resets=int(world.random.random() < 0.01),
            retries=int(world.random.random() < 0.03),
        )
        ended = append.decide(talk.stream, partial(session.complete_reply, end=completed))
        announce(world, append, talk, ended)
    return completed


def _usage(world: World, asked: Asked) -> Usage:
    """The tokens of a reply. The longer the talk, the more of its input is in the cache."""
    random, said = world.random, world.state(asked.talk.stream).message_count
    if random.random() < 0.01:
        return Usage()
    return Usage(
        input_tokens=random.randint(150, 900),
        output_tokens=round(SECONDS[asked.mode] * random.uniform(30, 60)),
        cache_read_tokens=min(said, 12) * random.randint(200, 500),
        cache_write_tokens=random.randint(0, 600),
    )


# The life of a session ---------------------------------------------------------------------------


def expire_later(world: World, talk: Talk) -> None:
    """Let the session expire unless somebody speaks in it."""
    if MODES[talk.mode].expires:
        said = world.state(talk.stream).message_count
        later = world.now + timedelta(seconds=IDLE_SECONDS)
        world.start(_expire(world, talk, said), later)


def _expire(world: World, talk: Talk, said: int) -> Process:
    """End the session where no message has come since it had so many."""
    if world.state(talk.stream).message_count == said:
        with world.append() as append:
            append.decide(talk.stream, session.expire)
    yield from ()


def exchange(world: World, member: Member, talk: Talk | None, *, sort: SessionMode) -> Talking:
    """Send a message and wait for the reply; returns the session, which is new where the former
    one takes no more messages."""
    if talk is not None and not session.takes_messages(world.state(talk.stream)):
        talk = None
    mode = _mode_of(world, sort)
    asked = yield from ask(world, member, talk, mode, sort=sort)
    yield from reply(world, asked)
    expire_later(world, asked.talk)
    return asked.talk


def _mode_of(world: World, sort: SessionMode) -> ReplyMode:
    if sort == "prompt":
        return "general"
    if MODES[sort].contracts == ("improvement",):
        return "improvement"
    return world.random.choices(HINTS, (25, 30, 18, 7, 20))[0]


def tend(world: World, talk: Talk) -> None:
    """Now and then the user names a session, marks it, or keeps and shares its plan."""
    random, state = world.random, world.state(talk.stream)
    details = state.details
    if random.random() < 0.12:
        details = replace(details, name=words.asked(random, talk.member.language, "general")[:60])
    if random.random() < 0.06:
        details = replace(details, is_starred=True)
    if random.random() < 0.05:
        details = replace(details, tags=(random.choice(words.TAGS),))
    if random.random() < 0.03:
        details = replace(details, is_archived=True)
    with world.append() as append:
        changing = partial(session.change, details=details, revisions=None)
        append.decide(talk.stream, changing)
        for reply_id in state.plans:
            _keep_plan(world, append, talk, reply_id)


def _keep_plan(world: World, append: Append, talk: Talk, reply_id: str) -> None:
    user_id = talk.member.user_id
    if world.random.random() < 0.15:
        append.decide(talk.stream, partial(session.save_plan, reply_id=reply_id, user_id=user_id))
    if world.random.random() < 0.03:
        sharing = partial(
            session.share_plan,
            reply_id=reply_id,
            share_id=world.new_id(),
            user_id=user_id,
            token_digest=sha256(world.new_id().encode()).hexdigest(),
            expires_at=world.now + timedelta(days=30),
        )
        append.decide(talk.stream, sharing)


# Saved runs of a prompt --------------------------------------------------------------------------


def open_saved_run(world: World, member: Member, prompt_id: str) -> Talk:
    """Open a session that is made of the newest version of a prompt."""
    state = world.state(prompt_stream(prompt_id))
    version_id = prompt.version_id(prompt_id, state.versions)
    used = UsedPrompt(
        prompt_id=prompt_id,
        prompt_version_id=version_id,
        number=state.versions,
        answers={"product": words.PRODUCT},
    )
    about = About(prompt_id=prompt_id, prompt_version_id=version_id)
    model = world.random.choice((None, None, *MODELS))
    with world.append() as append:
        talk = opened(world, append, member, "prompt", about)
        instructing = partial(
            session.instruct,
            instructions=f"Write about {words.PRODUCT}.",
            model=model,
            prompt=used,
        )
        append.decide(talk.stream, instructing)
    return talk
