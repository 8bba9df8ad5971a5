"""What is open to everyone: liveness and readiness."""

from typing import Literal

from service.wire import Wire


class Health(Wire):
    status: Literal["ok"] = "ok"


class ProjectionHealth(Wire):
    """A read model. `setAside` is the number of streams that it leaves out."""

    state: Literal["live", "behind", "halted"]
    position: int
    lag: int
    set_aside: int


class Readiness(Wire):
    """Whether the service can serve, how far the log is and its read models. `cursor` names the
    last event."""

    status: Literal["ready", "degraded"]
    head: int
    cursor: str
    projections: dict[str, ProjectionHealth]
