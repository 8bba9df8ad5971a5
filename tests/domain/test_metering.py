"""Seconds and money, held against exact fractions."""

from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.events import OperationType, ReplyMode
from domain.metering import (
    ESTIMATES,
    OPERATIONS,
    PRICES,
    Cost,
    Past,
    Usage,
    billed_seconds,
    cost_of,
    estimate,
    total_usage,
)

DOLLARS = {
    "claude-haiku": (1, 5),
    "claude-sonnet": (3, 15),
    "claude-opus": (5, 25),
    "offline": (0, 0),
}
"""What a million tokens of input and of output cost: the published prices, written down again."""

COUNTS = st.integers(0, 10**12)
USAGES = st.builds(
    Usage,
    input_tokens=COUNTS,
    output_tokens=COUNTS,
    cache_read_tokens=st.none() | COUNTS,
    cache_write_tokens=st.none() | COUNTS,
)
MODELS = st.sampled_from([*DOLLARS, *(f"{prefix}-4-5" for prefix in DOLLARS)])


def exact(model: str, usage: Usage) -> Fraction:
    input_usd, output_usd = next(p for name, p in DOLLARS.items() if model.startswith(name))
    parts = (
        (Fraction(input_usd), usage.input_tokens),
        (Fraction(output_usd), usage.output_tokens),
        (Fraction(input_usd, 10), usage.cache_read_tokens),
        (Fraction(5 * input_usd, 4), usage.cache_write_tokens),
    )
    return sum((price * (count or 0) for price, count in parts), Fraction()) / 1_000_000


@given(st.integers(0, 2**63))
@example(0)
@example(1)
@example(999_999_999)
@example(1_000_000_000)
@example(1_000_000_001)
@example(9_007_199_254_740_993_000_000_000)  # where a float would miss the second
def test_seconds_are_rounded_up_once(duration_ns: int) -> None:
    billed = billed_seconds(duration_ns)
    assert billed == ceil(Fraction(duration_ns, 1_000_000_000))
    assert type(billed) is int


@given(MODELS, USAGES)
@example("claude-haiku", Usage(input_tokens=0, output_tokens=0, cache_read_tokens=5))
@example("claude-haiku", Usage(input_tokens=0, output_tokens=0, cache_read_tokens=15))
def test_a_cost_is_exact_to_a_millionth(model: str, usage: Usage) -> None:
    usd = cost_of(model, usage).usd
    assert usd is not None
    # Fraction's round goes half to even, as the price does.
    assert Fraction(usd) == Fraction(round(exact(model, usage) * 1_000_000), 1_000_000)


@given(MODELS, USAGES)
def test_a_cost_has_six_places_and_is_no_float(model: str, usage: Usage) -> None:
    usd = cost_of(model, usage).usd
    assert type(usd) is Decimal
    assert usd.as_tuple().exponent == -6
    assert str(usd) == f"{usd:.6f}"  # as it is stored: never with an exponent


@pytest.mark.parametrize("model", ["gpt", "", "claude", "Claude-Opus", "my-claude-opus"])
def test_the_cost_of_an_unknown_model_is_unknown(model: str) -> None:
    usage = Usage(input_tokens=1, output_tokens=1)
    assert cost_of(model, usage) == Cost(usage=usage, usd=None, prices=PRICES)


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(input_tokens=5),
        Usage(output_tokens=5),
        Usage(input_tokens=5, cache_read_tokens=5, cache_write_tokens=5),
    ],
)
def test_a_count_that_the_provider_did_not_send_is_unknown_and_not_zero(usage: Usage) -> None:
    assert usage.total is None
    assert cost_of("claude-opus-4", usage).usd is None
    assert cost_of("offline", usage).usd is None


def test_no_tokens_cost_nothing() -> None:
    assert cost_of("claude-opus-4", Usage(input_tokens=0, output_tokens=0)).usd == 0


@given(USAGES)
def test_the_total_counts_tokens_of_all_kinds(usage: Usage) -> None:
    kinds = (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
    )
    assert usage.total == sum(kind or 0 for kind in kinds)


def test_a_cost_says_which_prices_it_was_computed_with() -> None:
    assert cost_of("offline", Usage()).prices == PRICES


def test_each_mode_has_an_estimate_and_an_operation_of_its_own() -> None:
    modes = set(get_args(ReplyMode))
    assert set(ESTIMATES) == set(OPERATIONS) == modes
    assert all(type(seconds) is int and seconds > 0 for seconds in ESTIMATES.values())
    assert len(set(OPERATIONS.values())) == len(modes)
    assert set(OPERATIONS.values()) <= set(get_args(OperationType))


# several calls -----------------------------------------------------------------------------------


def test_calls_add_up_and_one_unknown_count_makes_the_sum_unknown() -> None:
    told = Usage(input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4)
    assert total_usage([told, told]) == Usage(
        input_tokens=2, output_tokens=4, cache_read_tokens=6, cache_write_tokens=8
    )
    silent = Usage(output_tokens=5, cache_read_tokens=7)
    assert total_usage([told, silent]) == Usage(
        input_tokens=None, output_tokens=7, cache_read_tokens=10, cache_write_tokens=4
    )
    assert total_usage([]) == Usage()


@pytest.mark.parametrize(
    ("replies", "most", "expected"),
    [
        (4, 20, (90, "low")),
        (5, 60, (20, "medium")),
        (20, 30, (20, "high")),
        (20, 31, (20, "medium")),
        (500, 61, (20, "low")),
    ],
)
def test_an_estimate_is_trusted_by_the_number_and_the_spread_of_earlier_bills(
    replies: int, most: float, expected: tuple[int, str]
) -> None:
    past = Past(operation="plan_fix", replies=replies, median_seconds=19.5, most_seconds=most)
    assert estimate("fix", past) == expected
    assert estimate("fix", None) == (90, "low")
