"""The CloudEvents SDK reads every event of a generated log, and refuses none."""

from datetime import UTC, datetime

import orjson
import pytest
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from service.eventlog.cloudevents import cloud_event
from service.eventlog.store import Recorded
from tests.projections.generated import World

MOMENT = datetime(2026, 11, 20, 10, 0, 0, 123456, tzinfo=UTC)


def recorded(count: int) -> list[Recorded]:
    """Events of every kind of stream, as the log has them."""
    made = [event for append in World(7).appends(count) for event in append]
    metadata = '{"requestId": "r1", "actor": "key:k1", "causationId": "c1"}'
    return [
        Recorded(
            position=n,
            tenant_id=event.tenant_id,
            stream_id=event.stream_id,
            version=event.version,
            type=event.type,
            schema_version=event.schema_version,
            project_id=event.project_id,
            state=event.state,
            metadata=metadata,
            recorded_at=MOMENT,
            append_tail=bytes.fromhex("0123abcd"),
        )
        for n, event in enumerate(made, 1)
    ]


def test_the_sdk_reads_every_event() -> None:
    for event in recorded(200):
        read = JSONFormat().read(CloudEvent, cloud_event(event, "0.00000000"))
        assert (read.get_id(), read.get_source()) == (
            event.cursor,
            f"/tenants/{event.tenant_id}",
        )
        assert (read.get_type(), read.get_subject()) == (event.type, event.stream_id)
        assert read.get_time() == MOMENT
        assert read.get_data() == orjson.loads(event.state)
        assert read.get_extension("actor") == "key:k1"
        assert read.get_extension("prev") == "0.00000000"


def test_the_sdk_reads_a_state_that_is_no_json() -> None:
    event = recorded(1)[0]._replace(type="OfAnotherApplication", state=b"\xff\x00")
    read = JSONFormat().read(CloudEvent, cloud_event(event, None))
    assert read.get_data() == b"\xff\x00"


def test_the_sdk_refuses_what_is_no_cloud_event() -> None:
    written = cloud_event(recorded(1)[0], None).replace(b'"streamversion"', b'"stream-v"')
    with pytest.raises(CloudEventValidationError):
        JSONFormat().read(CloudEvent, written)
