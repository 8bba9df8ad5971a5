"""The streams of the log: what each kind is called, and how its events become a state."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Generic, TypeAlias, TypeVar, get_args

from domain.deciders import account, build, idempotency, place, project, prompt, run, session
from domain.deciders.account import Account
from domain.deciders.build import Build
from domain.deciders.place import SessionPlace
from domain.deciders.project import Project
from domain.deciders.prompt import Prompt
from domain.deciders.run import Run
from domain.deciders.session import Session
from domain.events import (
    AccountEvent,
    BuildEvent,
    PlaceEvent,
    ProjectEvent,
    PromptEvent,
    RequestEvent,
    RunEvent,
    SessionEvent,
)

S = TypeVar("S")
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Snapshots(Generic[S]):
    """How the states of a kind of stream are kept: as JSON objects of their fields.

    `form` names the fields and the rules of the state; snapshots of another form are not read.

    An erasure changes no snapshot, so a snapshot never has a text that an erasure removes: `bare`
    gives the state without its texts. The newest event of the types `texts` has these texts. The
    snapshot has the version of this event, and the event is read together with the snapshot.
    """

    form: str
    read: Callable[[Mapping[str, Any]], S]
    bare: Callable[[S], S]
    texts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Decider(Generic[S, E]):
    """A kind of stream: the first part of the streams' names, and how events become a state.

    `events` is the union of the types of its events. Events of some kinds always belong to a
    project. The state of a kind that is read only once is not worth remembering. A kind whose
    streams have no end may have `snapshots`.
    """

    kind: str
    events: Any
    initial: S
    fold: Callable[[Iterable[E], S], S]
    is_of_project: bool = False
    is_read_once: bool = False
    snapshots: Snapshots[S] | None = None


SESSION: Final[Decider[Session, SessionEvent]] = Decider(
    "session", SessionEvent, session.INITIAL, session.fold, is_of_project=True
)
ACCOUNT: Final[Decider[Account, AccountEvent]] = Decider(
    "account",
    AccountEvent,
    account.INITIAL,
    account.fold,
    snapshots=Snapshots(account.SNAPSHOT, account.from_snapshot, bare=lambda state: state),
)
BUILD: Final[Decider[Build, BuildEvent]] = Decider(
    "build", BuildEvent, build.INITIAL, build.fold, is_of_project=True
)
RUN: Final[Decider[Run, RunEvent]] = Decider(
    "run", RunEvent, run.INITIAL, run.fold, is_of_project=True
)
PROJECT: Final[Decider[Project, ProjectEvent]] = Decider(
    "project",
    ProjectEvent,
    project.INITIAL,
    project.fold,
    is_of_project=True,
    snapshots=Snapshots(
        project.SNAPSHOT,
        project.from_snapshot,
        bare=project.without_texts,
        texts=project.DESCRIBING,
    ),
)
PLACE: Final[Decider[SessionPlace, PlaceEvent]] = Decider(
    "place", PlaceEvent, place.INITIAL, place.fold, is_of_project=True
)
PROMPT: Final[Decider[Prompt, PromptEvent]] = Decider(
    "prompt", PromptEvent, prompt.INITIAL, prompt.fold, is_of_project=True
)
REQUEST: Final[Decider[idempotency.Request, RequestEvent]] = Decider(
    "request", RequestEvent, idempotency.INITIAL, idempotency.fold, is_read_once=True
)

DECIDERS: Final[Mapping[str, Decider[Any, Any]]] = {
    kind.__name__: decider
    for decider in (SESSION, ACCOUNT, BUILD, RUN, PROJECT, PLACE, PROMPT, REQUEST)
    for kind in get_args(decider.events) or (decider.events,)
}
"""The kind of stream of each type of event, by the name of the type."""


@dataclass(frozen=True, slots=True)
class StreamId(Generic[S, E]):
    """A stream of the log. As text it is the name under which the stream is stored.

    Its events are stored with `project_id`; None is for events of no project, and for streams that
    are only read.
    """

    decider: Decider[S, E]
    id: str
    project_id: str | None = None

    def __str__(self) -> str:
        """The stored name."""
        return f"{self.decider.kind}-{self.id}"


AnyStream: TypeAlias = StreamId[Any, Any]


def account_stream(
    tenant_id: str, user_id: str, project_id: str | None = None
) -> StreamId[Account, AccountEvent]:
    """The stream of a user's AI seconds. The seconds are used for the project."""
    return StreamId(ACCOUNT, f"{tenant_id}-{user_id}", project_id)


def session_stream(
    session_id: str, project_id: str | None = None
) -> StreamId[Session, SessionEvent]:
    """The stream of a session."""
    return StreamId(SESSION, session_id, project_id)


def project_stream(project_id: str) -> StreamId[Project, ProjectEvent]:
    """The stream of a project."""
    return StreamId(PROJECT, project_id, project_id)


def build_stream(build_id: str, project_id: str | None = None) -> StreamId[Build, BuildEvent]:
    """The stream of a build."""
    return StreamId(BUILD, build_id, project_id)


def run_stream(run_id: str, project_id: str | None = None) -> StreamId[Run, RunEvent]:
    """The stream of a run."""
    return StreamId(RUN, run_id, project_id)


def place_stream(key: str, project_id: str) -> StreamId[SessionPlace, PlaceEvent]:
    """The stream of a place, which the key names within the tenant."""
    return StreamId(PLACE, sha256(key.encode()).hexdigest(), project_id)


def prompt_stream(prompt_id: str, project_id: str | None = None) -> StreamId[Prompt, PromptEvent]:
    """The stream of a prompt."""
    return StreamId(PROMPT, prompt_id, project_id)


def request_stream(key: str) -> StreamId[idempotency.Request, RequestEvent]:
    """The stream of a request that its client named by an idempotency key."""
    return StreamId(REQUEST, sha256(key.encode()).hexdigest())
