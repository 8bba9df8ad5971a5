"""The decisions of a project: its members, of which at least one is an owner."""

from collections.abc import Callable
from datetime import UTC, datetime

import orjson
import pytest

from domain.deciders import project
from domain.deciders.project import INITIAL, Decided, Description, Project
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
    ProjectLocked,
    ProjectRegistered,
    ProjectUnlocked,
    Role,
)
from tests.given import given

REGISTERED = ProjectRegistered(
    project_id="p1", name="Shop", framework="django", source_root="/srv/shop"
)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DESCRIBED = ProjectDescribed(project_id="p1", name="Store")
BARE = ProjectRegistered(project_id="p1", name="Shop")
REMOVED = MemberRemoved(project_id="p1", user_id="ann")


def added(user_id: str, role: Role) -> MemberAdded:
    return MemberAdded(project_id="p1", user_id=user_id, role=role)


def register(state: Project, members: dict[str, Role]) -> Decided:
    return project.register(
        state,
        project_id="p1",
        name="Shop",
        framework="django",
        source_root="/srv/shop",
        members=members,
    )


def test_a_snapshot_and_the_newest_description_are_the_project_again() -> None:
    events = (
        REGISTERED,
        added("ann", "owner"),
        MessageAdmitted(project_id="p1", user_id="ann", reply_id="m1", at=NOON.isoformat()),
        ProjectLocked(project_id="p1", build_id="b1"),
    )
    state = given(*events)
    kept = orjson.dumps(project.without_texts(state))
    assert all(text not in kept for text in (b"Shop", b"django", b"/srv"))
    assert project.fold([REGISTERED], project.from_snapshot(orjson.loads(kept))) == state
    assert {type(each).__name__ for each in events} & project.DESCRIBING == {"ProjectRegistered"}


def test_a_project_that_is_closed_takes_no_description() -> None:
    closed = given(REGISTERED, ProjectErasureRequested(project_id="p1"))
    assert project.fold([REGISTERED, DESCRIBED], closed) == closed
    assert project.without_texts(closed) == closed


def test_a_message_is_counted_at_its_time_and_not_taken_while_the_project_builds() -> None:
    state = given(REGISTERED, added("ann", "owner"))
    admitted = project.admit_message(state, user_id="ann", reply_id="m1", at=NOON)
    assert admitted == (
        MessageAdmitted(
            project_id="p1", user_id="ann", reply_id="m1", at="2026-11-21T12:00:00+00:00"
        ),
    )
    assert project.fold(admitted, state).messages == (NOON,)
    building = project.fold([ProjectLocked(project_id="p1", build_id="b1")], state)
    with pytest.raises(BuildInProgress):
        project.admit_message(building, user_id="ann", reply_id="m1", at=NOON)
    with pytest.raises(ProjectUnknown):
        project.admit_message(INITIAL, user_id="ann", reply_id="m1", at=NOON)


def test_a_message_of_a_removed_member_is_not_admitted() -> None:
    state = given(REGISTERED, added("ann", "owner"), added("bob", "owner"))
    removed = project.fold(project.remove_member(state, user_id="bob"), state)
    with pytest.raises(NotAMember):
        project.admit_message(removed, user_id="bob", reply_id="m1", at=NOON)


def test_a_project_is_closed_for_good_before_it_is_erased() -> None:
    state = given(REGISTERED, added("ann", "owner"))
    with pytest.raises(ProjectUnknown):
        project.erase(state)
    with pytest.raises(BuildInProgress):
        project.request_erasure(
            project.fold([ProjectLocked(project_id="p1", build_id="b1")], state)
        )
    closed = project.fold(project.request_erasure(state), state)
    assert closed == Project(project_id="p1", is_erasing=True)
    late: list[Callable[[], object]] = [
        lambda: project.request_erasure(closed),
        lambda: project.add_member(closed, user_id="bob", role="viewer"),
        lambda: project.lock(closed, build_id="b1"),
        lambda: project.admit_message(closed, user_id="ann", reply_id="m1", at=NOON),
    ]
    for each in late:
        with pytest.raises(ProjectUnknown):
            each()
    with pytest.raises(ProjectExists):
        register(closed, {"ann": "owner"})
    assert project.erase(closed) == (ProjectErased(project_id="p1"),)
    assert project.erase(project.fold(project.erase(closed), closed)) == ()


# what is decided ---------------------------------------------------------------------------------


def test_a_project_is_registered_with_its_first_members() -> None:
    decided = register(INITIAL, {"ann": "owner", "bob": "viewer"})
    assert decided == (REGISTERED, added("ann", "owner"), added("bob", "viewer"))


def test_a_project_may_be_registered_knowing_little() -> None:
    decided = project.register(
        INITIAL,
        project_id="p1",
        name="Shop",
        framework=None,
        source_root=None,
        members={"ann": "owner"},
    )
    assert decided == (BARE, added("ann", "owner"))


def test_a_member_is_added() -> None:
    state = given(REGISTERED, added("ann", "owner"))
    assert project.add_member(state, user_id="bob", role="editor") == (added("bob", "editor"),)


@pytest.mark.parametrize(("old", "new"), [("viewer", "editor"), ("editor", "owner")])
def test_a_second_time_with_another_role_changes_the_role(old: Role, new: Role) -> None:
    state = given(REGISTERED, added("ann", "owner"), added("bob", old))
    assert project.add_member(state, user_id="bob", role=new) == (added("bob", new),)


@pytest.mark.parametrize("role", ["owner", "editor", "viewer"])
def test_the_same_role_again_changes_nothing(role: Role) -> None:
    state = given(REGISTERED, added("ann", role))
    assert project.add_member(state, user_id="ann", role=role) == ()


def test_a_member_is_removed() -> None:
    state = given(REGISTERED, added("bob", "owner"), added("ann", "viewer"))
    assert project.remove_member(state, user_id="ann") == (REMOVED,)


def test_an_owner_beside_another_may_leave_or_become_less() -> None:
    state = given(REGISTERED, added("ann", "owner"), added("bob", "owner"))
    assert project.remove_member(state, user_id="ann") == (REMOVED,)
    assert project.add_member(state, user_id="ann", role="viewer") == (added("ann", "viewer"),)


def test_a_removed_member_may_come_back() -> None:
    state = given(REGISTERED, added("bob", "owner"), added("ann", "viewer"), REMOVED)
    assert project.add_member(state, user_id="ann", role="viewer") == (added("ann", "viewer"),)


# what is refused ---------------------------------------------------------------------------------


def test_a_project_is_registered_once() -> None:
    with pytest.raises(ProjectExists):
        register(given(REGISTERED), {"ann": "owner"})


def test_a_project_that_is_not_known_has_no_members() -> None:
    with pytest.raises(ProjectUnknown):
        project.add_member(INITIAL, user_id="ann", role="owner")
    with pytest.raises(ProjectUnknown):
        project.remove_member(INITIAL, user_id="ann")


def test_a_user_outside_of_the_project_is_not_removed() -> None:
    with pytest.raises(MemberUnknown):
        project.remove_member(given(REGISTERED, added("ann", "owner")), user_id="bob")


def test_a_member_is_removed_once() -> None:
    state = given(REGISTERED, added("bob", "owner"), added("ann", "viewer"), REMOVED)
    with pytest.raises(MemberUnknown):
        project.remove_member(state, user_id="ann")


@pytest.mark.parametrize("others", [(), (added("bob", "editor"),)])
def test_the_last_owner_stays_one(others: tuple[MemberAdded, ...]) -> None:
    state = given(REGISTERED, added("ann", "owner"), *others)
    with pytest.raises(LastOwner):
        project.remove_member(state, user_id="ann")
    with pytest.raises(LastOwner):
        project.add_member(state, user_id="ann", role="editor")


# what a project has come to ----------------------------------------------------------------------


def test_a_project_is_what_its_events_say() -> None:
    state = given(
        REGISTERED,
        added("bob", "viewer"),
        added("ann", "editor"),
        added("bob", "owner"),
        REMOVED,
    )
    described = Description(name="Shop", framework="django", source_root="/srv/shop")
    assert state == Project(project_id="p1", description=described, members={"bob": "owner"})


def test_a_project_is_described_anew_by_those_that_know_it() -> None:
    state = given(REGISTERED, added("ann", "owner"))
    shop = Description(name="Market", framework="flask")
    (event,) = project.describe(state, description=shop, revisions=[state.description.revision])
    assert event == ProjectDescribed(project_id="p1", name="Market", framework="flask")
    after = project.fold([event], state)
    assert after.description == shop
    assert project.describe(after, description=shop, revisions=None) == ()
    with pytest.raises(ProjectChanged):
        project.describe(after, description=shop, revisions=[state.description.revision])
    with pytest.raises(ProjectUnknown):
        project.describe(INITIAL, description=shop, revisions=None)


# roles -------------------------------------------------------------------------------------------


def test_a_viewer_reads_and_does_not_act() -> None:
    state = given(REGISTERED, added("ann", "owner"), added("bob", "viewer"), added("eve", "editor"))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for user in ("ann", "eve"):
        project.require_actor(state, user)
        assert project.admit_message(state, user_id=user, reply_id="r1", at=at)
    with pytest.raises(ViewerOnly):
        project.require_actor(state, "bob")
    with pytest.raises(ViewerOnly):
        project.admit_message(state, user_id="bob", reply_id="r1", at=at)
    with pytest.raises(NotAMember):
        project.require_actor(state, "carl")


# one build at a time -----------------------------------------------------------------------------


def locked() -> Project:
    state = given(REGISTERED)
    return project.fold(project.lock(state, build_id="b1"), state)


def test_a_project_is_locked_for_one_build() -> None:
    registered = given(REGISTERED)
    assert project.lock(registered, build_id="b1") == (
        ProjectLocked(project_id="p1", build_id="b1"),
    )
    with pytest.raises(BuildInProgress) as refused:
        project.lock(locked(), build_id="b2")
    assert refused.value.variables == {"build_id": "b1"}
    with pytest.raises(ProjectUnknown):
        project.lock(INITIAL, build_id="b1")


def test_the_build_s_end_unlocks_and_no_other_s() -> None:
    assert project.unlock(locked(), build_id="b2") == ()
    unlocked = project.unlock(locked(), build_id="b1")
    assert unlocked == (ProjectUnlocked(project_id="p1", build_id="b1"),)
    free = project.fold(unlocked, locked())
    assert project.unlock(free, build_id="b1") == ()
    assert project.lock(free, build_id="b2")
