"""The earlier events of a test: `given(...)`, the first line of a decision's test, folds them."""

from typing import overload

from domain.deciders import account, project, session
from domain.deciders.account import Account
from domain.deciders.project import Project
from domain.deciders.session import Session
from domain.events import (
    AccountEvent,
    Event,
    MemberAdded,
    MemberRemoved,
    ProjectEvent,
    ProjectRegistered,
    ReservationReleased,
    SessionEvent,
    TimeConsumed,
    TimeCredited,
    TimeReserved,
)


@overload
def given(*events: ProjectEvent) -> Project: ...
@overload
def given(*events: AccountEvent) -> Account: ...
@overload
def given(*events: SessionEvent) -> Session: ...
def given(*events: Event) -> Project | Account | Session:
    """The state after these events, which are all of one kind of stream."""
    match events[0]:
        case ProjectRegistered() | MemberAdded() | MemberRemoved():
            return project.fold(events)  # type: ignore[arg-type]
        case TimeCredited() | TimeReserved() | TimeConsumed() | ReservationReleased():
            return account.fold(events)  # type: ignore[arg-type]
        case _:
            return session.fold(events)  # type: ignore[arg-type]
