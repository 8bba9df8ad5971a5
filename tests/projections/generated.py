"""Logs as life would write them: every event comes out of a real decider, by a seeded choice.

Both tenants use the same ids for their users, projects, sessions and reservations, so whatever
forgets the tenant mixes them up.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from random import Random
from typing import Any, Final, TypeVar, get_args

from psycopg import sql as compose
from psycopg.rows import dict_row

from domain.deciders import account, build, project, prompt, run, session
from domain.deciders.build import Build
from domain.deciders.run import Run
from domain.errors import Refused
from domain.events import (
    BuildPhase,
    ChatMode,
    CreditKind,
    Event,
    ReplyCompleted,
    ReplyFailed,
    Report,
    ReportType,
    Role,
    RunReportType,
    SessionMode,
)
from domain.metering import BUILD_ESTIMATES, ESTIMATES, OPERATIONS, Usage, cost_of
from domain.modes import MODES as MODES_OF
from domain.modes import session_id
from projections import PROJECTIONS
from projections.projection import Connection, catch_up_one
from service.eventlog.live import LiveLog
from service.eventlog.store import EventStore, NewEvent, Recorded
from service.eventlog.stream_ids import (
    AnyStream,
    StreamId,
    account_stream,
    build_stream,
    project_stream,
    prompt_stream,
    run_stream,
    session_stream,
)
from service.eventlog.transactions import encode
from service.eventlog.writer import Writer
from service.postgres import connections
from tests.projections.fold import Row, key_of

IN_BACKGROUND: Final = {each.name for each in PROJECTIONS if not each.is_inline}
"""The read models that appends leave to the background."""

TENANTS: Final = ("t1", "t2")
USERS: Final = ("ann", "bob", "عمر", "d'Arc\\")
PROJECTS: Final = ("shop", "blog", "p-3")
MODES: Final = get_args(ChatMode)
ROLES: Final[tuple[Role, ...]] = ("owner", "editor", "viewer")
KINDS: Final[tuple[CreditKind, ...]] = ("paid", "bonus")
PHASES: Final[tuple[BuildPhase, ...]] = get_args(BuildPhase)
RUN_REPORTS: Final[tuple[RunReportType, ...]] = get_args(RunReportType)
REPORT_TYPES: Final[tuple[ReportType, ...]] = get_args(ReportType)
SESSION_MODES: Final[tuple[SessionMode, ...]] = get_args(SessionMode)
FAMILIES: Final[Mapping[str, list[SessionMode]]] = {
    family: [name for name, mode in MODES_OF.items() if mode.family == family]
    for family in {mode.family for mode in MODES_OF.values()}
}
ROLES_OF_APPENDED: Final[tuple[session.AppendedRole, ...]] = ("user", "assistant")
CONTEXTS: Final = (
    session.NOTHING,
    session.About(run_id="r1", step_id="s1", candidate_id="c1"),
    session.About(prompt_id="p1", prompt_version_id="pv1", version_id="v1", build_id="b1"),
)
USED: Final = (
    session.UsedPrompt(prompt_id="q1", prompt_version_id="q1.1", number=1, answers={"a": "ب"}),
    session.UsedPrompt(prompt_id="q1", prompt_version_id="q1.2", number=2),
)
MODELS: Final = ("claude-opus-4", "claude-haiku-4-5", "offline", "unheard-of")
TEXTS: Final = (
    "",
    "Why is the login slow?",
    'He said "no", \\ and \n left\t.',
    "مرحبا بالعالم",
    "naïve 👩‍💻 \u2028 \U0010ffff",
    "'; drop table app.timeline; --",
    "null",
    "x" * 3_000,
)
DATA: Final[tuple[Any, ...]] = (
    {"markdown": "Hello"},
    {"answer": "So", "references": [{"file": "a.py", "line": 3, "snippet": "x = '\"'"}]},
    {"metrics": [{"name": "n", "value": 0.1}, {"name": "m", "value": -1.5e-7}], "findings": []},
    {"deep": [[[[{}]]]], "nothing": None, "yes": True, "big": 2**53, "": "empty key"},
)

PLANS: Final[Mapping[ChatMode, Any]] = {
    "feature": {"summary": "A login", "plan": {"overview": "Do it", "steps": []}},
    "fix": {"issue": {"description": "Broken"}, "solution": {"approach": "Mend it"}},
}
"""What the deciders read of a plan."""

S = TypeVar("S")
E = TypeVar("E", bound=Event)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Talk:
    """Where a session is found: its tenant, project and user."""

    tenant_id: str
    project_id: str
    user_id: str
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """A reply that runs."""

    talk: _Talk
    reply_id: str
    in_reply_to: str
    reservation_id: str
    model: str
    mode: ChatMode


class World:
    """What has happened so far, and what may happen next."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._streams: dict[tuple[str, str], tuple[Any, int]] = {}
        self._numbers = {tenant: count(1) for tenant in TENANTS}
        self._talks: list[_Talk] = []
        self._running: list[_Reply] = []
        self._builds: list[tuple[str, str, str]] = []
        self._runs: list[tuple[str, str, str]] = []
        self._prompts: list[tuple[str, str, str]] = []
        self._actions: Mapping[Callable[[_Append], None], int] = {
            self._register: 2,
            self._describe: 2,
            self._add_member: 3,
            self._remove_member: 2,
            self._credit: 5,
            self._ask: 22,
            self._extend: 5,
            self._take_over: 3,
            self._cancel: 2,
            self._complete: 15,
            self._fail: 4,
            self._speak: 3,
            self._append: 4,
            self._give_material: 1,
            self._change: 6,
            self._instruct: 1,
            self._fork: 3,
            self._convert: 5,
            self._save_plan: 12,
            self._share_plan: 4,
            self._revoke_share: 1,
            self._begin_build: 12,
            self._claim: 6,
            self._report: 36,
            self._time_out: 1,
            self._cancel_build: 1,
            self._queue_run: 4,
            self._claim_run: 2,
            self._report_run: 7,
            self._end_run: 1,
            self._discuss: 6,
            self._erase_run: 1,
            self._archive: 1,
            self._restore: 3,
            self._expire: 3,
            self._delete: 2,
            self._close_project: 1,
            self._erase_project: 4,
            self._create_prompt: 3,
            self._add_version: 5,
            self._change_prompt: 4,
            self._close_prompt: 1,
            self._erase_prompt: 2,
        }

    def appends(self, events: int) -> list[tuple[NewEvent, ...]]:
        """The next appends, of at least so many events together."""
        made: list[tuple[NewEvent, ...]] = []
        actions, weights = list(self._actions), list(self._actions.values())
        while sum(map(len, made)) < events:
            (action,) = self._random.choices(actions, weights)
            append = _Append(self._streams, self._random.choice(TENANTS))
            try:
                action(append)
            except Refused:
                continue
            if append.events:
                self._streams |= append.streams
                made.append(tuple(append.events))
        return made

    def _one(self, values: Sequence[T]) -> T:
        return self._random.choice(values)

    def _id(self, prefix: str, append: "_Append") -> str:
        return f"{prefix}{next(self._numbers[append.tenant_id])}"

    # Projects and accounts -----------------------------------------------------------------------

    def _register(self, append: "_Append") -> None:
        project_id = self._one(PROJECTS)
        members: dict[str, Role] = {USERS[0]: "owner"}
        members |= {user: self._one(ROLES) for user in self._random.sample(USERS[1:], 2)}
        append.decide(
            project_stream(project_id),
            lambda state: project.register(
                state,
                project_id=project_id,
                name=self._one(TEXTS),
                framework=self._one((None, "django")),
                source_root=self._one((None, "/srv/shop")),
                members=members,
            ),
        )

    def _describe(self, append: "_Append") -> None:
        description = project.Description(
            name=self._one(TEXTS), framework=self._one((None, "flask")), source_root=None
        )
        self._in_project(
            append,
            lambda state: project.describe(state, description=description, revisions=None),
        )

    def _add_member(self, append: "_Append") -> None:
        project_id, user, role = self._one(PROJECTS), self._one(USERS), self._one(ROLES)
        append.decide(
            project_stream(project_id),
            lambda state: project.add_member(state, user_id=user, role=role),
        )

    def _remove_member(self, append: "_Append") -> None:
        project_id, user = self._one(PROJECTS), self._one(USERS)
        append.decide(
            project_stream(project_id),
            lambda state: project.remove_member(state, user_id=user),
        )

    def _credit(self, append: "_Append") -> None:
        user = self._one(USERS)
        append.decide(
            account_stream(append.tenant_id, user),
            lambda state: account.credit(
                state,
                user_id=user,
                credit_id=self._id("c", append),
                seconds=self._random.randint(1, 500),
                kind=self._one(KINDS),
                reason=self._one((None, "order 7")),
            ),
        )

    # Messages and replies ------------------------------------------------------------------------

    def _ask(self, append: "_Append") -> None:
        """A message with its reservation and the start of its reply, as admission stores them."""
        mine = [talk for talk in self._talks if talk.tenant_id == append.tenant_id]
        mode = self._one(SESSION_MODES)
        is_old = bool(mine) and self._random.random() < 0.8
        talk = self._one(mine) if is_old else self._new_talk(append, mode)
        hint = self._one((None, *MODES))
        reply = _Reply(
            talk=talk,
            reply_id=self._id("r", append),
            in_reply_to=self._id("m", append),
            reservation_id=self._id("h", append),
            model=self._one(MODELS),
            mode=hint or "general",
        )
        self._hold(append, reply)
        stream = session_stream(talk.session_id, talk.project_id)
        if talk not in self._talks:
            append.decide(
                stream,
                lambda state: session.open_session(
                    state,
                    session_id=talk.session_id,
                    project_id=talk.project_id,
                    user_id=talk.user_id,
                    mode=mode,
                    name=self._one((None, "Sign in")),
                    context=self._one(CONTEXTS),
                ),
            )
        append.decide(stream, session.resume)
        append.decide(
            stream,
            lambda state: session.post_message(
                state,
                message_id=reply.in_reply_to,
                text=self._one(TEXTS),
                locale=self._one(("en", "ar")),
                chat_mode=hint,
            ),
        )
        append.decide(
            stream,
            lambda state: session.start_reply(
                state,
                reply_id=reply.reply_id,
                in_reply_to=reply.in_reply_to,
                model=reply.model,
                reservation_id=reply.reservation_id,
                lease_id=self._random.randint(0, 3),
                may_wait=True,
            ),
        )
        self._talks += [] if talk in self._talks else [talk]
        self._running.append(reply)

    def _new_talk(self, append: "_Append", mode: SessionMode) -> _Talk:
        return _Talk(
            tenant_id=append.tenant_id,
            project_id=self._one(PROJECTS),
            user_id=self._one(USERS),
            session_id=session_id(mode, self._id("s", append)),
        )

    def _hold(self, append: "_Append", reply: _Reply) -> None:
        append.decide(
            account_stream(append.tenant_id, reply.talk.user_id, reply.talk.project_id),
            lambda state: account.reserve(
                state,
                user_id=reply.talk.user_id,
                reservation_id=reply.reservation_id,
                session_id=reply.talk.session_id,
                reply_id=reply.reply_id,
                seconds=ESTIMATES[reply.mode],
            ),
        )

    def _extend(self, append: "_Append") -> None:
        if reply := self._of(append, self._running):
            self._hold(append, reply)

    def _complete(self, append: "_Append") -> None:
        """The end of a reply with its bill, as settlement stores them."""
        if (reply := self._of(append, self._running)) is None:
            return
        self._running.remove(reply)
        talk, counts = reply.talk, (None, 0, 1, 17, 80_000)
        usage = Usage(
            input_tokens=self._one(counts),
            output_tokens=self._one(counts),
            cache_read_tokens=self._one(counts),
            cache_write_tokens=self._one(counts),
        )
        mode, seconds = self._one((*MODES, *PLANS)), self._random.randint(0, 150)
        append.decide(
            account_stream(append.tenant_id, talk.user_id, talk.project_id),
            lambda state: account.settle(
                state,
                user_id=talk.user_id,
                reservation_id=reply.reservation_id,
                project_id=talk.project_id,
                session_id=talk.session_id,
                reply_id=reply.reply_id,
                operation=OPERATIONS[mode],
                seconds=seconds,
                model=reply.model,
                cost=cost_of(reply.model, usage),
            ),
        )
        append.decide(
            session_stream(talk.session_id, talk.project_id),
            lambda state: session.complete_reply(
                state,
                ReplyCompleted(
                    session_id=talk.session_id,
                    reply_id=reply.reply_id,
                    in_reply_to=reply.in_reply_to,
                    subtype=self._one(("success", "partial")),
                    mode=mode,
                    data=PLANS.get(mode) or self._one(DATA),
                    duration_ms=self._random.randint(0, 10**6),
                    billed_seconds=seconds,
                    model=reply.model,
                    reason=self._one((None, "time_limit")),
                    warnings=self._one(((), ("low_balance",))),
                    resets=self._one((0, 1)),
                    retries=self._one((0, 2)),
                    tokens_used=usage.total,
                    cache_hits=usage.cache_read_tokens,
                    frames=self._random.randint(1, 99),
                    version_id=self._one((None, "v1")),
                    first_text_ms=self._one((None, 250)),
                ),
            ),
        )

    def _take_over(self, append: "_Append") -> None:
        if (reply := self._of(append, self._running)) is not None:
            append.decide(
                session_stream(reply.talk.session_id, reply.talk.project_id),
                lambda state: session.claim_reply(
                    state, reply_id=reply.reply_id, lease_id=self._random.randint(4, 9)
                ),
            )

    def _cancel(self, append: "_Append") -> None:
        if (reply := self._of(append, self._running)) is not None:
            append.decide(
                session_stream(reply.talk.session_id, reply.talk.project_id),
                lambda state: session.cancel_reply(
                    state, reply_id=reply.reply_id, reason="cancelled"
                ),
            )

    def _fail(self, append: "_Append") -> None:
        if (reply := self._of(append, self._running)) is None:
            return
        self._running.remove(reply)
        append.decide(
            account_stream(append.tenant_id, reply.talk.user_id, reply.talk.project_id),
            lambda state: account.release(
                state,
                user_id=reply.talk.user_id,
                reservation_id=reply.reservation_id,
                reason="model_error",
            ),
        )
        append.decide(
            session_stream(reply.talk.session_id, reply.talk.project_id),
            lambda state: session.fail_reply(
                state,
                ReplyFailed(
                    session_id=reply.talk.session_id,
                    reply_id=reply.reply_id,
                    in_reply_to=reply.in_reply_to,
                    code="model_error",
                    mode=self._one((None, *MODES)),
                    locale=self._one((None, "ar")),
                    retries=self._one((0, 2)),
                    duration_ms=self._random.randint(0, 10**6),
                    retry_after_seconds=self._one((None, 3_600)),
                    tokens_used=None,
                    cache_hits=None,
                    frames=self._random.randint(1, 9),
                    first_text_ms=self._one((None, 250)),
                ),
            ),
        )

    # A session's own life ------------------------------------------------------------------------

    def _speak(self, append: "_Append") -> None:
        self._in_session(
            append,
            lambda state: session.post_system_message(
                state,
                message_id=self._id("y", append),
                template="welcome",
                variables={"name": self._one(TEXTS)},
                visible=self._one((True, False)),
            ),
        )

    def _change(self, append: "_Append") -> None:
        details = session.Details(
            name=self._one(TEXTS),
            description=self._one(TEXTS),
            is_starred=self._one((True, False)),
            tags=self._one(((), ("a", "ب"), ("a",))),
            is_archived=self._random.random() < 0.1,
        )
        self._in_session(
            append,
            lambda state: session.change(
                state,
                details=replace(details, mode=self._one(FAMILIES[MODES_OF[state.mode].family])),
                revisions=None,
            ),
        )

    def _append(self, append: "_Append") -> None:
        message_id = self._id("m", append)
        role = self._one(ROLES_OF_APPENDED)
        self._in_session(
            append,
            lambda state: session.append_message(
                state, message_id=message_id, role=role, text=self._one(TEXTS), locale="fr"
            ),
        )

    def _give_material(self, append: "_Append") -> None:
        message_id = self._id("y", append)
        self._in_session(
            append,
            lambda state: session.give_material(
                state, message_id=message_id, kind="run_summary", text=self._one(TEXTS)
            ),
        )

    def _instruct(self, append: "_Append") -> None:
        settings = self._one((None, {"temperature": 0.5}))
        self._in_session(
            append,
            lambda state: session.instruct(
                state,
                instructions=self._one((None, *TEXTS)),
                model=self._one((None, *MODELS)),
                max_tokens=self._one((None, 1_000)),
                settings=settings,
                prompt=self._one((None, *USED)),
            ),
        )

    def _fork(self, append: "_Append") -> None:
        """A session that shares what another one had said up to one of its events."""
        mine = [talk for talk in self._talks if talk.tenant_id == append.tenant_id]
        if not mine:
            return
        talk = self._one(mine)
        parent, version = self._streams[talk.tenant_id, str(session_stream(talk.session_id))]
        mode: SessionMode = "prompt" if parent.mode == "prompt" else "what_if"
        fork = replace(talk, session_id=session_id(mode, self._id("s", append)))
        append.decide(
            session_stream(fork.session_id, fork.project_id),
            lambda state: session.open_fork(
                state,
                session_id=fork.session_id,
                user_id=fork.user_id,
                mode=mode,
                parent=parent,
                message_id="m1",
                version=self._random.randint(1, version),
            ),
        )
        self._talks.append(fork)

    def _save_plan(self, append: "_Append") -> None:
        planned = [
            (talk, reply_id)
            for talk in self._talks
            if talk.tenant_id == append.tenant_id
            for reply_id in self._session(talk).plans
        ]
        if planned:
            talk, reply_id = self._one(planned)
            append.decide(
                session_stream(talk.session_id, talk.project_id),
                lambda state: session.save_plan(state, reply_id=reply_id, user_id=self._one(USERS)),
            )

    def _share_plan(self, append: "_Append") -> None:
        planned = [
            (talk, reply_id)
            for talk in self._talks
            if talk.tenant_id == append.tenant_id
            for reply_id in self._session(talk).plans
        ]
        if planned:
            talk, reply_id = self._one(planned)
            share_id = self._id("l", append)
            append.decide(
                session_stream(talk.session_id, talk.project_id),
                lambda state: session.share_plan(
                    state,
                    reply_id=reply_id,
                    share_id=share_id,
                    user_id=self._one(USERS),
                    token_digest=f"digest of {share_id}",
                    expires_at=datetime(2026, 1, self._random.randint(1, 28), tzinfo=UTC),
                ),
            )

    def _revoke_share(self, append: "_Append") -> None:
        shared = [
            (talk, share_id)
            for talk in self._talks
            if talk.tenant_id == append.tenant_id
            for share_id in self._session(talk).shares
        ]
        if shared:
            talk, share_id = self._one(shared)
            append.decide(
                session_stream(talk.session_id, talk.project_id),
                lambda state: session.revoke_share(state, share_id=share_id),
            )

    def _session(self, talk: _Talk) -> session.Session:
        state, _ = self._streams[talk.tenant_id, str(session_stream(talk.session_id))]
        known: session.Session = state
        return known

    def _archive(self, append: "_Append") -> None:
        self._in_session(append, session.archive)

    def _restore(self, append: "_Append") -> None:
        self._in_session(append, session.restore)

    def _expire(self, append: "_Append") -> None:
        self._in_session(append, session.expire)

    def _delete(self, append: "_Append") -> None:
        """A session and its builds are erased together."""
        mine = [talk for talk in self._talks if talk.tenant_id == append.tenant_id]
        if mine:
            talk = self._one(mine)
            for build_id in self._session(talk).builds:
                append.decide(build_stream(build_id, talk.project_id), build.erase)
            append.decide(session_stream(talk.session_id, talk.project_id), session.delete)

    def _close_project(self, append: "_Append") -> None:
        self._in_project(append, project.request_erasure)

    def _erase_project(self, append: "_Append") -> None:
        self._in_project(append, project.erase)

    def _in_project(self, append: "_Append", decide: Callable[[Any], Any]) -> None:
        project_id = self._one(PROJECTS)
        append.decide(project_stream(project_id), decide)

    # Prompts -------------------------------------------------------------------------------------

    def _create_prompt(self, append: "_Append") -> None:
        prompt_id, project_id = self._id("q", append), self._one(PROJECTS)
        stream = prompt_stream(prompt_id, project_id)
        append.decide(
            stream,
            lambda state: prompt.create(
                state,
                prompt_id=prompt_id,
                project_id=project_id,
                user_id=self._one(USERS),
                name=self._one(TEXTS),
            ),
        )
        append.decide(stream, self._version)
        self._prompts.append((append.tenant_id, project_id, prompt_id))

    def _add_version(self, append: "_Append") -> None:
        self._in_prompt(append, self._version)

    def _version(self, state: prompt.Prompt) -> prompt.Decided:
        return prompt.add_version(
            state,
            user_id=self._one(USERS),
            text=self._one((*TEXTS, "Write {{what}} for {{who}}, then {{what}}")),
            note=self._one((None, "shorter")),
            source=self._one((None, prompt.Source(session_id="s1", message_id="r1"))),
        )

    def _change_prompt(self, append: "_Append") -> None:
        details = prompt.Details(name=self._one(TEXTS), is_archived=self._random.random() < 0.3)
        self._in_prompt(append, lambda state: prompt.change(state, details=details, revisions=None))

    def _close_prompt(self, append: "_Append") -> None:
        self._in_prompt(append, prompt.request_erasure)

    def _erase_prompt(self, append: "_Append") -> None:
        self._in_prompt(append, prompt.erase)

    def _in_prompt(
        self, append: "_Append", decision: Callable[[prompt.Prompt], prompt.Decided]
    ) -> None:
        mine = [each for each in self._prompts if each[0] == append.tenant_id]
        if mine:
            _, project_id, prompt_id = self._one(mine)
            append.decide(prompt_stream(prompt_id, project_id), decision)

    # Builds --------------------------------------------------------------------------------------

    def _convert(self, append: "_Append") -> None:
        """A plan becomes a build, as the service stores it."""
        mine = [talk for talk in self._talks if talk.tenant_id == append.tenant_id]
        if not mine:
            return
        talk, build_id, message_id = self._one(mine), self._id("b", append), self._id("m", append)
        append.decide(
            session_stream(talk.session_id, talk.project_id),
            lambda state: session.convert(
                state,
                build_id=build_id,
                message_id=message_id,
                user_id=talk.user_id,
                plan=state.plan,
                prompt="Build it",
                locale="en",
                failed_build_id=self._failed(append, state.converted_to),
            ),
        )
        self._queue(append, talk, build_id, message_id, PLANS["fix"])

    def _failed(self, append: "_Append", build_id: str | None) -> str | None:
        """The build, if it has failed."""
        state, _ = self._streams.get((append.tenant_id, f"build-{build_id}"), (None, 0))
        return build_id if state is not None and state.status == "failed" else None

    def _begin_build(self, append: "_Append") -> None:
        """A build from an idea, in a session of its own, with a greeting."""
        talk = self._new_talk(append, "build")
        build_id, message_id, said_id = (self._id(each, append) for each in "bmy")
        stream = session_stream(talk.session_id, talk.project_id)
        append.decide(
            stream,
            lambda state: session.open_session(
                state,
                session_id=talk.session_id,
                project_id=talk.project_id,
                user_id=talk.user_id,
                mode="build",
            ),
        )
        append.decide(
            stream,
            lambda state: session.request_build(
                state, build_id=build_id, message_id=message_id, text=self._one(TEXTS), locale="ar"
            ),
        )
        append.decide(
            stream,
            lambda state: session.post_system_message(
                state,
                message_id=said_id,
                type="greeting",
                template="hello",
                variables={"idea": self._one(TEXTS)},
                mode="build",
                build_id=build_id,
            ),
        )
        self._queue(append, talk, build_id, message_id, None)
        self._talks.append(talk)

    def _queue(
        self, append: "_Append", talk: _Talk, build_id: str, message_id: str, plan: Any
    ) -> None:
        append.decide(
            project_stream(talk.project_id),
            lambda state: project.lock(state, build_id=build_id),
        )
        append.decide(
            build_stream(build_id, talk.project_id),
            lambda state: build.queue(
                state,
                build_id=build_id,
                project_id=talk.project_id,
                session_id=talk.session_id,
                message_id=message_id,
                user_id=talk.user_id,
                prompt=self._one(TEXTS),
                locale="en",
                plan=plan,
                converted_from_session_id=None if plan is None else talk.session_id,
                operation=self._one(tuple(BUILD_ESTIMATES)),
                reservation_id=build_id,
            ),
        )
        append.decide(
            account_stream(append.tenant_id, talk.user_id, talk.project_id),
            lambda state: account.reserve(
                state,
                user_id=talk.user_id,
                reservation_id=build_id,
                session_id=talk.session_id,
                reply_id=message_id,
                build_id=build_id,
                seconds=self._random.randint(1, 60),
            ),
        )
        self._builds.append((append.tenant_id, talk.project_id, build_id))

    def _claim(self, append: "_Append") -> None:
        worker_id = self._one(("w1", "w2"))
        self._in_build(append, lambda state: build.claim(state, worker_id=worker_id))

    def _report(self, append: "_Append") -> None:
        reports = [self._told() for _ in range(self._random.randint(1, 4))]
        reference_id = self._id("y", append)
        self._in_build(
            append, lambda state: build.report(state, reports, reference_id=reference_id)
        )

    def _told(self) -> Report:
        phase, kind = self._one(PHASES), self._one(REPORT_TYPES)
        if kind == "failed" and self._random.random() < 0.7:
            phase, kind = "deploy", "completed"
        return Report(
            event_id=f"e{self._random.randint(1, 99)}",
            phase=phase,
            type=kind,
            title=self._one(TEXTS),
            at=f"2026-01-01T00:00:{self._random.randint(0, 59):02}+00:00",
            user_visible=self._one((True, False)),
            version_id=self._one(("v1", "v2", "v3", None)),
            preview_url=self._one((None, "https://preview.example")),
            artifact_url=self._one((None, "https://artifact.example")),
            error=self._one((None, "It broke")),
            seconds=self._one((None, 0, 7, 90)),
            tokens=self._one((None, 0, 4_000)),
        )

    def _time_out(self, append: "_Append") -> None:
        self._in_build(append, lambda state: build.time_out(state, error="Silence"))

    def _cancel_build(self, append: "_Append") -> None:
        self._in_build(append, build.cancel)

    def _in_build(self, append: "_Append", decision: Callable[[Build], build.Decided]) -> None:
        mine = [each for each in self._builds if each[0] == append.tenant_id]
        if not mine:
            return
        _, project_id, build_id = self._one(mine[-4:])
        former, _ = self._streams[append.tenant_id, str(build_stream(build_id))]
        append.decide(build_stream(build_id, project_id), decision)
        ended = append.state(build_stream(build_id))
        if ended.has_ended and not former.has_ended:
            append.decide(
                project_stream(project_id),
                lambda state: project.unlock(state, build_id=build_id),
            )
            append.decide(
                account_stream(append.tenant_id, ended.user_id, project_id),
                lambda state: build.bill(state, ended=ended),
            )

    # Runs ----------------------------------------------------------------------------------------

    def _queue_run(self, append: "_Append") -> None:
        run_id, project_id = self._id("n", append), self._one(PROJECTS)
        append.decide(
            run_stream(run_id, project_id),
            lambda state: run.queue(
                state,
                run_id=run_id,
                project_id=project_id,
                user_id=self._one(USERS),
                title=self._one(TEXTS),
                session_id=self._one((None, "s1")),
                prompt_version_id=self._one((None, "pv1")),
                answers=self._one((None, {"name": "Ann"})),
                settings=self._one((None, {"temperature": 0.5})),
                given=self._one((None, *DATA)),
            ),
        )
        self._runs.append((append.tenant_id, project_id, run_id))

    def _claim_run(self, append: "_Append") -> None:
        worker_id = self._one(("w1", "w2"))
        self._in_run(append, lambda state: run.claim(state, worker_id=worker_id))

    def _report_run(self, append: "_Append") -> None:
        told = [self._told_of_run() for _ in range(self._random.randint(1, 6))]
        self._in_run(append, lambda state: run.report(state, told))

    def _told_of_run(self) -> run.Report:
        kind = self._one((*RUN_REPORTS, "step", "step", "candidate", "candidate"))
        event_id = f"e{self._random.randint(1, 99)}"
        return run.Report(
            event_id=event_id,
            type=kind,
            # Each report changes the progress of its run.
            title=f"{event_id} {self._one(TEXTS)}",
            at=f"2026-01-01T00:00:{self._random.randint(0, 59):02}+00:00",
            step_id=self._one(("s1", "s2", "s3", "s4")),
            prompt=self._one((None, *TEXTS)),
            prompt_version_id=self._one((None, "pv1")),
            output=self._one((None, *TEXTS)),
            candidate_id=self._one(("c1", "c2", "c3")),
            scores=self._one((None, {"overall": 0.5}, {"overall": 1, "cost": -1.5e-7}, {})),
            data=self._one((None, *DATA)),
            summary=self._one((None, "Done")),
            findings=self._one(((), ("One", "عمر"))),
            error=self._one((None, "It broke")),
            seconds=self._one((None, 0, 7)),
            tokens=self._one((None, 4_000)),
        )

    def _end_run(self, append: "_Append") -> None:
        self._in_run(append, self._one((run.cancel, lambda state: run.time_out(state, error="?"))))

    def _discuss(self, append: "_Append") -> None:
        """Give a session a text about a run, with the events that the service stores."""
        mine = [talk for talk in self._talks if talk.tenant_id == append.tenant_id]
        if not mine:
            return
        talk, message_id = self._one(mine[-3:]), self._id("y", append)
        self._in_run(
            append,
            lambda state: run.give_material(
                state, session_id=talk.session_id, message_id=message_id, kind="run_results"
            ),
        )
        if append.events:
            append.decide(
                session_stream(talk.session_id, talk.project_id),
                lambda state: session.give_material(
                    state, message_id=message_id, kind="run_results", text=self._one(TEXTS)
                ),
            )

    def _erase_run(self, append: "_Append") -> None:
        """Erase a run, and the texts about the run in sessions."""
        mine = [each for each in self._runs if each[0] == append.tenant_id]
        if not mine:
            return
        told = [each for each in mine if self._run(each).materials]
        _, project_id, run_id = self._one(told or mine)
        state = self._run((append.tenant_id, project_id, run_id))
        for each in state.materials:
            (talk,) = (
                talk
                for talk in self._talks
                if (talk.tenant_id, talk.session_id) == (append.tenant_id, each.session_id)
            )
            append.decide(
                session_stream(each.session_id, talk.project_id),
                partial(session.erase_material, message_id=each.message_id),
            )
        append.decide(run_stream(run_id, project_id), run.erase)

    def _run(self, known: tuple[str, str, str]) -> Run:
        """The state of a run: its tenant, project and id are known."""
        state, _ = self._streams[known[0], str(run_stream(known[2]))]
        found: Run = state
        return found

    def _in_run(self, append: "_Append", decision: Callable[[Run], run.Decided]) -> None:
        mine = [each for each in self._runs if each[0] == append.tenant_id]
        if mine:
            _, project_id, run_id = self._one(mine[-4:])
            append.decide(run_stream(run_id, project_id), decision)

    def _in_session(
        self, append: "_Append", decision: Callable[[session.Session], session.Decided]
    ) -> None:
        mine = [talk for talk in self._talks if talk.tenant_id == append.tenant_id]
        if mine:
            talk = self._one(mine)
            append.decide(session_stream(talk.session_id, talk.project_id), decision)

    def _of(self, append: "_Append", replies: Iterable[_Reply]) -> _Reply | None:
        mine = [reply for reply in replies if reply.talk.tenant_id == append.tenant_id]
        return self._one(mine) if mine else None


class _Append:
    """One append in the making; what was refused is thrown away whole."""

    def __init__(self, streams: dict[tuple[str, str], tuple[Any, int]], tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.streams: dict[tuple[str, str], tuple[Any, int]] = {}
        self.events: list[NewEvent] = []
        self._known = streams

    def state(self, stream: AnyStream) -> Any:
        """The state of a stream that was decided on."""
        return self.streams[self.tenant_id, str(stream)][0]

    def decide(self, stream: StreamId[S, E], decision: Callable[[S], tuple[E, ...]]) -> None:
        """Decide on the stream as it stands in this append."""
        key, decider = (self.tenant_id, str(stream)), stream.decider
        state, version = self.streams.get(key) or self._known.get(key) or (decider.initial, 0)
        decided = decision(state)
        self.events += new_events(self.tenant_id, str(stream), version, decided, stream.project_id)
        self.streams[key] = (decider.fold(decided, state), version + len(decided))


def new_events(
    tenant_id: str,
    stream_id: str,
    version: int,
    decided: Sequence[Event],
    project_id: str | None = None,
) -> list[NewEvent]:
    """Events as they are handed to the writer, after a version of their stream."""
    return [
        NewEvent(tenant_id, stream_id, n, type(event).__name__, encode(event), project_id)
        for n, event in enumerate(decided, version + 1)
    ]


# The log in a database ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Log:
    """A database's log, to write and to read."""

    writer: Writer
    store: EventStore

    async def append(self, appends: Iterable[Sequence[NewEvent]]) -> None:
        """Append all of them, in this order, many a commit."""
        await asyncio.gather(*(self.writer.append(each) for each in appends))

    async def events(self) -> list[Recorded]:
        """Everything in it."""
        return [event async for page in self.store.replay() for event in page]


@asynccontextmanager
async def writing(url: str) -> AsyncGenerator[Log, None]:
    """The log of a database with a writer of its own, read models carried along."""
    async with connections.pool(url) as pool:
        store = EventStore(pool)
        writer = Writer(lambda: connections.connect(url), LiveLog(store))
        task = asyncio.create_task(writer.run())
        try:
            yield Log(writer, store)
        finally:
            writer.close()
            await task


@asynccontextmanager
async def owning(url: str) -> AsyncGenerator[Connection, None]:
    """A connection as the database's owner."""
    async with await connections.connect(url, as_service=False) as connection:
        yield connection


async def background(connection: Connection) -> None:
    """Bring the read models that appends leave to the background up to the log."""
    for name in IN_BACKGROUND:
        while not await catch_up_one(connection, name):
            pass


async def live(
    connection: Connection, name: str, schema: str = "app", *, tenant_id: str | None = None
) -> list[Row]:
    """The rows of a read model as they are, by key."""
    if schema == "app" and name in IN_BACKGROUND:
        await background(connection)
    query = compose.SQL(
        "select * from {} where %(tenant)s::text is null or tenant_id = %(tenant)s order by {}"
    ).format(
        compose.Identifier(schema, name),
        compose.SQL(", ").join(map(compose.Identifier, key_of(name))),
    )
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, {"tenant": tenant_id})
        return await cursor.fetchall()
