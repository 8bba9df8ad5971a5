"""The log as a persistence module of the `eventsourcing` library.

With `PERSISTENCE_MODULE=service.recorder` and `THROUGHLINE_DATABASE_URL`, the library's aggregates,
applications, notification logs and projection runners work on the same table, through the same
writer, in the same order as everything else. Each application is a tenant of its own. Its name is
the tenant's, unless `THROUGHLINE_TENANT` says otherwise, so that an application sees the events of
another application only on purpose.

The library's words and ours: an originator id is a stream, an originator version is a version, a
notification id is a position, a topic is a type.
"""

from service.recorder.factory import Factory
from service.recorder.mapper import Envelope, LogMapper
from service.recorder.recorders import (
    LogAggregateRecorder,
    LogApplicationRecorder,
    LogProcessRecorder,
    LogSnapshotRecorder,
    LogSubscription,
    LogTrackingRecorder,
)

__all__ = [
    "Envelope",
    "Factory",
    "LogAggregateRecorder",
    "LogApplicationRecorder",
    "LogMapper",
    "LogProcessRecorder",
    "LogSnapshotRecorder",
    "LogSubscription",
    "LogTrackingRecorder",
]
