"""The sizes of a proof: small enough for every change, or large enough to be believed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """`clients`, `users` and `projects` are spread over the tenants. The load lasts at least
    `seconds`, and until all kills and freezes are done."""

    clients: int
    users: int
    projects: int
    processes: int
    seconds: float
    service_kills: int
    postgres_kills: int
    service_freezes: int
    limit_seconds: float
    """The time limit of the load, in seconds, until all replies have ended."""


SIZES: Final[Mapping[str, Size]] = {
    "small": Size(
        clients=6,
        users=6,
        projects=6,
        processes=2,
        seconds=8,
        service_kills=1,
        postgres_kills=1,
        service_freezes=1,
        limit_seconds=240,
    ),
    "large": Size(
        clients=32,
        users=24,
        projects=18,
        processes=3,
        seconds=480,
        service_kills=40,
        postgres_kills=20,
        service_freezes=15,
        limit_seconds=1_200,
    ),
}
