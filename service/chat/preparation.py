"""What comes before the model is asked: the session's earlier replies end, and a question is made.

The session is not read whole: which replies come first is remembered, and the history is read
backwards, only as far as the model is given of it.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from domain.deciders.session import Session
from domain.modes import MODES
from domain.replies import questions
from domain.replies.history import History
from domain.replies.questions import Question
from projections.projects import ProjectRow
from projections.replies import ReplyRef
from service.chat.admission import Admitted, Message
from service.chat.generation import Generation
from service.chat.settlement import GIVE_UP_SECONDS
from service.chat.tools import ProjectTools
from service.concurrency.retry import retrying
from service.eventlog.errors import DATABASE_AWAY
from service.eventlog.lineage import Part, backwards, lineage
from service.eventlog.store import BACKWARDS_BYTES, EventStore
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import Transactions
from service.model.client import ModelClient
from service.postgres.connections import Pool
from service.replies.directory import ReplyDirectory
from service.replies.events import notice
from service.replies.tail import ReplyTail
from service.replies.writer import ReplyWriter
from service.source.jail import Sources
from service.texts.templates import render

T = TypeVar("T")
_PAUSES: Final = (1.0,)
_BYTES_PER_TOKEN: Final = 24
"""What a token of the history takes up in the log, where the messages are short: most of such an
event are ids and numbers. So a history is mostly one read."""


class Preparation:
    """Owned by the service's loop. Waits for a database that is away.

    `patience_seconds` is how long a turn waits before it asks a busy provider again, and
    `history_tokens` how much of the session the model is given.
    """

    def __init__(
        self,
        store: EventStore,
        transactions: Transactions,
        pool: Pool,
        sources: Sources,
        directory: ReplyDirectory,
        model: ModelClient,
        *,
        patience_seconds: float,
        history_tokens: int,
    ) -> None:
        self._store = store
        self._transactions = transactions
        self._pool = pool
        self._sources = sources
        self._directory = directory
        self._model = model
        self._patience_seconds = patience_seconds
        self._history_tokens = history_tokens
        self._history_bytes = min(history_tokens * _BYTES_PER_TOKEN, BACKWARDS_BYTES)

    async def generation(self, admitted: Admitted, writer: ReplyWriter) -> Generation:
        """The dialogue with the model about a message, when it is the message's turn."""
        state = await self._session(admitted)
        await self._wait_in_line(admitted, state, writer)
        tools = ProjectTools(
            self._sources, self._pool, admitted.project, tenant_id=admitted.message.tenant_id
        )
        return Generation(
            self._model,
            await self._question(admitted, state, tools),
            writer,
            tools=tools,
            locale=admitted.message.locale,
            patience_seconds=self._patience_seconds,
        )

    async def _wait_in_line(self, admitted: Admitted, state: Session, writer: ReplyWriter) -> None:
        """Let the session's replies that began before this one come to their ends."""
        has_waited = False
        for ref in _earlier(admitted, state):
            tail = await self._find(ref)
            if tail.end is None and not has_waited:
                writer.emit(notice("queued"))
                has_waited = True
            # The readers of a reply may be sent away: then the reply ends at another server.
            while await tail.wait() is None:
                tail = await self._find(ref)

    async def _find(self, ref: ReplyRef) -> ReplyTail:
        return await patiently(partial(self._directory.find, ref, has_ended=False))

    async def _session(self, admitted: Admitted) -> Session:
        """The session with the reply in it: as remembered since the reply began, else read."""
        tenant_id, stream = admitted.message.tenant_id, session_stream(admitted.session_id)
        known = self._transactions.remembered(tenant_id, stream)
        if known is not None and admitted.reply_id in known.state.running:
            state: Session = known.state
            return state
        return await patiently(partial(self._transactions.current, tenant_id, stream))

    async def _question(self, admitted: Admitted, state: Session, tools: ProjectTools) -> Question:
        message, mode = admitted.message, MODES[state.mode]
        offered = await tools.open() if mode.has_tools else ()
        parts = await patiently(partial(self._shared, admitted, state))
        history = await patiently(partial(self._history, admitted, state, parts))
        return questions.question(
            rules=questions.rules(state.mode, _instructions(state, parts)),
            contracts=mode.contracts,
            model=admitted.model,
            max_tokens=state.max_tokens,
            project=_project(admitted.project),
            locale=message.locale,
            history=history.turns,
            message=message.text,
            chat_mode=message.chat_mode,
            known=await tools.context(message.context),
            viewed=_viewed(message),
            tools=offered,
        )

    async def _shared(self, admitted: Admitted, state: Session) -> list[Part]:
        """The parts of other sessions that the session shares, the newest first."""
        if state.fork is None:
            return []
        tenant_id, fork = admitted.message.tenant_id, state.fork
        return await lineage(self._store, tenant_id, fork.session_id, fork.version)

    async def _history(self, admitted: Admitted, state: Session, parts: list[Part]) -> History:
        """The session backwards, then the parts that it shares, until the history is full."""
        history = History(
            upto=admitted.user_message_id,
            budget_tokens=self._history_tokens,
            said=_said,
            is_prose=not MODES[state.mode].contracts,
        )
        own = Part(session_id=admitted.session_id, version=None, state=state)
        for part in (own, *parts):
            stream = backwards(
                self._store, admitted.message.tenant_id, part, most_bytes=self._history_bytes
            )
            async with aclosing(stream) as pages:
                while not history.is_full and (page := await anext(pages, None)) is not None:
                    history.extend(event for _, event in page)
        return history


def _instructions(state: Session, parts: list[Part]) -> str | None:
    """The instructions of the session. A fork has the instructions of the sessions that it comes
    from, if these are of the same kind."""
    found = (
        each.instructions
        for each in (state, *(part.state for part in parts))
        if each.mode == state.mode
    )
    return next((each for each in found if each is not None), None)


def _earlier(admitted: Admitted, state: Session) -> list[ReplyRef]:
    """The session's replies that ran when this one began, and began before it, in order."""
    running = list(state.running)
    place = running.index(admitted.reply_id) if admitted.reply_id in running else 0
    return [replace(admitted.ref, reply_id=each) for each in running[:place]]


def _said(template: str, variables: Mapping[str, str]) -> str:
    return render(template, variables, "en")


def _project(row: ProjectRow) -> questions.Project:
    return questions.Project(
        name=row.name,
        framework=row.framework,
        version_id=row.version_id,
        deployed_at=row.modified_at,
        build_id=row.last_build_id,
        build_status=row.last_build_status,
        built_at=row.last_build_at,
    )


def _viewed(message: Message) -> list[str]:
    """What the user looks at, where the client says so."""
    viewed = (("version", message.version_id), ("build", message.build_id))
    return [f"{kind} {name}" for kind, name in viewed if name is not None]


async def patiently(read: Callable[[], Awaitable[T]]) -> T:
    """Read from the database, again while it is away. Raises TimeoutError when it stays away."""
    return await retrying(
        read, DATABASE_AWAY, event="turn_waits", pauses=_PAUSES, seconds=GIVE_UP_SECONDS
    )
