"""An account: one user's AI seconds, which are credited, reserved, and consumed. They are reserved
for replies and builds.

The one law: available = credited - consumed - reserved never goes below zero, because a reservation
is only made from what is available and a settlement never takes more than was reserved.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, assert_never

from domain.deciders.rate_limits import Times, with_time
from domain.errors import BalanceInsufficient, ReservationSettled
from domain.events import (
    AccountEvent,
    CreditKind,
    OperationType,
    ReservationReleased,
    TimeConsumed,
    TimeCredited,
    TimeReserved,
)
from domain.metering import Cost

Decided = tuple[AccountEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whole AI seconds. `credited` counts bonus seconds too; `bonus` is their part of it.

    `bonus_consumed` is the part of `consumed` that was paid with bonus seconds: these are used up
    first.

    `reservations` maps the ids of open reservations to their seconds.

    `messages` are the times of the messages that the user's limit counts, oldest first.
    """

    credited: int = 0
    bonus: int = 0
    consumed: int = 0
    bonus_consumed: int = 0
    reservations: Mapping[str, int] = field(default_factory=dict[str, int])
    messages: Times = ()

    @property
    def reserved(self) -> int:
        return sum(self.reservations.values())

    @property
    def available(self) -> int:
        return self.credited - self.consumed - self.reserved


INITIAL: Final = Account()
SNAPSHOT: Final = "account/1"
"""The form of an account's snapshots. It gets another number when the fields of Account or the
rules of `evolve` change: snapshots of a former form are not read."""


def evolve(state: Account, event: AccountEvent) -> Account:
    """The account after one more event."""
    match event:
        case TimeReserved(reservation_id=key):
            reserved = state.reservations.get(key, 0) + event.seconds
            return replace(
                state,
                reservations={**state.reservations, key: reserved},
                messages=_with_message(state.messages, event.at),
            )
        case TimeConsumed(reservation_id=key):
            return replace(
                state,
                consumed=state.consumed + event.seconds,
                bonus_consumed=state.bonus_consumed + _of_bonus(state, event.seconds),
                reservations=_without(state.reservations, key),
            )
        case ReservationReleased(reservation_id=key):
            return replace(state, reservations=_without(state.reservations, key))
        case TimeCredited():
            bonus = event.seconds if event.kind == "bonus" else 0
            return replace(
                state, credited=state.credited + event.seconds, bonus=state.bonus + bonus
            )
        case _:
            assert_never(event)


def fold(events: Iterable[AccountEvent], state: Account = INITIAL) -> Account:
    """The account after all of `events`."""
    for event in events:
        state = evolve(state, event)
    return state


def from_snapshot(stored: Mapping[str, Any]) -> Account:
    """The account from the JSON object of its fields."""
    messages = tuple(datetime.fromisoformat(at) for at in stored["messages"])
    fields: dict[str, Any] = {**stored, "messages": messages}
    return Account(**fields)


def credit(
    state: Account,  # noqa: ARG001 - all decisions have the same first parameter
    *,
    user_id: str,
    credit_id: str,
    seconds: int,
    kind: CreditKind,
    reason: str | None,
) -> Decided:
    """Add seconds to the account."""
    return (
        TimeCredited(
            user_id=user_id, credit_id=credit_id, seconds=seconds, kind=kind, reason=reason
        ),
    )


def reserve(
    state: Account,
    *,
    user_id: str,
    reservation_id: str,
    session_id: str,
    reply_id: str,
    seconds: int,
    at: datetime | None = None,
    build_id: str | None = None,
) -> Decided:
    """Reserve seconds for a reply, or with a `build_id` for that build.

    With `at`, the time when the reply's message was admitted, the user's limit counts the message.
    Raises BalanceInsufficient when fewer seconds are available.
    """
    if state.available < seconds:
        raise BalanceInsufficient(needed_seconds=seconds, available_seconds=state.available)
    return (
        TimeReserved(
            user_id=user_id,
            reservation_id=reservation_id,
            session_id=session_id,
            reply_id=reply_id,
            seconds=seconds,
            at=None if at is None else at.isoformat(),
            build_id=build_id,
        ),
    )


def extend(
    state: Account,
    *,
    user_id: str,
    reservation_id: str,
    session_id: str,
    reply_id: str,
    seconds: int,
) -> Decided:
    """Reserve more seconds for a running reply: `seconds`, or the fewer that are available.

    Decides nothing when no second is available. Raises ReservationSettled when the reservation has
    ended.
    """
    _reserved(state, reservation_id)
    if state.available <= 0:
        return ()
    return reserve(
        state,
        user_id=user_id,
        reservation_id=reservation_id,
        session_id=session_id,
        reply_id=reply_id,
        seconds=min(seconds, state.available),
    )


def settle(
    state: Account,
    *,
    user_id: str,
    reservation_id: str,
    project_id: str,
    session_id: str,
    reply_id: str,
    operation: OperationType,
    seconds: int,
    model: str,
    cost: Cost,
    build_id: str | None = None,
) -> Decided:
    """Consume what a reply or a build used, at most what was reserved. The rest is available again.

    Raises ReservationSettled when the reservation is not open.
    """
    reserved = _reserved(state, reservation_id)
    billed = min(seconds, reserved)
    return (
        TimeConsumed(
            user_id=user_id,
            reservation_id=reservation_id,
            project_id=project_id,
            session_id=session_id,
            reply_id=reply_id,
            operation=operation,
            seconds=billed,
            reserved_seconds=reserved,
            model=model,
            input_tokens=cost.usage.input_tokens,
            output_tokens=cost.usage.output_tokens,
            cache_read_tokens=cost.usage.cache_read_tokens,
            cache_write_tokens=cost.usage.cache_write_tokens,
            cost_usd=cost.usd,
            prices=cost.prices,
            build_id=build_id,
            bonus_seconds=_of_bonus(state, billed),
        ),
    )


def release(state: Account, *, user_id: str, reservation_id: str, reason: str) -> Decided:
    """End a reservation unused. Raises ReservationSettled when the reservation is not open."""
    reserved = _reserved(state, reservation_id)
    return (
        ReservationReleased(
            user_id=user_id, reservation_id=reservation_id, reserved_seconds=reserved, reason=reason
        ),
    )


def without(state: Account, reservations: Collection[str]) -> Account:
    """The account as it would be if these reservations were released."""
    return replace(state, reservations=_without(state.reservations, *reservations))


def _reserved(state: Account, reservation_id: str) -> int:
    if reservation_id not in state.reservations:
        raise ReservationSettled
    return state.reservations[reservation_id]


def _of_bonus(state: Account, seconds: int) -> int:
    """How many of these consumed seconds are bonus seconds: as many as are left."""
    return min(seconds, state.bonus - state.bonus_consumed)


def _with_message(messages: Times, at: str | None) -> Times:
    return messages if at is None else with_time(messages, datetime.fromisoformat(at))


def _without(reservations: Mapping[str, int], *keys: str) -> dict[str, int]:
    return {other: seconds for other, seconds in reservations.items() if other not in keys}
