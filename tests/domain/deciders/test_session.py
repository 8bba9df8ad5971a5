"""A session's decisions: given what happened, when something is asked, then this or a refusal."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

import domain
from domain.deciders import session
from domain.deciders.session import INITIAL, Decided, RunningReply, Session
from domain.errors import (
    ImprovementUnknown,
    ModeFixed,
    PlanMissing,
    PlanUnknown,
    Refused,
    ReplyInProgress,
    ReplyNotEnded,
    SessionChanged,
    SessionEnded,
    SessionFull,
    SessionSpent,
    SessionUnknown,
    ShareUnknown,
    TooManyForks,
)
from domain.events import (
    AssistantMessageAdded,
    ImprovementAccepted,
    MaterialAdded,
    PlanSaved,
    PlanShared,
    ReplyCompleted,
    ReplyFailed,
    ReplyStarted,
    SessionArchived,
    SessionConverted,
    SessionDeleted,
    SessionDescribed,
    SessionEvent,
    SessionExpired,
    SessionMode,
    SessionModeChanged,
    SessionOpened,
    SessionRenamed,
    SessionRestored,
    SessionResumed,
    SessionStarred,
    SessionTagged,
    ShareRevoked,
    SystemMessagePosted,
    UserMessagePosted,
)
from domain.modes import MODES, session_id
from tests.given import given

OPENED = SessionOpened(session_id="s1", project_id="p1", user_id="u1")
STARTED = ReplyStarted(
    session_id="s1", reply_id="r1", in_reply_to="m1", model="claude", reservation_id="h1"
)
COMPLETED = ReplyCompleted(
    session_id="s1",
    reply_id="r1",
    in_reply_to="m1",
    subtype="partial",
    mode="general",
    data={"markdown": "Hello"},
    duration_ms=1_500,
    billed_seconds=2,
    model="claude",
    reason="time_limit",
    warnings=("low_balance",),
    tokens_used=30,
    cache_hits=5,
)
FAILED = ReplyFailed(
    session_id="s1", reply_id="r1", in_reply_to="m1", code="model_error", duration_ms=900
)
CONVERTED = SessionConverted(session_id="s1", build_id="b1", prompt="Build it")
ARCHIVED = SessionArchived(session_id="s1")
EXPIRED = SessionExpired(session_id="s1")
DELETED = SessionDeleted(session_id="s1")
SYSTEM = SystemMessagePosted(
    session_id="s1", message_id="y1", template="welcome", variables={"name": "Ann"}
)
ENDS: dict[str, SessionEvent] = {"converted": CONVERTED, "archived": ARCHIVED, "expired": EXPIRED}


def posted(message_id: str = "m1") -> UserMessagePosted:
    return UserMessagePosted(
        session_id="s1", message_id=message_id, user_id="u1", text="Why?", locale="ar"
    )


def post(state: Session) -> Decided:
    return session.post_message(state, message_id="m1", text="Why?", locale="ar", chat_mode=None)


def start(state: Session) -> Decided:
    return session.start_reply(
        state, reply_id="r1", in_reply_to="m1", model="claude", reservation_id="h1", lease_id=0
    )


def complete(state: Session) -> Decided:
    return session.complete_reply(state, COMPLETED)


def fail(state: Session) -> Decided:
    return session.fail_reply(state, FAILED)


def speak(state: Session) -> Decided:
    return session.post_system_message(
        state, message_id="y1", template="welcome", variables={"name": "Ann"}, visible=True
    )


def change(state: Session, **details: Any) -> Decided:
    changed = replace(state.details, **details)
    return session.change(state, details=changed, revisions=None)


def rename(state: Session) -> Decided:
    return change(state, name="Login")


PLANNED = ReplyCompleted(
    session_id="s1",
    reply_id="r9",
    in_reply_to="m9",
    subtype="success",
    mode="feature",
    data={"summary": "A login", "plan": {}},
    duration_ms=1,
    billed_seconds=1,
    model="claude",
)


def convert(state: Session) -> Decided:
    return session.convert(
        session.evolve(state, PLANNED),
        build_id="b1",
        message_id="m2",
        user_id="u2",
        plan={"summary": "A login", "plan": {}},
        prompt="Build it",
        locale="fr",
    )


def append(state: Session) -> Decided:
    return session.append_message(state, message_id="m2", role="assistant", text="So.", locale="fr")


def instruct(state: Session) -> Decided:
    return session.instruct(state, instructions="Speak like a pirate.")


def give_material(state: Session) -> Decided:
    return session.give_material(state, message_id="y2", kind="run_summary", text="Scores")


def request_build(state: Session) -> Decided:
    return session.request_build(state, build_id="b1", message_id="m2", text="A shop", locale="fr")


IMPROVED = replace(
    PLANNED, mode="improvement", data={"analysis": "Too long", "improvedPrompt": "Be short"}
)


def accept(state: Session) -> Decided:
    return session.accept_improvement(
        state, reply_id="r9", user_id="u2", prompt_id="q1", prompt_version_id="q1.2"
    )


NEED_ACTIVE: list[Callable[[Session], Decided]] = [
    post,
    start,
    append,
    request_build,
]
NEED_KNOWN: list[Callable[[Session], Decided]] = [
    speak,
    rename,
    instruct,
    give_material,
    accept,
    convert,
    session.archive,
    session.delete,
]

# what is decided ---------------------------------------------------------------------------------


def test_a_new_session_opens_in_plan_mode() -> None:
    decided = session.open_session(INITIAL, session_id="s1", project_id="p1", user_id="u1")
    assert decided == (OPENED,)
    assert OPENED.mode == "plan"


def test_a_message_is_posted_by_the_session_s_own_user() -> None:
    assert post(given(OPENED)) == (posted(),)


def test_a_message_keeps_the_client_s_hint() -> None:
    (event,) = session.post_message(
        given(OPENED), message_id="m1", text="Why?", locale="ar", chat_mode="fix"
    )
    assert isinstance(event, UserMessagePosted)
    assert event.chat_mode == "fix"


def test_a_reply_starts() -> None:
    assert start(given(OPENED, posted())) == (STARTED,)


def test_a_running_reply_completes() -> None:
    assert complete(given(OPENED, posted(), STARTED)) == (COMPLETED,)


def test_a_running_reply_fails() -> None:
    assert fail(given(OPENED, posted(), STARTED)) == (FAILED,)


@pytest.mark.parametrize("end", [complete, fail])
@pytest.mark.parametrize("earlier", [COMPLETED, FAILED])
def test_a_reply_that_has_ended_stays_as_it_ended(
    end: Callable[[Session], Decided], earlier: SessionEvent
) -> None:
    assert end(given(OPENED, posted(), STARTED, earlier)) == ()


@pytest.mark.parametrize("end", [complete, fail])
def test_a_reply_that_never_started_does_not_end(end: Callable[[Session], Decided]) -> None:
    assert end(given(OPENED, posted())) == ()


@pytest.mark.parametrize("ending", ENDS.values())
def test_a_reply_is_brought_to_its_end_though_its_session_has_ended(ending: SessionEvent) -> None:
    state = given(OPENED, posted(), STARTED, ending)
    assert complete(state) == (COMPLETED,)
    assert fail(state) == (FAILED,)


def test_the_service_speaks_in_its_own_name() -> None:
    assert speak(given(OPENED)) == (SYSTEM,)


@pytest.mark.parametrize("ending", ENDS.values())
def test_the_service_speaks_though_the_session_has_ended(ending: SessionEvent) -> None:
    assert speak(given(OPENED, ending)) == (SYSTEM,)


def test_the_service_can_speak_unseen() -> None:
    (event,) = session.post_system_message(
        given(OPENED), message_id="y1", template="welcome", variables={}, visible=False
    )
    assert isinstance(event, SystemMessagePosted)
    assert not event.visible


def test_a_session_is_renamed() -> None:
    assert rename(given(OPENED)) == (SessionRenamed(session_id="s1", name="Login"),)


def test_the_same_name_again_changes_nothing() -> None:
    assert rename(given(OPENED, SessionRenamed(session_id="s1", name="Login"))) == ()


@pytest.mark.parametrize("end", ENDS.values())
def test_a_session_that_has_ended_can_still_be_renamed(end: SessionEvent) -> None:
    assert rename(given(OPENED, end)) == (SessionRenamed(session_id="s1", name="Login"),)


def test_a_mode_changes_within_its_family_alone() -> None:
    to_setup = SessionModeChanged(session_id="s1", mode="setup")
    assert change(given(OPENED), mode="setup") == (to_setup,)
    for mode in ("idea", "prompt", "build"):
        with pytest.raises(ModeFixed):
            change(given(OPENED), mode=mode)


def test_details_change_together_and_the_same_details_change_nothing() -> None:
    state = given(OPENED)
    changes = change(
        state, name="Login", description="Of users", tags=("a",), is_starred=True, is_archived=True
    )
    assert [type(each) for each in changes] == [
        SessionRenamed,
        SessionDescribed,
        SessionTagged,
        SessionStarred,
        SessionArchived,
    ]
    after = given(OPENED, *changes)
    assert change(after) == ()
    assert (after.details.tags, after.status) == (("a",), "archived")
    back = change(after, is_starred=False, is_archived=False)
    assert given(OPENED, *changes, *back).details == replace(
        after.details, is_starred=False, is_archived=False
    )
    assert after.details.revision != state.details.revision


def test_details_that_others_changed_meanwhile_are_not_overwritten() -> None:
    state = given(OPENED)
    known, details = state.details.revision, replace(state.details, name="Login")
    assert session.change(state, details=details, revisions=(known,))
    changed = given(OPENED, SessionRenamed(session_id="s1", name="Sign in"))
    with pytest.raises(SessionChanged) as refused:
        session.change(changed, details=details, revisions=(known,))
    assert refused.value.revision == changed.details.revision


def test_a_fork_knows_where_it_left_its_parent() -> None:
    parent = given(OPENED, posted(), STARTED)
    (opened,) = session.open_fork(
        INITIAL,
        session_id="s2",
        user_id="u2",
        mode="what_if",
        parent=parent,
        message_id="m1",
        version=2,
    )
    fork = given(opened)
    assert (fork.project_id, fork.user_id, fork.mode) == ("p1", "u2", "what_if")
    assert fork.fork == session.Fork(session_id="s1", version=2)


@pytest.mark.parametrize("mode", MODES)
def test_a_session_takes_as_many_messages_as_its_mode_allows_and_no_more(mode: SessionMode) -> None:
    opened = replace(OPENED, session_id=session_id(mode, "s1"), mode=mode)
    said = [posted(f"m{n}") for n in range(MODES[mode].most_messages - 1)]
    appending: dict[str, Any] = {"message_id": "m", "role": "user", "text": "Hi", "locale": "en"}
    almost = given(opened, *said)
    last = session.append_message(almost, **appending)
    full = session.fold(last, almost)
    with pytest.raises(SessionFull) as refused:
        session.append_message(full, **appending)
    assert refused.value.limit == MODES[mode].most_messages


@pytest.mark.parametrize(("of", "to"), [("plan", "prompt"), ("prompt", "what_if")])
def test_a_fork_is_as_private_as_its_parent(of: SessionMode, to: SessionMode) -> None:
    parent = given(replace(OPENED, session_id=session_id(of, "s1"), mode=of))
    with pytest.raises(ModeFixed):
        session.open_fork(
            INITIAL,
            session_id="s2",
            user_id="u1",
            mode=to,
            parent=parent,
            message_id="m1",
            version=1,
        )


def test_an_erased_session_cannot_be_forked() -> None:
    with pytest.raises(SessionUnknown):
        session.open_fork(
            INITIAL,
            session_id="s2",
            user_id="u1",
            mode="what_if",
            parent=given(OPENED, DELETED),
            message_id="m1",
            version=1,
        )


def test_a_fork_of_the_last_of_many_forks_is_refused() -> None:
    parent = given(OPENED, posted())

    def fork(forks: int) -> Decided:
        return session.open_fork(
            INITIAL,
            session_id="s2",
            user_id="u1",
            mode="what_if",
            parent=parent,
            message_id="m1",
            version=2,
            forks=forks,
        )

    assert fork(session.MOST_FORKS - 1)
    with pytest.raises(TooManyForks):
        fork(session.MOST_FORKS)


@pytest.mark.parametrize(
    ("event", "message_id"),
    [
        (posted(), "m1"),
        (
            AssistantMessageAdded(
                session_id="s1", message_id="a", user_id="u1", text="t", locale="en"
            ),
            "a",
        ),
        (MaterialAdded(session_id="s1", message_id="a", kind="k", text="t"), "a"),
        (FAILED, FAILED.reply_id),
    ],
)
def test_a_session_can_be_forked_at_what_its_readers_see(
    event: SessionEvent, message_id: str
) -> None:
    assert session.says(event, message_id)
    assert not session.says(event, "other")
    assert not session.says(STARTED, STARTED.reply_id), "a reply that runs"


def test_an_appended_message_counts_and_waits_for_the_running_reply() -> None:
    (added,) = append(given(OPENED))
    assert given(OPENED, added).message_count == 1
    (said,) = session.append_message(
        given(OPENED), message_id="m2", role="user", text="How?", locale="fr"
    )
    assert isinstance(said, UserMessagePosted)
    assert said.source == "client"
    with pytest.raises(ReplyInProgress):
        append(given(OPENED, posted(), STARTED))


def test_instructions_replace_each_other() -> None:
    state = given(OPENED, *instruct(given(OPENED)))
    assert state.instructions == "Speak like a pirate."
    last = session.instruct(state, model="claude-haiku-4-5", max_tokens=500)
    after = session.fold(last, state)
    assert (after.instructions, after.model, after.max_tokens) == (None, "claude-haiku-4-5", 500)


def test_the_prompt_of_a_session_goes_with_its_instructions() -> None:
    used = session.UsedPrompt(
        prompt_id="q1", prompt_version_id="q1.2", number=2, answers={"who": "Ann"}
    )
    told = session.instruct(given(OPENED), instructions="For Ann", settings={"n": 1}, prompt=used)
    state = given(OPENED, *told)
    assert (state.prompt, state.settings) == (used, {"n": 1})
    without = session.fold(session.instruct(state), state)
    assert (without.prompt, without.settings) == (None, None)


@pytest.mark.parametrize("end", [None, *ENDS.values()], ids=["none", *ENDS])
def test_an_improvement_is_accepted_also_after_the_session_s_end(end: SessionEvent | None) -> None:
    state = given(OPENED, STARTED, IMPROVED, *([] if end is None else [end]))
    accepted = accept(state)
    assert accepted == (
        ImprovementAccepted(
            session_id="s1",
            reply_id="r9",
            user_id="u2",
            prompt_id="q1",
            prompt_version_id="q1.2",
        ),
    )
    assert session.fold(accepted, state).accepted == {"r9": "q1.2"}


def test_a_reply_without_a_whole_improvement_is_not_accepted() -> None:
    cut = replace(IMPROVED, subtype="partial")
    logs: list[tuple[SessionEvent, ...]] = [(OPENED,), (OPENED, PLANNED), (OPENED, cut)]
    for events in logs:
        with pytest.raises(ImprovementUnknown):
            accept(given(*events))
    with pytest.raises(ReplyNotEnded):
        accept(given(OPENED, replace(STARTED, reply_id="r9")))


def test_a_plan_becomes_a_build_by_the_user_s_message_and_the_session_s_end() -> None:
    message, converted = convert(given(OPENED))
    assert message == UserMessagePosted(
        session_id="s1",
        message_id="m2",
        user_id="u2",
        text="Build it",
        locale="fr",
        chat_mode="build",
        mode="build",
        build_id="b1",
        converted_from_session_id="s1",
    )
    assert isinstance(converted, SessionConverted)
    assert (converted.build_id, converted.prompt) == ("b1", "Build it")


def test_a_converted_session_knows_its_build_by_the_plan_whatever_the_order_of_its_members() -> (
    None
):
    state = session.fold(convert(given(OPENED)), given(OPENED, PLANNED))
    assert session.converted_before(state, {"plan": {}, "summary": "A login"}) == "b1"
    assert session.converted_before(state, {"plan": {}, "summary": "Another"}) is None
    with pytest.raises(SessionEnded):
        convert(state)


def test_a_plan_of_an_expired_session_is_built() -> None:
    message, converted = convert(given(OPENED, EXPIRED))
    assert isinstance(message, UserMessagePosted)
    assert (message.user_id, message.session_id) == ("u2", "s1"), "the user that orders the build"
    assert given(OPENED, EXPIRED, message, converted).status == "converted"


def test_plans_of_archived_sessions_are_not_built() -> None:
    with pytest.raises(SessionEnded):
        session.require_plan(given(OPENED, PLANNED, ARCHIVED))


def test_a_plan_is_built_again_after_its_build_failed() -> None:
    state = session.fold(convert(given(OPENED)), given(OPENED, PLANNED))
    session.require_plan(state, failed_build_id="b1")
    with pytest.raises(SessionEnded):
        session.require_plan(state, failed_build_id="another")


def test_an_expired_session_is_resumed() -> None:
    (resumed,) = session.resume(given(OPENED, EXPIRED))
    assert resumed == SessionResumed(session_id="s1")
    state = given(OPENED, EXPIRED, resumed)
    assert state == given(OPENED)
    assert post(state)
    for other in (given(OPENED), given(OPENED, CONVERTED), given(OPENED, ARCHIVED)):
        assert session.resume(other) == ()


def test_only_whole_plans_can_be_built() -> None:
    partial = replace(PLANNED, subtype="partial")
    question = replace(PLANNED, mode="question", data={"answer": "So"})
    for said in (partial, question):
        with pytest.raises(PlanMissing):
            session.require_plan(given(OPENED, said))
    session.require_plan(given(OPENED, PLANNED))


def test_a_plan_is_not_built_while_a_reply_runs() -> None:
    with pytest.raises(ReplyInProgress):
        session.require_plan(given(OPENED, PLANNED, posted(), STARTED))


def test_a_plan_is_kept_once_also_after_the_session_s_end() -> None:
    state = given(OPENED, PLANNED, ARCHIVED)
    (saved,) = session.save_plan(state, reply_id="r9", user_id="u2")
    assert isinstance(saved, PlanSaved)
    assert (saved.title, saved.mode, saved.user_id) == ("A login", "feature", "u2")
    assert session.save_plan(session.evolve(state, saved), reply_id="r9", user_id="u1") == ()


def test_a_reply_without_a_plan_is_not_saved() -> None:
    with pytest.raises(PlanUnknown):
        session.save_plan(given(OPENED, PLANNED), reply_id="r1", user_id="u1")
    with pytest.raises(ReplyNotEnded):
        session.save_plan(given(OPENED, posted(), STARTED), reply_id=STARTED.reply_id, user_id="u1")


@pytest.mark.parametrize("events", [(), (CONVERTED,), (EXPIRED,)])
def test_a_session_is_archived_from_wherever_it_stands(events: tuple[SessionEvent, ...]) -> None:
    assert session.archive(given(OPENED, *events)) == (ARCHIVED,)


def test_an_archived_session_stays_archived() -> None:
    assert session.archive(given(OPENED, ARCHIVED)) == ()


def test_an_idle_session_expires() -> None:
    assert session.expire(given(OPENED, posted())) == (EXPIRED,)


def test_a_session_with_a_running_reply_does_not_expire() -> None:
    running = given(OPENED, posted(), STARTED)
    assert session.expire(running) == ()
    assert session.expire(session.fold((FAILED,), running)) == (EXPIRED,)


@pytest.mark.parametrize("end", [*ENDS.values(), DELETED])
def test_a_session_that_has_ended_does_not_expire(end: SessionEvent) -> None:
    assert session.expire(given(OPENED, end)) == ()


def test_a_session_that_was_never_opened_does_not_expire() -> None:
    assert session.expire(INITIAL) == ()


@pytest.mark.parametrize("events", [(), *((end,) for end in ENDS.values())])
def test_a_session_is_deleted_from_wherever_it_stands(events: tuple[SessionEvent, ...]) -> None:
    assert session.delete(given(OPENED, *events)) == (DELETED,)


def test_a_session_with_a_running_reply_is_not_deleted() -> None:
    with pytest.raises(ReplyInProgress) as refused:
        session.delete(given(OPENED, posted(), STARTED))
    assert refused.value.message_id == "r1"


def test_a_deleted_session_keeps_its_ids_alone() -> None:
    asked = replace(posted(), build_id="b1", mode="build")
    state = given(
        OPENED, asked, STARTED, COMPLETED, SessionRenamed(session_id="s1", name="n"), CONVERTED
    )
    assert state.builds == ("b1",)
    assert session.fold([DELETED], state) == Session(
        session_id="s1", project_id="p1", user_id="u1", status="deleted"
    )


def test_the_masked_events_of_a_deleted_session_are_folded_as_they_are() -> None:
    masked = replace(COMPLETED, subtype="success", mode="feature", data=None)
    assert given(OPENED, replace(posted(), text=""), STARTED, masked, DELETED).status == "deleted"


def test_the_tokens_of_replies_that_failed_count_too() -> None:
    state = given(OPENED, posted(), STARTED, replace(FAILED, tokens_used=100_000 - 1))
    session.require_capacity(state)
    state = given(OPENED, posted(), STARTED, replace(FAILED, tokens_used=100_000))
    with pytest.raises(SessionSpent):
        session.require_capacity(state)


# what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ENDS)
@pytest.mark.parametrize("decide", NEED_ACTIVE)
def test_a_session_that_has_ended_refuses_messages(
    decide: Callable[[Session], Decided], status: str
) -> None:
    with pytest.raises(SessionEnded) as refused:
        decide(given(OPENED, ENDS[status]))
    assert refused.value.status == status


@pytest.mark.parametrize("decide", [*NEED_ACTIVE, *NEED_KNOWN])
@pytest.mark.parametrize("state", [INITIAL, given(OPENED, DELETED)], ids=["never", "deleted"])
def test_a_session_that_is_not_there_is_not_known(
    decide: Callable[[Session], Decided], state: Session
) -> None:
    with pytest.raises(SessionUnknown):
        decide(state)


@pytest.mark.parametrize("events", [(), *((end,) for end in (*ENDS.values(), DELETED))])
def test_a_session_opens_once(events: tuple[SessionEvent, ...]) -> None:
    with pytest.raises(SessionEnded):
        session.open_session(given(OPENED, *events), session_id="s1", project_id="p1", user_id="u1")


def test_a_full_session_refuses_messages() -> None:
    almost = given(OPENED, *(posted(f"m{n}") for n in range(MODES["plan"].most_messages - 1)))
    session.require_capacity(almost)
    assert post(almost)
    full = session.fold(post(almost), almost)
    with pytest.raises(SessionFull) as refused:
        post(full)
    assert refused.value.limit == MODES["plan"].most_messages
    with pytest.raises(SessionFull):
        session.require_capacity(full)


def test_an_expired_session_takes_messages_and_an_ended_or_full_one_takes_none() -> None:
    almost = [posted(f"m{n}") for n in range(MODES["plan"].most_messages - 1)]
    ends: list[tuple[SessionEvent, ...]] = [(), (EXPIRED,), (*almost,), (*almost, EXPIRED)]
    assert all(session.takes_messages(given(OPENED, *events)) for events in ends)
    full = (*almost, posted("last"))
    ends = [full, (*full, EXPIRED), (CONVERTED,), (ARCHIVED,), (DELETED,)]
    assert not any(session.takes_messages(given(OPENED, *events)) for events in ends)
    assert not session.takes_messages(session.INITIAL)


def test_a_full_session_still_gets_its_last_reply() -> None:
    assert start(given(OPENED, *(posted(f"m{n}") for n in range(MODES["plan"].most_messages)))) == (
        STARTED,
    )


def test_replies_and_the_service_s_own_words_do_not_fill_a_session() -> None:
    state = given(OPENED, posted(), STARTED, COMPLETED, SYSTEM)
    assert state.message_count == 1


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (SessionUnknown(), "There is no such session in this project for this user."),
        (SessionFull(limit=50), "A session holds 50 messages. Leave sessionId out to begin one."),
        (
            SessionEnded(status="expired"),
            "The session is expired and takes no more messages and builds. Leave sessionId out to "
            "begin another one.",
        ),
    ],
    ids=lambda value: getattr(value, "code", ""),
)
def test_a_refusal_says_why(refusal: Refused, said: str) -> None:
    assert str(refusal) == said


# what a session has come to ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((OPENED,), Session(session_id="s1", project_id="p1", user_id="u1", status="active")),
        (
            (OPENED, posted("m1"), posted("m2"), STARTED),
            Session(
                session_id="s1",
                project_id="p1",
                user_id="u1",
                status="active",
                message_count=2,
                running={
                    "r1": RunningReply(
                        in_reply_to="m1", reservation_id="h1", model="claude", lease_id=0
                    )
                },
            ),
        ),
    ],
)
def test_a_session_is_what_its_events_say(events: tuple[SessionEvent, ...], state: Session) -> None:
    assert given(*events) == state


@pytest.mark.parametrize("end", [COMPLETED, FAILED])
def test_an_ended_reply_runs_no_longer_and_others_do(end: SessionEvent) -> None:
    other = ReplyStarted(
        session_id="s1", reply_id="r2", in_reply_to="m1", model="claude", reservation_id="h2"
    )
    assert given(OPENED, STARTED, other, end).running.keys() == {"r2"}


@pytest.mark.parametrize(("status", "end"), [*ENDS.items(), ("deleted", DELETED)])
def test_an_end_is_a_status(status: str, end: SessionEvent) -> None:
    assert given(OPENED, end).status == status


def test_name_and_mode_are_the_last_ones_given() -> None:
    state = given(
        OPENED,
        SessionRenamed(session_id="s1", name="Login"),
        SessionModeChanged(session_id="s1", mode="setup"),
        SessionRenamed(session_id="s1", name="Sign in"),
    )
    assert (state.details.name, state.mode) == ("Sign in", "setup")


def test_the_service_s_own_words_change_nothing() -> None:
    assert given(OPENED, SYSTEM) == given(OPENED)


# what the types say ------------------------------------------------------------------------------


def test_an_event_without_a_case_is_a_type_error(tmp_path: Path) -> None:
    """Add one event to each union and to no `evolve`: the type checker names all three."""
    copy = copytree(Path(domain.__path__[0]), tmp_path / "domain")
    text = (copy / "events.py").read_text()
    for union in ("ProjectEvent", "SessionEvent", "AccountEvent"):
        extra = f"{union.removesuffix('Event')}Forgotten"
        line = f"{union}: TypeAlias = "
        assert text.count(line) == 1
        text = text.replace(line, f"class {extra}(_Event):\n    pass\n\n\n{line}{extra} | ")
    (copy / "events.py").write_text(text)
    modules = [f"domain/deciders/{name}.py" for name in ("project", "session_state", "account")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", *modules],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    for module, extra in zip(
        modules, ("ProjectForgotten", "SessionForgotten", "AccountForgotten"), strict=True
    ):
        (error,) = [line for line in errors if line.startswith(module)]
        assert '"assert_never"' in error
        assert f'"{extra}"' in error
    assert len(errors) == 3, done.stdout


# shares and the archive --------------------------------------------------------------------------


def test_an_archived_session_is_restored_to_what_it_was() -> None:
    archived = given(OPENED, SessionArchived(session_id="s1"))
    (event,) = session.restore(archived)
    assert event == SessionRestored(session_id="s1")
    assert session.fold([event], archived).status == "active"
    converted = SessionConverted(session_id="s1", build_id="b1", prompt="Build it")
    built = given(OPENED, converted, SessionArchived(session_id="s1"), event)
    assert built.status == "converted"
    assert session.restore(given(OPENED)) == ()
    with pytest.raises(SessionUnknown):
        session.restore(INITIAL)


def test_a_plan_is_shared_until_the_share_is_revoked() -> None:
    plan = replace(COMPLETED, subtype="success", mode="feature", data={"summary": "A login"})
    state = given(OPENED, STARTED, plan)
    until = datetime(2026, 11, 30, tzinfo=UTC)
    asked = {"share_id": "l1", "user_id": "u2", "token_digest": "d1", "expires_at": until}
    (event,) = session.share_plan(state, reply_id="r1", **asked)  # type: ignore[arg-type]
    assert event == PlanShared(
        session_id="s1",
        reply_id="r1",
        share_id="l1",
        user_id="u2",
        token_digest="d1",
        expires_at="2026-11-30T00:00:00+00:00",
    )
    shared = session.fold([event], state)
    (revoked,) = session.revoke_share(shared, share_id="l1")
    assert revoked == ShareRevoked(session_id="s1", share_id="l1")
    with pytest.raises(ShareUnknown):
        session.revoke_share(session.fold([revoked], shared), share_id="l1")
    with pytest.raises(PlanUnknown):
        session.share_plan(state, reply_id="r2", **asked)  # type: ignore[arg-type]
