"""Makes the recorders that an application's environment asks for."""

from typing import Any, Final

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    ProcessRecorder,
    TrackingRecorder,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic, strtobool

from service.recorder.mapper import LogMapper
from service.recorder.recorders import (
    LogAggregateRecorder,
    LogApplicationRecorder,
    LogProcessRecorder,
    LogSnapshotRecorder,
    LogTrackingRecorder,
    library_errors,
)
from service.recorder.threaded_log import ThreadedLog


class Factory(InfrastructureFactory[TrackingRecorder]):
    """Makes recorders on one log. `close` ends its thread and connections."""

    DATABASE_URL: Final = "THROUGHLINE_DATABASE_URL"
    TENANT: Final = "THROUGHLINE_TENANT"
    ORIGINATOR_ID_TYPE: Final = "ORIGINATOR_ID_TYPE"
    CREATE_TABLE: Final = "CREATE_TABLE"

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        url = self.env.get(self.DATABASE_URL)
        if not url:
            raise OSError(f"{self.DATABASE_URL} is missing: the URL of Throughline's database")
        migrate = strtobool(self.env.get(self.CREATE_TABLE) or "yes")
        with library_errors():
            self._log = ThreadedLog(url, migrate=migrate)
        self._tenant_id = self.env.get(self.TENANT) or self.env.name.lower() or "eventsourcing"
        self._uuids = (self.env.get(self.ORIGINATOR_ID_TYPE) or "uuid") == "uuid"

    def mapper(self, transcoder: Any = None, mapper_class: Any = None) -> Any:
        """LogMapper, unless the caller or the environment names another mapper."""
        chosen = mapper_class or (None if self.env.get(self.MAPPER_TOPIC) else LogMapper)
        return super().mapper(transcoder, chosen)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """Streams of the log, or the snapshots beside it."""
        kind = LogSnapshotRecorder if purpose == "snapshots" else LogAggregateRecorder
        return kind(self._log, self._tenant_id, uuids=self._uuids)

    def application_recorder(self) -> ApplicationRecorder:
        """The application's events in their order."""
        chosen: ApplicationRecorder = self._chosen(
            self.APPLICATION_RECORDER_TOPIC, LogApplicationRecorder
        )
        return chosen

    def tracking_recorder(self, tracking_recorder_class: Any = None) -> Any:
        """Trackings, in a recorder of the given subclass of LogTrackingRecorder."""
        default = tracking_recorder_class or LogTrackingRecorder
        return self._chosen(
            "" if tracking_recorder_class else self.TRACKING_RECORDER_TOPIC, default
        )

    def process_recorder(self) -> ProcessRecorder:
        """Events and trackings."""
        chosen: ProcessRecorder = self._chosen(self.PROCESS_RECORDER_TOPIC, LogProcessRecorder)
        return chosen

    def _chosen(self, setting: str, default: Any) -> Any:
        topic = self.env.get(setting) if setting else None
        kind: Any = resolve_topic(topic) if topic else default
        return kind(self._log, self._tenant_id, uuids=self._uuids)

    def __exit__(self, *args: Any) -> None:
        """Close the factory. A projection runner does nothing else at its end."""
        super().__exit__(*args)
        self.close()

    def close(self) -> None:
        """Write the appends that wait, then end the thread and the connections."""
        self._log.close()
