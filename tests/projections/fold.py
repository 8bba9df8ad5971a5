"""The read models once more, in plain Python: an event at a time, nothing shared with their SQL.

This is the oracle. It reads the log as it is stored and knows neither the deciders nor a database.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import orjson

from service.eventlog.store import Recorded
from tests.projections.stems import LANGUAGES, stems, texts

Row = dict[str, Any]
Key = tuple[Any, ...]
Table = dict[Key, Row]
Step = Callable[[Table, Recorded, Mapping[str, Any]], None]


def rows(name: str, log: Iterable[Recorded]) -> list[Row]:
    """The rows of a read model after these events, by key."""
    _, step = MODELS[name]
    table: Table = {}
    _POSITIONS.clear()
    _PRIVATE.clear()
    _MATERIALS.clear()
    for event in log:
        state = orjson.loads(event.state)
        _POSITIONS[event.tenant_id, event.stream_id, event.version] = event.position
        if event.type == "SessionOpened" and state["mode"] == "prompt":
            _PRIVATE[event.tenant_id, event.stream_id] = state["user_id"]
        if event.type == "MaterialAdded":
            material = (event.tenant_id, state["session_id"], state["message_id"])
            _MATERIALS[material] = event.position
        step(table, event, state)
    return [table[at] for at in sorted(table)]


def key_of(name: str) -> tuple[str, ...]:
    """The columns that a row of the read model is known by."""
    return MODELS[name][0]


_BUILT: Final = ("build_reference", "deployment", "build_status")
_SAID: Final = (
    *("user_message", "reply", "system_message", "assistant_message", "material", "session"),
)
_OF_RUN: Final = ("run", "run_status")
_DETAILS: Final = (
    *("SessionDescribed", "SessionTagged", "SessionStarred", "SessionUnstarred"),
    *("SessionInstructed", "SessionPlaced"),
)
_CONTEXT: Final = {
    "run_id": "runId",
    "step_id": "stepId",
    "candidate_id": "candidateId",
    "prompt_id": "promptId",
    "prompt_version_id": "promptVersionId",
    "version_id": "versionId",
    "build_id": "buildId",
}
_BLANK: Final[Row] = {
    **dict.fromkeys(("name", "description", "first_words"), ""),
    "tags": [],
    "settings": None,
    "answers": None,
}


def _drop(table: Table, **which: Any) -> None:
    """Take out the rows that have these values, or one of these where there are several."""
    for key, row in list(table.items()):
        if all(
            row[name] in value if isinstance(value, tuple) else row[name] == value
            for name, value in which.items()
        ):
            del table[key]


_POSITIONS: Final[dict[tuple[str, str, int], int]] = {}
"""The positions of the events so far, by tenant, stream and version."""

_MATERIALS: Final[dict[tuple[str, str, str], int]] = {}
"""The positions of the materials so far, by tenant, session and id."""

_PRIVATE: Final[dict[tuple[str, str], str]] = {}
"""The users of the private sessions so far, by tenant and stream."""


def _private_to(event: Recorded) -> str:
    """The one user who may see the session of this event; empty for all other events."""
    return _PRIVATE.get((event.tenant_id, event.stream_id), "")


def _beginning(text: str, most: int) -> str:
    line = re.sub("[ \t\n\r\f\v]+", " ", text[: 4 * most]).strip(" ")
    if len(line) <= most:
        return line
    found = re.match(f"(.{{{most // 2},}}) ", line[: most + 1], re.DOTALL)
    return (found[1] if found else line[:most]) + "…"


def _drop_prompt(table: Table, tenant_id: str, prompt_id: str) -> None:
    """Take out the items of the prompt's versions."""
    shown = [each["data"] for each in table.values() if each["kind"] == "prompt_version"]
    for data in shown:
        if data["promptId"] == prompt_id:
            _drop(table, tenant_id=tenant_id, kind="prompt_version", data=data)


def _timeline(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    row = {
        "position": event.position,
        "tenant_id": event.tenant_id,
        "project_id": event.project_id,
        "private_to": _private_to(event),
        "mode": "plan",
        "item_id": state.get("message_id", str(event.position)),
        "kind": "session",
        "is_visible": True,
        "is_live": False,
        "session_id": state.get("session_id"),
        "user_id": state.get("user_id"),
        "chat_mode": None,
        "in_reply_to": state.get("in_reply_to"),
        "locale": state.get("locale"),
        "source": state.get("source"),
        "text": None,
        "data": None,
        "subtype": None,
        "tokens_used": None,
        "duration_ms": state.get("duration_ms"),
        "first_text_ms": state.get("first_text_ms"),
        "billed_seconds": None,
        "version_id": None,
        **dict.fromkeys(("reason", "warnings", "resets", "retries")),
        "build_id": None,
        "converted_from_session_id": state.get("converted_from_session_id"),
        "recorded_at": event.recorded_at,
    }
    of_build = {"mode": "build", "build_id": state.get("build_id")}
    match event.type:
        case "UserMessagePosted":
            same = ("mode", "chat_mode", "text", "build_id")
            row |= {"kind": "user_message", **{name: state[name] for name in same}}
        case "AssistantMessageAdded":
            row |= {"kind": "assistant_message", "text": state["text"], "source": "client"}
        case "MaterialAdded":
            row |= {"kind": "material", "text": state["text"], "data": {"kind": state["kind"]}}
        case "ReplyCompleted":
            row |= {
                "kind": "reply",
                "chat_mode": state["mode"],
                "data": state["data"],
                "subtype": state["subtype"],
                **{name: state[name] for name in ("tokens_used", "reason", "warnings")},
                **{name: state[name] for name in ("resets", "retries")},
                "billed_seconds": state["billed_seconds"],
                "version_id": state["version_id"],
            }
        case "ReplyFailed":
            row |= {"kind": "reply", "data": {"code": state["code"]}, "subtype": "error"}
            row |= {name: state[name] for name in ("resets", "retries")}
            row |= {"chat_mode": state["mode"], "billed_seconds": 0}
        case "SystemMessagePosted":
            said = {"contractVersion": state["contract_version"]}
            said |= {name: state[name] for name in ("type", "template", "variables")}
            row |= {"kind": "system_message", "data": said, "is_visible": state["visible"]}
            row |= {name: state[name] for name in ("mode", "build_id")}
        case "BuildReferenced":
            first = {"phase": "development", "type": "progress", "title": state["title"]}
            row |= {"kind": "build_reference", "text": state["title"], "data": first, **of_build}
        case "VersionDeployed":
            row |= {"kind": "deployment", "item_id": state["version_id"], **of_build}
        case "BuildClaimed" | "BuildSucceeded" | "BuildFailed":
            row |= {"kind": "build_status", "is_visible": False, "is_live": True, **of_build}
        case "ProjectLocked" | "ProjectUnlocked":
            active = state["build_id"] if event.type == "ProjectLocked" else None
            row |= {"kind": "lock", "mode": "build", "is_visible": False, "is_live": True}
            row |= {"data": {"activeBuildId": active}}
        case "PromptVersionAdded":
            data = {"promptId": state["prompt_id"]}
            data |= {name: state[name] for name in ("number", "name", "note")}
            data |= {"sourceMessageId": state["source_message_id"]}
            row |= {"kind": "prompt_version", "item_id": state["prompt_version_id"]}
            row |= {"data": {name: value for name, value in data.items() if value is not None}}
            row |= {"text": state["text"][:200], "session_id": state["source_session_id"]}
        case "PromptErasureRequested":
            _drop_prompt(table, event.tenant_id, state["prompt_id"])
            return
        case "PromptErased":
            _drop_prompt(table, event.tenant_id, state["prompt_id"])
            row |= {"kind": "erasure", "is_visible": False, "is_live": True}
            row |= {"data": {"promptId": state["prompt_id"]}}
        case "SessionDeleted":
            kinds = (*_SAID, "erasure")
            _drop(table, tenant_id=event.tenant_id, session_id=state["session_id"], kind=kinds)
            row |= {"kind": "erasure", "is_visible": False, "is_live": True}
            row |= {"data": {"sessionId": state["session_id"]}}
        case "MaterialErased":
            own = {"session_id": state["session_id"], "item_id": state["message_id"]}
            _drop(table, tenant_id=event.tenant_id, kind="material", **own)
            row |= {"kind": "erasure", "is_visible": False, "is_live": True}
            row |= {"data": {"messageId": state["message_id"]}}
        case "RunQueued" | "RunClaimed" | "RunSucceeded" | "RunFailed" | "RunErased":
            row |= {"item_id": state["run_id"], "kind": "run", "session_id": None}
            if event.type == "RunQueued":
                row["text"] = state["title"]
            else:
                row |= {"kind": "run_status", "is_visible": False, "is_live": True}
            if event.type == "RunErased":
                _drop(table, tenant_id=event.tenant_id, item_id=state["run_id"], kind=_OF_RUN)
                row |= {"kind": "erasure", "data": {"runId": state["run_id"]}}
        case "BuildErased":
            _drop(table, tenant_id=event.tenant_id, build_id=state["build_id"], kind=_BUILT)
            row |= {"kind": "erasure", "is_visible": False, "is_live": True, **of_build}
            row |= {"data": {"buildId": state["build_id"]}}
        case "ProjectErased":
            _drop(table, tenant_id=event.tenant_id, project_id=event.project_id)
            return
        case "PlanSaved":
            kept = {"event": event.type, "messageId": state["message_id"]}
            row |= {"is_visible": False, "data": kept}
        case "SessionModeChanged":
            row |= {"is_visible": False, "data": {"event": event.type, "mode": state["mode"]}}
        case "SessionRenamed":
            row |= {"is_visible": False, "data": {"event": event.type, "name": state["name"]}}
        case name if name.startswith("Session") and name not in _DETAILS:
            row |= {"is_visible": False, "data": {"event": name}}
        case _:
            return
    table[event.position,] = row


def _sessions(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    key = (event.tenant_id, state.get("session_id"))
    if event.type == "SessionOpened":
        stream_id = f"session-{state.get('forked_from_session_id')}"
        parent = (event.tenant_id, stream_id, state.get("forked_from_version", 0))
        table[key] = {
            "tenant_id": event.tenant_id,
            "session_id": state["session_id"],
            "project_id": state["project_id"],
            "user_id": state["user_id"],
            "private_to": _private_to(event),
            "name": state.get("name") or "",
            "description": "",
            "tags": [],
            "is_starred": False,
            "mode": state["mode"],
            "status": "active",
            "context": {wire: state[key] for key, wire in _CONTEXT.items() if state.get(key)},
            **dict.fromkeys(("model", "max_tokens", "settings")),
            **dict.fromkeys(("prompt_id", "prompt_version_id", "prompt_number", "answers")),
            "forked_from_session_id": state.get("forked_from_session_id"),
            "forked_from_message_id": state.get("forked_from_message_id"),
            "forked_at": _POSITIONS.get(parent),
            "first_words": "",
            "message_count": 0,
            "item_count": 0,
            "tokens_used": 0,
            "ai_seconds": 0,
            "cost_usd": Decimal(0),
            "build_id": None,
            "opened_at": event.recorded_at,
            "last_active_at": event.recorded_at,
            "active_position": event.position,
            "active_block": event.position // 256,
            "last_position": event.position,
        }
        return
    if key not in table:
        return
    row = table[key]
    match event.type:
        case "UserMessagePosted" | "AssistantMessageAdded":
            row["message_count"] += 1
            row["first_words"] = row["first_words"] or _beginning(state["text"], 50)
            row["item_count"] += 1
            row |= _active_at(event)
        case "ReplyCompleted" | "ReplyFailed":
            row["item_count"] += 1
            row |= _active_at(event)
        case "TimeConsumed":
            kinds = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
            row["tokens_used"] += sum(state[kind] or 0 for kind in kinds)
            row["ai_seconds"] += state["seconds"]
            row["cost_usd"] += Decimal(state["cost_usd"] or 0)
        case "SessionRenamed":
            row["name"] = state["name"]
        case "SessionDescribed":
            row["description"] = state["description"]
        case "SessionTagged":
            row["tags"] = state["tags"]
        case "SessionStarred" | "SessionUnstarred":
            row["is_starred"] = event.type == "SessionStarred"
        case "SessionModeChanged":
            row["mode"] = state["mode"]
        case "SessionInstructed":
            row |= {name: state[name] for name in ("model", "max_tokens", "settings")}
            row |= {name: state[name] for name in ("prompt_id", "prompt_version_id")}
            row |= {name: state[name] for name in ("prompt_number", "answers")}
        case "SessionResumed":
            row["status"] = "active"
        case "SessionConverted" | "SessionArchived" | "SessionExpired" | "SessionDeleted":
            row["status"] = event.type.removeprefix("Session").lower()
            row |= _BLANK if row["status"] == "deleted" else {}
            row["build_id"] = state.get("build_id", row["build_id"])
        case "SessionRestored":
            row["status"] = "active" if row["build_id"] is None else "converted"
            row |= _active_at(event)
        case _:
            return
    row["last_position"] = event.position


def _active_at(event: Recorded) -> Row:
    return {
        "last_active_at": event.recorded_at,
        "active_position": event.position,
        "active_block": event.position // 256,
    }


def _accounts(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    if event.type not in ("TimeCredited", "TimeReserved", "TimeConsumed", "ReservationReleased"):
        return
    key = (event.tenant_id, state["user_id"])
    row = table.setdefault(
        key,
        {
            "tenant_id": event.tenant_id,
            "user_id": state["user_id"],
            "credited_seconds": 0,
            "bonus_seconds": 0,
            "consumed_seconds": 0,
            "reserved_seconds": 0,
        },
    )
    match event.type:
        case "TimeCredited":
            row["credited_seconds"] += state["seconds"]
            row["bonus_seconds"] += state["seconds"] if state["kind"] == "bonus" else 0
        case "TimeReserved":
            row["reserved_seconds"] += state["seconds"]
        case "TimeConsumed":
            row["reserved_seconds"] -= state["held_seconds"]
            row["consumed_seconds"] += state["seconds"]
        case _:
            row["reserved_seconds"] -= state["held_seconds"]
    row["last_position"] = event.position


def _consumption(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    if event.type != "TimeConsumed":
        return
    same = ("user_id", "project_id", "session_id", "message_id", "reservation_id", "model")
    counts = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    cost = state["cost_usd"]
    table[event.position,] = {
        "position": event.position,
        "tenant_id": event.tenant_id,
        **{name: state[name] for name in (*same, *counts, "build_id", "prices")},
        "operation_type": state["operation"],
        "billed_seconds": state["seconds"],
        "bonus_seconds": state["bonus_seconds"],
        "cost_usd": None if cost is None else Decimal(cost),
        "recorded_at": event.recorded_at,
    }


def _projects(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    key = (event.tenant_id, state.get("project_id"))
    match event.type:
        case "ProjectRegistered":
            same = ("project_id", "name", "framework", "source_root")
            table[key] = {
                "tenant_id": event.tenant_id,
                **{name: state[name] for name in same},
                "registered_at": event.recorded_at,
                "registered_position": event.position,
                "active_build_id": None,
                "last_build_id": None,
                "version_id": None,
                "modified_at": event.recorded_at,
                "erasing_since": None,
            }
        case _ if key not in table:
            pass
        case "ProjectDescribed":
            table[key] |= {name: state[name] for name in ("name", "framework", "source_root")}
        case "ProjectErasureRequested":
            table[key] |= {"name": "", "framework": None, "source_root": None}
            table[key] |= {"erasing_since": event.recorded_at}
        case "ProjectErased":
            del table[key]
        case "ProjectLocked":
            table[key] |= dict.fromkeys(("active_build_id", "last_build_id"), state["build_id"])
        case "ProjectUnlocked":
            table[key]["active_build_id"] = None
        case "VersionDeployed":
            table[key] |= {"version_id": state["version_id"], "modified_at": event.recorded_at}
        case _:
            pass


def _members(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    key = (event.tenant_id, state.get("project_id"), state.get("user_id"))
    if event.type == "MemberAdded":
        table[key] = {
            "tenant_id": event.tenant_id,
            "project_id": state["project_id"],
            "user_id": state["user_id"],
            "role": state["role"],
            "since": event.recorded_at,
        }
    elif event.type == "MemberRemoved":
        del table[key]
    elif event.type == "ProjectErasureRequested":
        _drop(table, tenant_id=event.tenant_id, project_id=state["project_id"])


def _replies(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    key = (event.tenant_id, state.get("message_id"))
    if event.type == "ReplyStarted":
        table[key] = {
            "tenant_id": event.tenant_id,
            "message_id": state["message_id"],
            "project_id": event.project_id,
            "session_id": state["session_id"],
            "private_to": _private_to(event),
            "epoch": state["epoch"],
            "started_at": event.recorded_at,
            "started_position": event.position,
            "ended_position": None,
        }
    elif event.type in ("ReplyCompleted", "ReplyFailed"):
        table[key]["ended_position"] = event.position
    elif event.type == "SessionDeleted":
        _drop(table, tenant_id=event.tenant_id, session_id=state["session_id"])


def _builds(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    key = (event.tenant_id, state.get("build_id"))
    if event.type == "BuildQueued":
        same = ("build_id", "project_id", "session_id", "message_id", "user_id", "prompt", "locale")
        table[key] = {
            "tenant_id": event.tenant_id,
            **{name: state[name] for name in (*same, "plan", "converted_from_session_id")},
            "operation": state["operation"],
            "status": "queued",
            **dict.fromkeys(("worker_id", "phase", "title", "version_id", "preview_url")),
            **dict.fromkeys(("artifact_url", "code", "error", "claimed_at", "ended_at")),
            "queued_at": event.recorded_at,
            "heard_at": event.recorded_at,
            "queued_position": event.position,
        }
        return
    changes: dict[str, Any] = {}
    match event.type:
        case "BuildErased":
            del table[key]
            return
        case "BuildClaimed":
            changes = {"worker_id": state["worker_id"], "claimed_at": event.recorded_at}
        case "BuildProgressed":
            changes = {name: state[name] for name in ("phase", "title")}
        case "BuildFailed":
            changes = {name: state[name] for name in ("code", "error")}
            changes |= {"status": "failed", "ended_at": event.recorded_at}
        case "VersionDeployed":
            changes = {name: state[name] for name in ("version_id", "preview_url", "artifact_url")}
            changes |= {"status": "succeeded", "ended_at": event.recorded_at}
        case _:
            return
    row = table[key]
    running = {"status": "running"} if row["status"] == "queued" else {}
    table[key] = row | running | changes | {"heard_at": event.recorded_at}


def _build_events(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    if event.type == "BuildProgressed":
        at = datetime.fromisoformat(state["at"])
        told = {"position": event.position, "tenant_id": event.tenant_id, **state, "at": at}
        key = (event.tenant_id, state["build_id"], event.position)
        table[key] = told | {"recorded_at": event.recorded_at}
    elif event.type == "BuildErased":
        _drop(table, tenant_id=event.tenant_id, build_id=state["build_id"])


def _versions(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    if event.type == "VersionDeployed":
        same = ("build_id", "project_id", "version_id", "preview_url", "artifact_url")
        table[event.tenant_id, state["build_id"]] = {
            "tenant_id": event.tenant_id,
            **{name: state[name] for name in same},
            "deployed_at": event.recorded_at,
            "position": event.position,
        }
    elif event.type == "BuildErased":
        table.pop((event.tenant_id, state["build_id"]), None)


def _drafts(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    if event.type == "PlanSaved":
        table[event.tenant_id, state["message_id"]] = {
            "tenant_id": event.tenant_id,
            "project_id": event.project_id,
            **state,
            "saved_at": event.recorded_at,
            "position": event.position,
        }
    elif event.type == "SessionDeleted":
        _drop(table, tenant_id=event.tenant_id, session_id=state["session_id"])


def _shares(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    key = (event.tenant_id, state.get("share_id"))
    if event.type == "PlanShared":
        table[key] = {
            "tenant_id": event.tenant_id,
            "project_id": event.project_id,
            **state,
            "shared_at": event.recorded_at,
            "expires_at": datetime.fromisoformat(state["expires_at"]),
            "position": event.position,
        }
    elif event.type == "ShareRevoked":
        table.pop(key, None)
    elif event.type == "SessionDeleted":
        _drop(table, tenant_id=event.tenant_id, session_id=state["session_id"])


def _words(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    is_name = event.type in ("SessionOpened", "SessionRenamed")
    own = {"tenant_id": event.tenant_id, "session_id": state.get("session_id")}
    if event.type == "SessionDeleted":
        _drop(table, **own)
    elif event.type == "ProjectErased":
        _drop(table, tenant_id=event.tenant_id, project_id=event.project_id)
    elif event.type == "MaterialErased":
        at = _MATERIALS.get((event.tenant_id, state["session_id"], state["message_id"]))
        _drop(table, **own, position=at)
    elif event.type == "SessionRenamed":
        _drop(table, **own, language="")
    elif not is_name and event.type not in (
        *("UserMessagePosted", "AssistantMessageAdded", "MaterialAdded", "ReplyCompleted"),
    ):
        return
    said = state.get("name") if is_name else state.get("text")
    locale = state.get("locale") or ("en" if event.type == "ReplyCompleted" else "")
    language = "" if is_name else LANGUAGES.get(locale.partition("-")[0], "simple")
    found = stems(language, "\n".join((said or "", *texts(state.get("data")))))
    if found:
        table[event.tenant_id, event.project_id, event.position] = {
            **own,
            "project_id": event.project_id,
            "position": event.position,
            "private_to": _private_to(event),
            "language": language,
            "stems": found,
        }


def _runs(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    key = (event.tenant_id, state.get("run_id"))
    if event.type == "RunQueued":
        same = ("run_id", "project_id", "user_id", "session_id", "title", "prompt_version_id")
        table[key] = {
            "tenant_id": event.tenant_id,
            **{name: state[name] for name in (*same, "answers", "settings", "input")},
            "status": "queued",
            **dict.fromkeys(("worker_id", "progress", "summary", "code", "error")),
            **dict.fromkeys(("seconds", "tokens", "claimed_at", "ended_at")),
            "findings": [],
            "queued_at": event.recorded_at,
            "heard_at": event.recorded_at,
            "queued_position": event.position,
        }
        return
    changes: dict[str, Any] = {}
    match event.type:
        case "RunErased":
            del table[key]
            return
        case "RunClaimed":
            changes = {"worker_id": state["worker_id"], "claimed_at": event.recorded_at}
        case "RunProgressed" | "RunStepReported" | "RunCandidateReported":
            changes = {"progress": state["title"]}
        case "RunSucceeded" | "RunFailed":
            told = ("summary", "findings", "seconds", "tokens")
            changes = {name: state[name] for name in told} | {"ended_at": event.recorded_at}
            changes |= {"status": event.type.removeprefix("Run").lower()}
            changes |= {"progress": state["title"]} if state["title"] is not None else {}
            if event.type == "RunFailed":
                changes |= {name: state[name] for name in ("code", "error")}
        case _:
            return
    row = table[key]
    running = {"status": "running"} if row["status"] == "queued" else {}
    table[key] = row | running | changes | {"heard_at": event.recorded_at}


def _run_steps(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    _run_parts(table, event, state, "RunStepReported", "step_id", {})


def _run_candidates(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    _run_parts(table, event, state, "RunCandidateReported", "candidate_id", {"scores": {}})


def _run_parts(
    table: Table, event: Recorded, state: Mapping[str, Any], kind: str, named: str, blank: Row
) -> None:
    if event.type == "RunErased":
        _drop(table, tenant_id=event.tenant_id, run_id=state["run_id"])
    if event.type != kind:
        return
    key = (event.tenant_id, state["run_id"], state[named])
    told = {name: value for name, value in state.items() if name != "event_id"}
    told |= {"at": datetime.fromisoformat(state["at"]), "recorded_at": event.recorded_at}
    first = {"tenant_id": event.tenant_id, "position": event.position, **dict.fromkeys(told)}
    row = table.get(key, first | blank)
    if "scores" in told:
        told["scores"] = row["scores"] | (told["scores"] or {})
    table[key] = row | {name: value for name, value in told.items() if value is not None}


def _prompts(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    key = (event.tenant_id, state.get("prompt_id"))
    if event.type == "PromptCreated":
        table[key] = {
            "tenant_id": event.tenant_id,
            **{name: state[name] for name in ("prompt_id", "project_id", "user_id", "name")},
            "status": "active",
            "versions": 0,
            "created_at": event.recorded_at,
            "active_at": event.recorded_at,
            "active_position": event.position,
        }
        return
    match event.type:
        case "PromptVersionAdded":
            at = {"active_at": event.recorded_at, "active_position": event.position}
            table[key] |= {"versions": state["number"], **at}
        case "PromptRenamed":
            table[key]["name"] = state["name"]
        case "PromptArchived":
            table[key]["status"] = "archived"
        case "PromptRestored":
            table[key]["status"] = "active"
        case "PromptErasureRequested":
            table[key] |= {"status": "erasing", "name": ""}
        case "PromptErased":
            del table[key]
        case _:
            pass


def _prompt_versions(table: Table, event: Recorded, state: Mapping[str, Any]) -> None:
    if event.type == "PromptVersionAdded":
        same = ("prompt_id", "number", "prompt_version_id", "user_id", "text", "placeholders")
        more = ("note", "source_session_id", "source_message_id")
        table[event.tenant_id, state["prompt_id"], state["number"]] = {
            "tenant_id": event.tenant_id,
            "project_id": event.project_id,
            **{name: state[name] for name in (*same, *more)},
            "created_at": event.recorded_at,
            "position": event.position,
        }
    elif event.type in ("PromptErasureRequested", "PromptErased"):
        _drop(table, tenant_id=event.tenant_id, prompt_id=state["prompt_id"])


MODELS: Final[Mapping[str, tuple[tuple[str, ...], Step]]] = {
    "timeline": (("position",), _timeline),
    "sessions": (("tenant_id", "session_id"), _sessions),
    "accounts": (("tenant_id", "user_id"), _accounts),
    "consumption": (("position",), _consumption),
    "projects": (("tenant_id", "project_id"), _projects),
    "members": (("tenant_id", "project_id", "user_id"), _members),
    "replies": (("tenant_id", "message_id"), _replies),
    "builds": (("tenant_id", "build_id"), _builds),
    "build_events": (("tenant_id", "build_id", "position"), _build_events),
    "versions": (("tenant_id", "build_id"), _versions),
    "drafts": (("tenant_id", "message_id"), _drafts),
    "shares": (("tenant_id", "share_id"), _shares),
    "words": (("tenant_id", "project_id", "position"), _words),
    "runs": (("tenant_id", "run_id"), _runs),
    "run_steps": (("tenant_id", "run_id", "step_id"), _run_steps),
    "run_candidates": (("tenant_id", "run_id", "candidate_id"), _run_candidates),
    "prompts": (("tenant_id", "prompt_id"), _prompts),
    "prompt_versions": (("tenant_id", "prompt_id", "number"), _prompt_versions),
}
