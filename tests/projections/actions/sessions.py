"""The life of a session, and the plans in it."""

from dataclasses import replace
from datetime import UTC, datetime

from domain.deciders import build, session
from domain.events import SessionMode
from domain.modes import MODES as MODES_OF
from domain.modes import session_id
from service.eventlog.stream_ids import build_stream, session_stream
from tests.projections.actions.append import Append
from tests.projections.actions.known import Actions, Known, Talk
from tests.projections.actions.values import FAMILIES, MODELS, ROLES_OF_APPENDED, TEXTS, USED, USERS


class Sessions(Known):
    """The life of a session, and the plans in it."""

    def _of_sessions(self) -> Actions:
        return {
            self._speak: 3,
            self._append: 4,
            self._give_material: 1,
            self._change: 6,
            self._instruct: 1,
            self._fork: 3,
            self._save_plan: 12,
            self._share_plan: 4,
            self._revoke_share: 1,
            self._archive: 1,
            self._restore: 3,
            self._expire: 3,
            self._delete: 2,
        }

    def _speak(self, append: Append) -> None:
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

    def _change(self, append: Append) -> None:
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

    def _append(self, append: Append) -> None:
        message_id = self._id("m", append)
        role = self._one(ROLES_OF_APPENDED)
        self._in_session(
            append,
            lambda state: session.append_message(
                state, message_id=message_id, role=role, text=self._one(TEXTS), locale="fr"
            ),
        )

    def _give_material(self, append: Append) -> None:
        message_id = self._id("y", append)
        self._in_session(
            append,
            lambda state: session.give_material(
                state, message_id=message_id, kind="run_summary", text=self._one(TEXTS)
            ),
        )

    def _instruct(self, append: Append) -> None:
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

    def _fork(self, append: Append) -> None:
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

    def _save_plan(self, append: Append) -> None:
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

    def _share_plan(self, append: Append) -> None:
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

    def _revoke_share(self, append: Append) -> None:
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

    def _session(self, talk: Talk) -> session.Session:
        state, _ = self._streams[talk.tenant_id, str(session_stream(talk.session_id))]
        known: session.Session = state
        return known

    def _archive(self, append: Append) -> None:
        self._in_session(append, session.archive)

    def _restore(self, append: Append) -> None:
        self._in_session(append, session.restore)

    def _expire(self, append: Append) -> None:
        self._in_session(append, session.expire)

    def _delete(self, append: Append) -> None:
        """A session and its builds are erased together."""
        mine = [talk for talk in self._talks if talk.tenant_id == append.tenant_id]
        if mine:
            talk = self._one(mine)
            for build_id in self._session(talk).builds:
                append.decide(build_stream(build_id, talk.project_id), build.erase)
            append.decide(session_stream(talk.session_id, talk.project_id), session.delete)
