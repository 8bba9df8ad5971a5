"""An account's decisions, and its law: what is available never goes below zero."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from domain.deciders import account
from domain.deciders.account import INITIAL, Account, Decided
from domain.errors import BalanceInsufficient, ReservationSettled
from domain.events import (
    ReservationReleased,
    TimeConsumed,
    TimeCredited,
    TimeReserved,
)
from domain.metering import Cost, Usage
from tests.given import given

CREDITED = TimeCredited(user_id="u1", credit_id="c1", seconds=100, kind="paid", reason="order 7")
RESERVED = TimeReserved(
    user_id="u1", reservation_id="h1", session_id="s1", reply_id="r1", seconds=60
)
COST = Cost(
    usage=Usage(input_tokens=10, output_tokens=20, cache_read_tokens=30, cache_write_tokens=None),
    usd=Decimal("0.000333"),
    prices="2026-11",
)
CONSUMED = TimeConsumed(
    user_id="u1",
    reservation_id="h1",
    project_id="p1",
    session_id="s1",
    reply_id="r1",
    operation="plan_fix",
    seconds=45,
    reserved_seconds=60,
    model="claude",
    input_tokens=10,
    output_tokens=20,
    cache_read_tokens=30,
    cache_write_tokens=None,
    cost_usd=Decimal("0.000333"),
    prices="2026-11",
    bonus_seconds=0,
)
RELEASED = ReservationReleased(
    user_id="u1", reservation_id="h1", reserved_seconds=60, reason="model_error"
)


def reserve(state: Account, seconds: int, reservation_id: str = "h1") -> Decided:
    return account.reserve(
        state,
        user_id="u1",
        reservation_id=reservation_id,
        session_id="s1",
        reply_id="r1",
        seconds=seconds,
    )


def extend(state: Account, seconds: int, reservation_id: str = "h1") -> Decided:
    return account.extend(
        state,
        user_id="u1",
        reservation_id=reservation_id,
        session_id="s1",
        reply_id="r1",
        seconds=seconds,
    )


def settle(state: Account, seconds: int, reservation_id: str = "h1") -> Decided:
    return account.settle(
        state,
        user_id="u1",
        reservation_id=reservation_id,
        project_id="p1",
        session_id="s1",
        reply_id="r1",
        operation="plan_fix",
        seconds=seconds,
        model="claude",
        cost=COST,
    )


def release(state: Account, reservation_id: str = "h1") -> Decided:
    return account.release(state, user_id="u1", reservation_id=reservation_id, reason="model_error")


# what is decided ---------------------------------------------------------------------------------


def test_a_snapshot_is_the_account_again() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    state = Account(
        credited=9, bonus=4, consumed=3, bonus_consumed=1, reservations={"h": 2}, messages=(at,)
    )
    assert account.from_snapshot(orjson.loads(orjson.dumps(state))) == state


def test_seconds_are_credited() -> None:
    decided = account.credit(
        INITIAL, user_id="u1", credit_id="c1", seconds=100, kind="paid", reason="order 7"
    )
    assert decided == (CREDITED,)


def test_seconds_are_set_aside_for_a_reply() -> None:
    assert reserve(given(CREDITED), 60) == (RESERVED,)


def test_all_that_is_available_can_be_set_aside() -> None:
    assert given(CREDITED, *reserve(given(CREDITED), 100)).available == 0


@pytest.mark.parametrize(("asked", "more"), [(30, 30), (40, 40), (41, 40), (1_000, 40)])
def test_a_running_reply_holds_more_as_far_as_there_is_more(asked: int, more: int) -> None:
    assert extend(given(CREDITED, RESERVED), asked) == (replace(RESERVED, seconds=more),)


def test_where_nothing_is_left_a_running_reply_holds_no_more() -> None:
    state = given(CREDITED, RESERVED, replace(RESERVED, seconds=40))
    assert extend(state, 1) == ()


def test_a_settlement_bills_the_seconds_that_were_used() -> None:
    assert settle(given(CREDITED, RESERVED), 45) == (CONSUMED,)


def test_a_settlement_bills_at_most_the_reserved_seconds() -> None:
    assert settle(given(CREDITED, RESERVED), 61) == (replace(CONSUMED, seconds=60),)


def test_a_settlement_uses_up_bonus_seconds_before_paid_ones() -> None:
    bonus = replace(CREDITED, credit_id="c2", seconds=50, kind="bonus")
    state = given(CREDITED, bonus, RESERVED)
    (first,) = settle(state, 45)
    assert first == replace(CONSUMED, bonus_seconds=45)
    (second,) = settle(given(CREDITED, bonus, CONSUMED, RESERVED), 45)
    assert second == replace(CONSUMED, bonus_seconds=5), "also after events that did not note it"


def test_a_settlement_may_bill_nothing() -> None:
    (event,) = settle(given(CREDITED, RESERVED), 0)
    assert given(CREDITED, RESERVED, event).available == 100


def test_a_settlement_bills_from_all_seconds_that_its_reply_reserved() -> None:
    state = given(CREDITED, RESERVED, replace(RESERVED, seconds=40))
    assert settle(state, 90) == (replace(CONSUMED, seconds=90, reserved_seconds=100),)


def test_a_reservation_is_released_whole() -> None:
    assert release(given(CREDITED, RESERVED)) == (RELEASED,)


# what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "available"),
    [(INITIAL, 0), (given(CREDITED), 100), (given(CREDITED, RESERVED), 40)],
    ids=["empty", "credited", "partly held"],
)
def test_no_more_is_set_aside_than_is_available(state: Account, available: int) -> None:
    with pytest.raises(BalanceInsufficient) as refused:
        reserve(state, available + 1, "h2")
    assert refused.value.variables == {
        "needed_seconds": available + 1,
        "available_seconds": available,
    }


@pytest.mark.parametrize("end", [CONSUMED, RELEASED])
def test_a_reservation_ends_once(end: TimeConsumed | ReservationReleased) -> None:
    ended = given(CREDITED, RESERVED, end)
    with pytest.raises(ReservationSettled):
        settle(ended, 1)
    with pytest.raises(ReservationSettled):
        release(ended)


@pytest.mark.parametrize("end", [CONSUMED, RELEASED])
def test_a_reservation_that_has_ended_holds_no_more(
    end: TimeConsumed | ReservationReleased,
) -> None:
    """Its seconds would stay reserved for ever: the settlement that could end it has happened."""
    with pytest.raises(ReservationSettled):
        extend(given(CREDITED, RESERVED, end), 10)


def test_a_reservation_that_was_never_made_does_not_end() -> None:
    state = given(CREDITED, RESERVED)
    with pytest.raises(ReservationSettled):
        settle(state, 1, "h2")
    with pytest.raises(ReservationSettled):
        release(state, "h2")
    with pytest.raises(ReservationSettled):
        extend(state, 1, "h2")


def test_a_refusal_says_what_was_needed() -> None:
    refusal = BalanceInsufficient(needed_seconds=60, available_seconds=7)
    assert str(refusal) == "This may need 60 AI seconds and 7 are available."


# what an account has come to ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (given(CREDITED), Account(credited=100)),
        (given(CREDITED, CREDITED), Account(credited=200)),
        (given(CREDITED, RESERVED), Account(credited=100, reservations={"h1": 60})),
        (
            given(CREDITED, RESERVED, replace(RESERVED, seconds=40)),
            Account(credited=100, reservations={"h1": 100}),
        ),
        (given(CREDITED, RESERVED, CONSUMED), Account(credited=100, consumed=45)),
        (given(CREDITED, RESERVED, RELEASED), Account(credited=100)),
    ],
    ids=["credited", "credited twice", "held", "held twice", "settled", "released"],
)
def test_an_account_is_what_its_events_say(state: Account, expected: Account) -> None:
    assert state == expected


def test_the_end_of_a_reservation_leaves_the_others_alone() -> None:
    other = replace(RESERVED, reservation_id="h2", seconds=30)
    assert given(CREDITED, RESERVED, other, CONSUMED).reservations == {"h2": 30}


# the law -----------------------------------------------------------------------------------------


class AccountLife(RuleBasedStateMachine):
    """An account in any order of events, with ids that were never given or have ended."""

    running = Bundle("running")
    ended = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.state = INITIAL
        self.held: dict[str, int] = {}
        self.credited = 0
        self.consumed = 0
        self.ends: Counter[str] = Counter()
        self.made = 0

    def follow(self, decided: Decided) -> None:
        self.state = account.fold(decided, self.state)

    @rule(seconds=st.integers(0, 200), kind=st.sampled_from(["paid", "bonus"]))
    def credit(self, seconds: int, kind: str) -> None:
        self.follow(
            account.credit(
                self.state,
                user_id="u1",
                credit_id="c",
                seconds=seconds,
                kind="paid" if kind == "paid" else "bonus",
                reason=None,
            )
        )
        self.credited += seconds

    @rule(target=running, seconds=st.integers(0, 150))
    def reserve(self, seconds: int) -> object:
        self.made += 1
        reservation = f"h{self.made}"
        if seconds > self.free:
            with pytest.raises(BalanceInsufficient):
                reserve(self.state, seconds, reservation)
            return multiple()
        self.follow(reserve(self.state, seconds, reservation))
        self.held[reservation] = seconds
        return reservation

    @rule(reservation=running, seconds=st.integers(1, 150))
    def extend(self, reservation: str, seconds: int) -> None:
        more = min(seconds, self.free)
        decided = extend(self.state, seconds, reservation)
        assert [event.seconds for event in decided if isinstance(event, TimeReserved)] == (
            [more] if more else []
        )
        self.held[reservation] += more
        self.follow(decided)

    @property
    def free(self) -> int:
        return self.credited - self.consumed - sum(self.held.values())

    @rule(target=ended, reservation=consumes(running), seconds=st.integers(0, 300))
    def settle(self, reservation: str, seconds: int) -> str:
        (event,) = decided = settle(self.state, seconds, reservation)
        assert isinstance(event, TimeConsumed)
        held = self.held.pop(reservation)
        assert event.reserved_seconds == held
        assert event.seconds == min(seconds, held)
        self.consumed += event.seconds
        self.ends[reservation] += 1
        self.follow(decided)
        return reservation

    @rule(target=ended, reservation=consumes(running))
    def release(self, reservation: str) -> str:
        (event,) = decided = release(self.state, reservation)
        assert isinstance(event, ReservationReleased)
        assert event.reserved_seconds == self.held.pop(reservation)
        self.ends[reservation] += 1
        self.follow(decided)
        return reservation

    @rule(reservation=ended | st.just("never"), seconds=st.integers(0, 300))
    def end_again(self, reservation: str, seconds: int) -> None:
        before = self.state
        with pytest.raises(ReservationSettled):
            settle(self.state, seconds, reservation)
        with pytest.raises(ReservationSettled):
            release(self.state, reservation)
        with pytest.raises(ReservationSettled):
            extend(self.state, 1, reservation)
        assert self.state is before

    @invariant()
    def nothing_is_spent_twice(self) -> None:
        assert self.state.available >= 0
        assert all(seconds >= 0 for seconds in self.state.reservations.values())

    @invariant()
    def nothing_is_lost(self) -> None:
        state = self.state
        assert state.credited == state.available + state.reserved + state.consumed
        assert (state.credited, state.consumed) == (self.credited, self.consumed)
        assert dict(state.reservations) == self.held

    @invariant()
    def every_reservation_ends_at_most_once(self) -> None:
        assert not self.ends or max(self.ends.values()) == 1


TestAccountLife = AccountLife.TestCase
TestAccountLife.settings = settings(stateful_step_count=40)
