"""What a parent and its worker processes tell each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from service.settings import Settings

if TYPE_CHECKING:
    from service.cli.demo.first_run import Begun

Word: TypeAlias = Literal["listen", "stop", "stop at once"]
"""What a parent tells a worker process that is prepared."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker process gets at its start. It goes through a pipe, because it has secrets."""

    number: int
    """No two processes of a parent have the same number at the same time."""
    settings: Settings
    database_url: str
    direct_url: str
    sockets: tuple[int, ...]
    """The descriptors of the sockets that all workers share."""
    metrics: Path
    """The folder with the metrics of all workers."""
    demo_url: str | None
    """Where the service will be, for the one worker process that begins the demo."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a worker process tells its parent when it has everything that it needs to listen."""

    lease_id: int
    begun: "Begun | None"
    """The demo, where this process has begun the demo."""
