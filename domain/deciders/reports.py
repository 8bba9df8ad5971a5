"""What builds and runs share: one worker claims the work and reports on it, each report once.

Reports come in any order, new or repeated. A report is known by its id. The first end stays.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeVar

from domain.errors import Refused

MAX_REPORTS: Final = 5_000
"""The most reports of one build or run. The report of its end is stored even beyond them."""

Status = Literal["new", "queued", "running", "succeeded", "failed", "erased"]


@dataclass(frozen=True, slots=True)
class Seen:
    """An immutable set of ids. To add an id does not copy the whole set.

    The set consists of parts of shrinking size. The last two parts are merged when they are of the
    same size, so that n additions copy about n log n ids.
    """

    parts: tuple[frozenset[str], ...] = ()

    def __contains__(self, event_id: str) -> bool:
        return any(event_id in part for part in self.parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def with_id(self, event_id: str) -> "Seen":
        """The set with one more id."""
        if event_id in self:
            return self
        parts = [*self.parts, frozenset((event_id,))]
        while len(parts) > 1 and len(parts[-2]) <= len(parts[-1]):
            last = parts.pop()
            parts[-1] |= last
        return Seen(tuple(parts))


NONE: Final = Seen()
"""No id."""


class _Work(Protocol):
    """The state of a build or a run. `seen` are the ids of its reports."""

    @property
    def status(self) -> Status: ...
    @property
    def worker_id(self) -> str | None: ...
    @property
    def seen(self) -> Seen: ...


class _Report(Protocol):
    """A report with its id. `ends` says whether it ends the work."""

    @property
    def event_id(self) -> str: ...
    @property
    def ends(self) -> bool: ...


S = TypeVar("S", bound=_Work)
R = TypeVar("R", bound=_Report)
E = TypeVar("E")


def has_ended(state: _Work) -> bool:
    """Whether the work has ended. Its end never changes."""
    return state.status in ("succeeded", "failed")


def is_open(state: _Work) -> bool:
    """Whether the work waits for a worker, or runs."""
    return state.status in ("queued", "running")


def is_known(state: _Work) -> bool:
    """Whether there is such work, and it was not erased."""
    return state.status not in ("new", "erased")


def is_new_claim(
    state: _Work, worker_id: str, *, taken: Callable[[], Refused], ended: Callable[[str], Refused]
) -> bool:
    """Whether the worker gets the work now; false where the worker has the work already.

    Raises `taken` where another worker has the work, and `ended` with the status after its end.
    """
    if has_ended(state):
        raise ended(state.status)
    if state.worker_id not in (None, worker_id):
        raise taken()
    return state.worker_id is None


def each_once(
    state: S,
    reports: Sequence[R],
    *,
    decide: Callable[[S, R], tuple[E, ...]],
    fold: Callable[[Iterable[E], S], S],
    full: Callable[[int], Refused],
) -> tuple[E, ...]:
    """The events of the reports that are new: `decide` makes the events of one report.

    Raises `full` with the limit for a report beyond MAX_REPORTS that ends nothing.
    """
    decided: list[E] = []
    for report in reports:
        if report.event_id in state.seen:
            continue
        if len(state.seen) >= MAX_REPORTS and not report.ends:
            raise full(MAX_REPORTS)
        events = decide(state, report)
        state = fold(events, state)
        decided += events
    return tuple(decided)
