"""Builds, from a plan or from an idea."""

from collections.abc import Callable
from typing import Any

from domain.deciders import account, build, project, session
from domain.deciders.build import Build
from domain.events import Report
from domain.metering import BUILD_ESTIMATES
from service.eventlog.stream_ids import account_stream, build_stream, project_stream, session_stream
from tests.projections.actions.append import Append
from tests.projections.actions.known import Actions, Known, Talk
from tests.projections.actions.values import PHASES, PLANS, REPORT_TYPES, TEXTS


class Builds(Known):
    """Builds, from a plan or from an idea."""

    def _of_builds(self) -> Actions:
        return {
            self._convert: 5,
            self._begin_build: 12,
            self._claim: 6,
            self._report: 36,
            self._time_out: 1,
            self._cancel_build: 1,
        }

    def _convert(self, append: Append) -> None:
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

    def _failed(self, append: Append, build_id: str | None) -> str | None:
        """The build, if it has failed."""
        state, _ = self._streams.get((append.tenant_id, f"build-{build_id}"), (None, 0))
        return build_id if state is not None and state.status == "failed" else None

    def _begin_build(self, append: Append) -> None:
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

    def _queue(self, append: Append, talk: Talk, build_id: str, message_id: str, plan: Any) -> None:
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

    def _claim(self, append: Append) -> None:
        worker_id = self._one(("w1", "w2"))
        self._in_build(append, lambda state: build.claim(state, worker_id=worker_id))

    def _report(self, append: Append) -> None:
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

    def _time_out(self, append: Append) -> None:
        self._in_build(append, lambda state: build.time_out(state, error="Silence"))

    def _cancel_build(self, append: Append) -> None:
        self._in_build(append, build.cancel)

    def _in_build(self, append: Append, decision: Callable[[Build], build.Decided]) -> None:
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
