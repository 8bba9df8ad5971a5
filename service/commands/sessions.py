"""Sessions are opened and changed, and end; their plans are kept or shared."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from domain import modes
from domain.deciders import place, prompt, run, session
from domain.deciders.session import About
from domain.errors import RunUnknown
from domain.events import SessionEvent, SessionMode
from domain.texts import announcements
from projections.replies import ReplyRow
from projections.sessions import reusable_read
from service.chat.admission import Viewed
from service.commands.projects import require_actor
from service.eventlog.stream_ids import (
    AnyStream,
    StreamId,
    place_stream,
    project_stream,
    prompt_stream,
    run_stream,
    session_stream,
)
from service.eventlog.transactions import Transaction
from service.ids import new_id


@dataclass(frozen=True, slots=True)
class Material:
    """A text that the model gets beside the messages, and the kind of the text."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMaterial:
    """A text about a run. A session gets one text of each `kind` once."""

    project_id: str
    run_id: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The session that a user asks for.

    `context` are the ids of what it is about, by their names on the wire. `instructions` are the
    fields of SessionInstructed, None without any. `reuse` says that a session of this user,
    project, mode and context that takes messages will do; a session of mode plan that was idle for
    `idle_seconds` comes after the others then. `prompt_id` is the prompt that the instructions are
    made of. A new session begins with the `material`, and the session is told the `run_material`.
    """

    tenant_id: str
    project_id: str
    user_id: str
    mode: SessionMode
    name: str | None
    about: About
    context: Mapping[str, str]
    instructions: Mapping[str, Any] | None
    reuse: bool
    idle_seconds: float
    prompt_id: str | None = None
    material: Material | None = None
    run_material: RunMaterial | None = None

    @property
    def place(self) -> str:
        """The name of the one place that all openings of the same session share."""
        return place.key(
            project_id=self.project_id,
            user_id=self.user_id,
            mode=self.mode,
            context=self.context,
        )


async def open_session(transaction: Transaction, *, opening: Opening) -> dict[str, Any]:
    """Open a session, or find it. Returns its id as `session`, and `is_new`.

    Openings that race for one place append to its stream, so one of them opens the session and the
    others find it. Raises NotAMember, ViewerOnly, VersionUnknown, BuildUnknown, RunUnknown,
    StepUnknown, CandidateUnknown, PromptUnknown, PromptRetired.
    """
    found = await _open_or_find(transaction, opening)
    if opening.run_material is not None:
        await give_run_material(transaction, opening.run_material, session_id=found["session"])
    return found


async def give_run_material(
    transaction: Transaction, material: RunMaterial, *, session_id: str
) -> None:
    """Give a session a text about a run, unless the session has one of this kind.

    The run notes it, so that the erasure of the run erases the text. Raises RunUnknown.
    """
    message_id = new_id()
    noting = partial(
        run.give_material, session_id=session_id, message_id=message_id, kind=material.kind
    )
    giving = partial(
        session.give_material, message_id=message_id, kind=material.kind, text=material.text
    )
    if await transaction.decide(run_stream(material.run_id, material.project_id), noting):
        await transaction.decide(session_stream(session_id, material.project_id), giving)


async def _open_or_find(transaction: Transaction, opening: Opening) -> dict[str, Any]:
    project = project_stream(opening.project_id)
    placed = place_stream(opening.place, opening.project_id)
    viewed = Viewed(
        tenant_id=opening.tenant_id,
        project_id=opening.project_id,
        version_id=opening.about.version_id,
        build_id=opening.about.build_id,
    )
    found = reusable_read(
        tenant_id=opening.tenant_id,
        project_id=opening.project_id,
        user_id=opening.user_id,
        mode=opening.mode,
        context=opening.context,
        idle_seconds=opening.idle_seconds,
    )
    streams: list[AnyStream] = [project]
    if opening.prompt_id is not None:
        streams.append(prompt_stream(opening.prompt_id))
    if opening.reuse:
        await transaction.recall(*streams, placed, beside=(*viewed.reads, found))
    else:
        await transaction.recall(*streams, beside=viewed.reads)
    await require_actor(transaction, opening.project_id, opening.user_id)
    await viewed.require()
    if opening.prompt_id is not None:
        prompt.require_active(await transaction.load(prompt_stream(opening.prompt_id)))
    await _require_run(transaction, opening)
    if opening.reuse:
        candidates = (await found.row(), (await transaction.load(placed)).session_id)
        for session_id in candidates:
            if session_id is not None and await _is_reusable(transaction, opening, session_id):
                return {"session": session_id, "is_new": False}
    session_id = modes.session_id(opening.mode, new_id())
    stream = session_stream(session_id, opening.project_id)
    transaction.begin(stream)
    await _open(transaction, stream, opening)
    if opening.reuse:
        await transaction.decide(placed, partial(place.give, session_id=session_id))
    return {"session": session_id, "is_new": True}


async def _require_run(transaction: Transaction, opening: Opening) -> None:
    """Raises RunUnknown, StepUnknown, CandidateUnknown for an id that the project does not have."""
    about = opening.about
    if about.run_id is None:
        return
    state = await transaction.load(run_stream(about.run_id))
    if state.project_id != opening.project_id:
        raise RunUnknown
    run.require_parts(state, step_id=about.step_id, candidate_id=about.candidate_id)


async def _is_reusable(transaction: Transaction, opening: Opening, session_id: str) -> bool:
    state = await transaction.load(session_stream(session_id, opening.project_id))
    is_alike = (state.project_id, state.user_id, state.mode) == (
        opening.project_id,
        opening.user_id,
        opening.mode,
    )
    return is_alike and session.takes_messages(state)


async def _open(
    transaction: Transaction,
    stream: StreamId[session.Session, SessionEvent],
    opening: Opening,
) -> None:
    """Open a new session, with its instructions and the service's greeting."""
    opening_it = partial(
        session.open_session,
        session_id=stream.id,
        project_id=opening.project_id,
        user_id=opening.user_id,
        mode=opening.mode,
        name=opening.name,
        context=opening.about,
    )
    opened = await transaction.decide(stream, opening_it)
    if opening.instructions is not None:
        await transaction.decide(stream, partial(session.instruct, **opening.instructions))
    if opening.material is not None:
        given = partial(
            session.give_material,
            message_id=new_id(),
            kind=opening.material.kind,
            text=opening.material.text,
        )
        await transaction.decide(stream, given)
    known = await transaction.load(project_stream(opening.project_id))
    facts = {"project_name": known.description.name}
    greeting = partial(announcements.announced, events=opened, new_id=new_id, facts=facts)
    await transaction.decide(stream, greeting)


async def change(
    transaction: Transaction,
    *,
    project_id: str,
    session_id: str,
    changes: Mapping[str, Any],
    revisions: Collection[str] | None,
) -> None:
    """Change details of a session. Raises SessionUnknown, ModeFixed, and SessionChanged unless the
    present revision is among `revisions`."""
    stream = session_stream(session_id, project_id)
    state = await transaction.load(stream)
    details = replace(state.details, **changes)
    decision = partial(session.change, details=details, revisions=revisions)
    await transaction.decide(stream, decision)


async def save_plan(transaction: Transaction, *, reply: ReplyRow, user_id: str | None) -> None:
    """Keep the plan of a reply as a draft of the user; without one, of the session's user.

    Raises PlanUnknown, NotAMember, ViewerOnly.
    """
    stream = session_stream(reply.session_id, reply.project_id)
    await transaction.recall(stream, project_stream(reply.project_id))
    if user_id is not None:
        await require_actor(transaction, reply.project_id, user_id)
    state = await transaction.load(stream)
    decision = partial(session.save_plan, reply_id=reply.reply_id, user_id=user_id or state.user_id)
    await transaction.decide(stream, decision)


async def share_plan(
    transaction: Transaction,
    *,
    reply: ReplyRow,
    share_id: str,
    user_id: str,
    token_digest: str,
    expires_at: datetime,
) -> dict[str, str]:
    """Share the plan of a reply; returns what the answer is made from, without the token.

    Raises PlanUnknown, NotAMember, ViewerOnly.
    """
    await require_actor(transaction, reply.project_id, user_id)
    decision = partial(
        session.share_plan,
        reply_id=reply.reply_id,
        share_id=share_id,
        user_id=user_id,
        token_digest=token_digest,
        expires_at=expires_at,
    )
    await transaction.decide(session_stream(reply.session_id, reply.project_id), decision)
    return {"share": share_id, "digest": token_digest, "expires_at": expires_at.isoformat()}


async def revoke_share(
    transaction: Transaction,
    *,
    project_id: str,
    session_id: str,
    share_id: str,
    user_id: str | None,
) -> None:
    """End a share, for a user or for the tenant. Raises ShareUnknown, NotAMember, ViewerOnly."""
    if user_id is not None:
        await require_actor(transaction, project_id, user_id)
    decision = partial(session.revoke_share, share_id=share_id)
    await transaction.decide(session_stream(session_id, project_id), decision)


async def archive(transaction: Transaction, *, project_id: str, session_id: str) -> None:
    """Archive a session: it takes no more messages. Raises SessionUnknown."""
    await transaction.decide(session_stream(session_id, project_id), session.archive)


async def restore(transaction: Transaction, *, project_id: str, session_id: str) -> None:
    """End the archiving of a session. Raises SessionUnknown."""
    await transaction.decide(session_stream(session_id, project_id), session.restore)


async def expire(transaction: Transaction, *, project_id: str, session_id: str) -> None:
    """End an idle session, unless a reply of it is being written."""
    await transaction.decide(session_stream(session_id, project_id), session.expire)
