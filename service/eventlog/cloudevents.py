"""An event of the log as a CloudEvent 1.0 in JSON.

By the specification (github.com/cloudevents/spec, v1.0.2): `source` and `id` together name an
event (spec.md, "REQUIRED Attributes"); the names of attributes, extensions too, are lower-case
letters and digits, and an integer has 32 bits (spec.md, "Naming Conventions" and "Type System"), so
a position is a string; extensions stand beside the other members, what is null counts as not there
(json-format.md, 2 and 2.2), and `data` is JSON itself, or `data_base64` where the bytes are none
(json-format.md, 3.1.1); `traceparent` is the trace of the request that the event comes from
(extensions/distributed-tracing.md).
"""

from base64 import b64encode
from datetime import UTC
from typing import Any, Final, cast
from urllib.parse import quote

import orjson

from domain.events import EVENT_TYPES
from service.eventlog.store import Recorded

_NAMES: Final = {
    "requestId": "requestid",
    "actor": "actor",
    "traceparent": "traceparent",
}
"""The metadata that a CloudEvent has, with the names of the extensions."""


def cloud_event(event: Recorded, prev: str | None) -> bytes:
    """The event in JSON; `prev` is the cursor of the feed's event before it, None if it has none.

    `id` is the cursor, so no other event has it, whatever history of the log it is from.
    """
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": event.cursor,
            "source": f"/tenants/{quote(event.tenant_id, safe='')}",
            "type": event.type,
            "subject": event.stream_id,
            "time": event.recorded_at.astimezone(UTC),
            "position": str(event.position),
            "streamversion": event.version,
            "schemaversion": event.schema_version,
            **({} if event.project_id is None else {"projectid": event.project_id}),
            "cursor": event.cursor,
            "prev": prev,
            **_circumstances(event.metadata),
            **_content(event),
        },
        option=orjson.OPT_UTC_Z,
    )


def _circumstances(metadata: str) -> dict[str, str]:
    known: Any = orjson.loads(metadata)
    if not isinstance(known, dict):
        return {}
    found = {name: cast(dict[str, Any], known).get(key) for key, name in _NAMES.items()}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _content(event: Recorded) -> dict[str, Any]:
    """The state. Other applications may keep states in the log that are not JSON."""
    if event.type in EVENT_TYPES or _is_json(event.state):
        return {"datacontenttype": "application/json", "data": orjson.Fragment(event.state)}
    encoded = b64encode(event.state).decode()
    return {"datacontenttype": "application/octet-stream", "data_base64": encoded}


def _is_json(state: bytes) -> bool:
    try:
        orjson.loads(state)
    except orjson.JSONDecodeError:
        return False
    return True
