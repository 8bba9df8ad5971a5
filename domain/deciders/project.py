"""A project: its members, its lock, and what the planner should know about it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from json import dumps
from typing import Any, Final, assert_never

from domain.deciders.rate_limits import Times, with_time
from domain.errors import (
    BuildInProgress,
    LastOwner,
    MemberUnknown,
    NotAMember,
    ProjectChanged,
    ProjectExists,
    ProjectUnknown,
    ViewerOnly,
)
from domain.events import (
    MemberAdded,
    MemberRemoved,
    MessageAdmitted,
    ProjectDescribed,
    ProjectErased,
    ProjectErasureRequested,
    ProjectEvent,
    ProjectLocked,
    ProjectRegistered,
    ProjectUnlocked,
    Role,
)

Decided = tuple[ProjectEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What people and the planner know a project by."""

    name: str = ""
    framework: str | None = None
    source_root: str | None = None

    @property
    def revision(self) -> str:
        """A name for these values: the same for the same values."""
        values = [self.name, self.framework, self.source_root]
        return sha256(dumps(values).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """`members` maps user ids to roles. `building` is the id of the build that has not ended, and
    `was_built` is true from the first build on.

    `messages` are the times of the messages that the project's limit counts, oldest first.
    `is_erasing` is true from the request of the erasure on, `is_erased` from its end on.
    """

    project_id: str | None = None
    description: Description = Description()
    building: str | None = None
    was_built: bool = False
    members: Mapping[str, Role] = field(default_factory=dict[str, Role])
    messages: Times = ()
    is_erasing: bool = False
    is_erased: bool = False


INITIAL: Final = Project()
SNAPSHOT: Final = "project/1"
"""The form of a project's snapshots. It gets another number when the fields of Project or the
rules of `evolve` change: snapshots of a former form are not read."""
DESCRIBING: Final = frozenset({"ProjectRegistered", "ProjectDescribed"})
"""The types of the events that give a project its description."""


def evolve(state: Project, event: ProjectEvent) -> Project:
    """The project after one more event."""
    match event:
        case ProjectRegistered() | ProjectDescribed() if state.is_erasing:
            return state  # the state is of a snapshot, which is newer than this event
        case ProjectRegistered():
            return replace(state, project_id=event.project_id, description=_described(event))
        case ProjectDescribed():
            return replace(state, description=_described(event))
        case MemberAdded():
            return replace(state, members={**state.members, event.user_id: event.role})
        case MemberRemoved():
            rest = {user: role for user, role in state.members.items() if user != event.user_id}
            return replace(state, members=rest)
        case ProjectLocked():
            return replace(state, building=event.build_id, was_built=True)
        case ProjectUnlocked():
            return replace(state, building=None)
        case ProjectErasureRequested():
            return Project(project_id=state.project_id, is_erasing=True)
        case ProjectErased():
            return replace(state, is_erased=True)
        case MessageAdmitted():
            at = datetime.fromisoformat(event.at)
            return replace(state, messages=with_time(state.messages, at))
        case _:
            assert_never(event)


def fold(events: Iterable[ProjectEvent], state: Project = INITIAL) -> Project:
    """The project after all of `events`."""
    for event in events:
        state = evolve(state, event)
    return state


def without_texts(state: Project) -> Project:
    """The project as its snapshots have it: a snapshot has nothing that an erasure removes.

    The newest event of DESCRIBING, folded onto such a project, makes the whole project again.
    """
    return replace(state, description=Description())


def from_snapshot(stored: Mapping[str, Any]) -> Project:
    """The project from the JSON object of its fields, without its texts."""
    messages = tuple(datetime.fromisoformat(at) for at in stored["messages"])
    fields: dict[str, Any] = {**stored, "description": Description(), "messages": messages}
    return Project(**fields)


def register(
    state: Project,
    *,
    project_id: str,
    name: str,
    framework: str | None,
    source_root: str | None,
    members: Mapping[str, Role],
) -> Decided:
    """Register a project with its first members. Raises ProjectExists."""
    if state.project_id is not None:
        raise ProjectExists
    registered = ProjectRegistered(
        project_id=project_id, name=name, framework=framework, source_root=source_root
    )
    added = (
        MemberAdded(project_id=project_id, user_id=user, role=role)
        for user, role in members.items()
    )
    return (registered, *added)


def describe(
    state: Project, *, description: Description, revisions: Collection[str] | None
) -> Decided:
    """Describe the project anew. The same description again changes nothing.

    `revisions` are the descriptions that the caller knows, by their versions; None allows any.
    Raises ProjectUnknown, and ProjectChanged where the description has changed since.
    """
    project_id = _known(state)
    if revisions is not None and state.description.revision not in revisions:
        raise ProjectChanged
    if description == state.description:
        return ()
    return (
        ProjectDescribed(
            project_id=project_id,
            name=description.name,
            framework=description.framework,
            source_root=description.source_root,
        ),
    )


def add_member(state: Project, *, user_id: str, role: Role) -> Decided:
    """Add a member to the project, or change the role of a member. Raises LastOwner."""
    project_id = _known(state)
    if state.members.get(user_id) == role:
        return ()
    if role != "owner":
        _keep_an_owner(state, user_id)
    return (MemberAdded(project_id=project_id, user_id=user_id, role=role),)


def remove_member(state: Project, *, user_id: str) -> Decided:
    """Remove a member. Raises MemberUnknown, LastOwner."""
    project_id = _known(state)
    if user_id not in state.members:
        raise MemberUnknown
    _keep_an_owner(state, user_id)
    return (MemberRemoved(project_id=project_id, user_id=user_id),)


def admit_message(
    state: Project, *, user_id: str, reply_id: str, at: datetime, waits_for_builds: bool = True
) -> Decided:
    """Admit a member's message at a time that the project's limit counts.

    Raises NotAMember, ViewerOnly, and BuildInProgress for a message that `waits_for_builds`.
    """
    require_actor(state, user_id)
    project_id = _idle(state) if waits_for_builds else _known(state)
    return (
        MessageAdmitted(
            project_id=project_id, user_id=user_id, reply_id=reply_id, at=at.isoformat()
        ),
    )


def request_erasure(state: Project) -> Decided:
    """Close the project for good, to be erased. Raises BuildInProgress, ProjectUnknown."""
    project_id = _idle(state)
    return (ProjectErasureRequested(project_id=project_id),)


def erase(state: Project) -> Decided:
    """End the erasure, once, after that of all its sessions. Raises ProjectUnknown."""
    if state.project_id is None or not state.is_erasing:
        raise ProjectUnknown
    if state.is_erased:
        return ()
    return (ProjectErased(project_id=state.project_id),)


def require_actor(state: Project, user_id: str) -> None:
    """Require a user that may act in the project. Raises NotAMember, ViewerOnly for a viewer."""
    if user_id not in state.members:
        raise NotAMember
    if state.members[user_id] == "viewer":
        raise ViewerOnly


def lock(state: Project, *, build_id: str) -> Decided:
    """Lock the project for one build. Raises BuildInProgress while another build has the lock."""
    project_id = _idle(state)
    return (ProjectLocked(project_id=project_id, build_id=build_id),)


def unlock(state: Project, *, build_id: str) -> Decided:
    """Unlock the project after the build's end. The lock of another build stays."""
    if state.building != build_id:
        return ()
    return (ProjectUnlocked(project_id=_known(state), build_id=build_id),)


def _described(event: ProjectRegistered | ProjectDescribed) -> Description:
    return Description(name=event.name, framework=event.framework, source_root=event.source_root)


def _known(state: Project) -> str:
    if state.project_id is None or state.is_erasing:
        raise ProjectUnknown
    return state.project_id


def _idle(state: Project) -> str:
    """The project's id. Raises BuildInProgress while a build has the lock."""
    project_id = _known(state)
    if state.building is not None:
        raise BuildInProgress(build_id=state.building)
    return project_id


def _keep_an_owner(state: Project, leaving: str) -> None:
    owners = {user for user, role in state.members.items() if role == "owner"}
    if owners == {leaving}:
        raise LastOwner
