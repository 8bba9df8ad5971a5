"""Projects, their members, and the accounts of users."""

from collections.abc import Callable
from typing import Any

from domain.deciders import account, project
from domain.events import Role
from service.eventlog.stream_ids import account_stream, project_stream
from tests.projections.actions.append import Append
from tests.projections.actions.known import Actions, Known
from tests.projections.actions.values import KINDS, PROJECTS, ROLES, TEXTS, USERS


class Projects(Known):
    """Projects, their members, and the accounts of users."""

    def _of_projects(self) -> Actions:
        return {
            self._register: 2,
            self._describe: 2,
            self._add_member: 3,
            self._remove_member: 2,
            self._credit: 5,
            self._close_project: 1,
            self._erase_project: 4,
        }

    def _register(self, append: Append) -> None:
        project_id = self._one(PROJECTS)
        members: dict[str, Role] = {USERS[0]: "owner"}
        members |= {user: self._one(ROLES) for user in self._random.sample(USERS[1:], 2)}
        append.decide(
            project_stream(project_id),
            lambda state: project.register(
                state,
                project_id=project_id,
                name=self._one(TEXTS),
                framework=self._one((None, "django")),
                source_root=self._one((None, "/srv/shop")),
                members=members,
            ),
        )

    def _describe(self, append: Append) -> None:
        description = project.Description(
            name=self._one(TEXTS), framework=self._one((None, "flask")), source_root=None
        )
        self._in_project(
            append,
            lambda state: project.describe(state, description=description, revisions=None),
        )

    def _add_member(self, append: Append) -> None:
        project_id, user, role = self._one(PROJECTS), self._one(USERS), self._one(ROLES)
        append.decide(
            project_stream(project_id),
            lambda state: project.add_member(state, user_id=user, role=role),
        )

    def _remove_member(self, append: Append) -> None:
        project_id, user = self._one(PROJECTS), self._one(USERS)
        append.decide(
            project_stream(project_id),
            lambda state: project.remove_member(state, user_id=user),
        )

    def _credit(self, append: Append) -> None:
        user = self._one(USERS)
        append.decide(
            account_stream(append.tenant_id, user),
            lambda state: account.credit(
                state,
                user_id=user,
                credit_id=self._id("c", append),
                seconds=self._random.randint(1, 500),
                kind=self._one(KINDS),
                reason=self._one((None, "order 7")),
            ),
        )

    def _close_project(self, append: Append) -> None:
        self._in_project(append, project.request_erasure)

    def _erase_project(self, append: Append) -> None:
        self._in_project(append, project.erase)

    def _in_project(self, append: Append, decide: Callable[[Any], Any]) -> None:
        project_id = self._one(PROJECTS)
        append.decide(project_stream(project_id), decide)
