"""The items of a timeline: rows of the read model as JSON."""

from datetime import datetime
from functools import cache
from typing import Any, Literal, NamedTuple, cast

import orjson
import structlog

from domain.events import Json, ReplyMode, RunFault, SessionMode
from domain.replies.contracts import MAIN_TEXT
from projections.builds import BuildRow, BuildStatus
from projections.runs import RunRow, RunStatus
from projections.timeline import ItemKind, TimelineRow
from service.ops.metrics import UNREADABLE
from service.replies.envelope import PLAN_ACTIONS, ActionType, label
from service.texts.templates import Direction, Language, direction_of, language_of
from service.wire import Wire, dumped

_log = structlog.stdlib.get_logger(__name__)


class ItemAction(Wire):
    """An action on an item. `enabled` is true when the action is possible now."""

    type: ActionType
    label: str
    enabled: bool


ItemType = Literal["plan_message", "build_request", "deployment", "run"]
ItemStatus = Literal["planning", "in_progress", "deployed", "succeeded", "failed"]


class UserMessage(Wire):
    text: str
    session_id: str


class BuildState(Wire):
    """The current state of a build: `queued`, `running`, `succeeded` or `failed`; milliseconds.

    `userId` is the user who ordered the build.
    """

    build_id: str
    user_id: str
    status: BuildStatus
    phase: str | None = None
    title: str | None = None
    version_id: str | None = None
    preview_url: str | None = None
    artifact_url: str | None = None
    error: str | None = None
    duration: int | None = None


class RunState(Wire):
    """The current state of a run: `queued`, `running`, `succeeded` or `failed`; milliseconds.

    `userId` is the user who asked for the run, and `sessionId` the session that the run came from.
    `progress` is the title of the last report. `code` says why the run failed.
    """

    run_id: str
    user_id: str
    session_id: str | None = None
    title: str
    status: RunStatus
    progress: str | None = None
    code: RunFault | None = None
    error: str | None = None
    duration: int | None = None


class Conversion(Wire):
    """The session whose plan became the build."""

    from_session_id: str
    converted_at: datetime


class AiResponse(Wire):
    """A reply by the contract of its mode, with its main prose as `text`; or a template.

    `duration` and `firstTextMs` are milliseconds from the message to the reply's end, and to the
    first text that readers saw. `versionId` is the version of the project that the reply speaks of.
    """

    text: str | None = None
    data: Any = None
    subtype: str | None = None
    reason: str | None = None
    tokens_used: int | None = None
    duration: int | None = None
    first_text_ms: int | None = None
    billed_seconds: int | None = None
    version_id: str | None = None


class FirstEvent(Wire):
    """The worker's report with which the timeline began to show a build."""

    phase: str | None = None
    type: str
    title: str


class TimelineItem(Wire):
    """An item of a project's timeline; `cursor` names its event.

    `sessionMode` is what the session is for. An item with the `source` `client` was appended by a
    client, and the model was not asked. Its kind is `user_message` or `assistant_message`. An item
    of kind `material` is a text that the model is told.

    `userId` is who said it, or ordered it. `inReplyTo` is the `id` of the message that a reply
    answers. `locale` is the item's own, and `direction` the direction of its language. `text` and
    `firstEvent` belong to a `build_reference`. An item of kind `run` has the `id` of its run,
    the run's title as `text`, and its state as `run`. An item of kind `prompt_version` is a new
    version of a prompt: `text` is the beginning of its text, and `event` has `promptId`, `number`
    and `name`, and where there is one the `note` and the `sourceMessageId`, the reply that proposed
    it.

    An item of kind `unreadable` stands for an item that the service cannot show.
    """

    id: str
    cursor: str
    timestamp: datetime
    type: ItemType
    mode: Literal["plan", "build"]
    kind: ItemKind | Literal["unreadable"]
    chat_mode: str | None = None
    status: ItemStatus
    session_id: str | None = None
    session_mode: SessionMode | None = None
    source: Literal["client"] | None = None
    user_id: str | None = None
    in_reply_to: str | None = None
    locale: str | None = None
    direction: Direction | None = None
    text: str | None = None
    first_event: FirstEvent | None = None
    user_message: UserMessage | None = None
    ai_response: AiResponse | None = None
    build: BuildState | None = None
    run: RunState | None = None
    conversion: Conversion | None = None
    actions: list[ItemAction] | None = None
    event: Any = None


class LiveItem(TimelineItem):
    """An item in a stream; `prev` is the id of the event before it, null at the start.

    A reader has missed nothing when the `prev` of each event is the id of the event before it. An
    item that asked for a build, or of a run, comes again with the same `id` when it has changed.
    """

    prev: str | None


class Lock(Wire):
    """A build has locked the project, and messages are refused; without a build they are not."""

    active_build_id: str | None
    prev: str | None


class Erased(Wire):
    """The session, build, prompt, run, or message is erased: a client must forget its items."""

    session_id: str | None = None
    build_id: str | None = None
    prompt_id: str | None = None
    run_id: str | None = None
    message_id: str | None = None
    prev: str | None


class StreamEvent(NamedTuple):
    """A row in a stream: the event's name and its JSON. The actions of an item are apart, because
    each reader has them in a language of its own. `ends_session` says that a session is erased."""

    name: str
    json: bytes
    actions: "PlanActions | None" = None
    ends_session: bool = False


class PlanActions(NamedTuple):
    """The actions on a plan. `locale` is the plan's own, for readers that name no language."""

    is_convertible: bool
    locale: str

    def items(self, locale: str | None) -> list[ItemAction]:
        """The actions with labels in a reader's language."""
        return _labelled(self.is_convertible, language_of(locale or self.locale))

    def json(self, locale: str | None) -> bytes:
        """The same as JSON."""
        return orjson.dumps([dumped(each) for each in self.items(locale)])


def item(row: TimelineRow, locale: str | None = None) -> TimelineItem:
    """An item of the timeline; for a row that cannot be shown an item of kind `unreadable`.

    The labels of actions are in the language `locale`; without a `locale`, in the item's own.
    """
    try:
        orjson.dumps(row.data)  # JSON of PostgreSQL may have numbers that the answer cannot have
        actions = _plan_actions(row)
        return _readable(row, actions.items(locale) if actions else None)
    except Exception as error:  # noqa: BLE001 - one row must not take the other rows away
        return unreadable(row, error)


def size(row: TimelineRow) -> int:
    """About the bytes of a row's texts and data; of data that cannot be shown, none are sent."""
    try:
        return len(row.text or "") + len(orjson.dumps(row.data))
    except TypeError:
        return 0


def unreadable(row: TimelineRow, error: Exception) -> TimelineItem:
    """The item for a row that cannot be shown, so that readers see that they missed none."""
    UNREADABLE.inc()
    # Without the text of the error, which may quote what is in the row.
    _log.error("item_unreadable", position=row.position, error=type(error).__name__)
    is_of_build = row.mode == "build"
    return TimelineItem(
        id=row.item_id,
        cursor=row.cursor,
        timestamp=row.recorded_at,
        type="build_request" if is_of_build else "plan_message",
        mode="build" if is_of_build else "plan",
        kind="unreadable",
        status="failed",
    )


def stream_event(row: TimelineRow) -> StreamEvent:
    """A row in a stream. A change of a build or a run comes as the item that asked for it."""
    try:
        if row.kind == "lock":
            return StreamEvent("lock", _object(row.data))
        if row.kind == "erasure":
            return StreamEvent(
                "erased", _object(row.data), ends_session="sessionId" in (row.data or {})
            )
        shown = orjson.dumps(dumped(_readable(row.request or row, None)))
        return StreamEvent("item", shown, _plan_actions(row))
    except Exception as error:  # noqa: BLE001 - one row must not take the other rows away
        return StreamEvent("item", orjson.dumps(dumped(unreadable(row, error))))


def _object(data: Json) -> bytes:
    """A JSON object. Raises TypeError for other JSON."""
    if not isinstance(data, dict):
        raise TypeError("not an object")
    return orjson.dumps(data)


def _readable(row: TimelineRow, actions: list[ItemAction] | None) -> TimelineItem:
    said = row.kind == "user_message"
    answered = row.kind in ("reply", "system_message", "assistant_message", "material")
    of_build = row.kind == "build_reference"
    of_run = row.kind == "run"
    return TimelineItem(
        id=row.item_id,
        cursor=row.cursor,
        timestamp=row.recorded_at,
        type=_item_type(row),
        mode=row.mode,
        kind=cast(ItemKind, row.kind),
        chat_mode=row.chat_mode,
        status=_item_status(row),
        session_id=row.session_id,
        session_mode=row.session_mode,
        source=cast(Literal["client"] | None, row.source),
        user_id=row.user_id,
        in_reply_to=row.in_reply_to,
        locale=row.locale,
        direction=None if row.locale is None else direction_of(row.locale),
        text=row.text if of_build or of_run or row.kind == "prompt_version" else None,
        first_event=FirstEvent.model_validate(row.data) if of_build and row.data else None,
        user_message=UserMessage(text=row.text or "", session_id=row.session_id or "")
        if said
        else None,
        ai_response=AiResponse(
            text=_main_text(row),
            data=row.data,
            subtype=row.subtype,
            reason=row.reason,
            tokens_used=row.tokens_used,
            duration=row.duration_ms,
            first_text_ms=row.first_text_ms,
            billed_seconds=row.billed_seconds,
            version_id=row.version_id,
        )
        if answered
        else None,
        build=None if row.build is None else build_state(row.build),
        run=None if row.run is None else run_state(row.run),
        conversion=Conversion(
            from_session_id=row.converted_from_session_id, converted_at=row.recorded_at
        )
        if row.converted_from_session_id
        else None,
        actions=actions,
        event=None if said or answered or of_build or of_run else row.data,
    )


def _item_type(row: TimelineRow) -> ItemType:
    if row.kind == "deployment" or row.kind == "run":
        return row.kind
    return "plan_message" if row.mode == "plan" else "build_request"


def _item_status(row: TimelineRow) -> ItemStatus:
    if row.kind == "run":
        ended = None if row.run is None else row.run.status
        return ended if ended == "succeeded" or ended == "failed" else "in_progress"
    if row.mode == "plan":
        return "failed" if row.subtype == "error" else "planning"
    match None if row.build is None else row.build.status:
        case "succeeded":
            return "deployed"
        case "failed":
            return "failed"
        case _:
            return "deployed" if row.kind == "deployment" else "in_progress"


def _plan_actions(row: TimelineRow) -> PlanActions | None:
    return PlanActions(row.is_convertible, row.locale or "en") if row.is_plan else None


@cache
def _labelled(is_convertible: bool, language: Language) -> list[ItemAction]:
    return [
        ItemAction(
            type=kind,
            label=label(kind, language),
            enabled=is_convertible or kind != "convert_to_build",
        )
        for kind in PLAN_ACTIONS
    ]


def build_state(row: BuildRow) -> BuildState:
    """The state of a build for an item."""
    return BuildState(
        build_id=row.build_id,
        user_id=row.user_id,
        status=row.status,
        phase=row.phase,
        title=row.title,
        version_id=row.version_id,
        preview_url=row.preview_url,
        artifact_url=row.artifact_url,
        error=row.error,
        duration=row.duration_ms,
    )


def run_state(row: RunRow) -> RunState:
    """The state of a run for an item."""
    return RunState(
        run_id=row.run_id,
        user_id=row.user_id,
        session_id=row.session_id,
        title=row.title,
        status=row.status,
        progress=row.progress,
        code=row.code,
        error=row.error,
        duration=row.duration_ms,
    )


def _main_text(row: TimelineRow) -> str | None:
    """The main prose of a reply, None where a partial reply has none; or what was appended."""
    if row.kind in ("assistant_message", "material"):
        return row.text
    pointer = MAIN_TEXT.get(cast(ReplyMode, row.chat_mode)) if row.kind == "reply" else None
    data: dict[str, Any] = row.data or {}
    text = data.get(pointer.removeprefix("/")) if pointer else None
    return text if isinstance(text, str) else None
