"""Seconds and money: arithmetic only, exact."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from math import ceil
from typing import Final, Literal

from domain.events import BuildOperation, OperationType, ReplyMode

ESTIMATES: Final[Mapping[ReplyMode, int]] = {
    "question": 30,
    "feature": 120,
    "fix": 90,
    "analysis": 180,
    "general": 60,
    "improvement": 60,
}
"""The AI seconds to reserve before the model is asked, by mode."""

BUILD_ESTIMATES: Final[Mapping[BuildOperation, int]] = {
    "main_build": 600,
    "update": 300,
    "metadata_generation": 60,
}
"""The AI seconds to reserve for a build, by operation, where no setting says otherwise."""

OPERATIONS: Final[Mapping[ReplyMode, OperationType]] = {
    "question": "plan_question",
    "feature": "plan_feature",
    "fix": "plan_fix",
    "analysis": "plan_analysis",
    "general": "plan_consultation",
    "improvement": "idea_consultation",
}

WORKER: Final = "worker"
"""What stands in place of a model in the bill of a build. Its prices are not known."""
Confidence = Literal["high", "medium", "low"]
"""How far an estimate can be trusted: by the number and the spread of the bills behind it."""

FEW: Final = 5
MANY: Final = 20
NARROW: Final = 1.5
WIDE: Final = 3.0
"""From FEW replies on the usual bill is the estimate. The confidence is high where MANY replies are
known and 9 of 10 took at most NARROW times the usual seconds; medium where 9 of 10 of FEW or more
took at most WIDE times the usual seconds."""

NS_PER_SECOND: Final = 1_000_000_000
MICRO_USD: Final = Decimal("0.000001")
PRICES: Final = "2026-11"
"""The version of the price table, kept in every settlement. A new price is a new version."""


CACHE_READ_PRICE: Final = Decimal("0.1")
CACHE_WRITE_PRICE: Final = Decimal("1.25")
"""The price of a token that the provider reads from its cache, or writes to it, in input tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """USD for a million tokens of each kind."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal


_PRICE_TABLE: Final[tuple[tuple[str, Price], ...]] = tuple(
    (
        prefix,
        Price(
            input=Decimal(input_usd),
            output=Decimal(output_usd),
            cache_read=Decimal(input_usd) * CACHE_READ_PRICE,
            cache_write=Decimal(input_usd) * CACHE_WRITE_PRICE,
        ),
    )
    for prefix, input_usd, output_usd in (
        ("claude-haiku", "1", "5"),
        ("claude-sonnet", "3", "15"),
        ("claude-opus", "5", "25"),
        ("offline", "0", "0"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one model call, by kind. None means that the provider sent no number.

    `input_tokens` counts tokens that the provider neither read from its cache nor wrote to its
    cache.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None

    @property
    def total(self) -> int | None:
        """All tokens together; None when input or output is unknown."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        cached = (self.cache_read_tokens or 0) + (self.cache_write_tokens or 0)
        return self.input_tokens + self.output_tokens + cached


def total_usage(calls: Iterable[Usage]) -> Usage:
    """The sum over several calls. One unknown number of input or output tokens makes the sum
    unknown; unknown numbers of cache tokens are left out of the sum."""
    each = list(calls)
    return Usage(
        input_tokens=_sum_of_known([usage.input_tokens for usage in each], whole=True),
        output_tokens=_sum_of_known([usage.output_tokens for usage in each], whole=True),
        cache_read_tokens=_sum_of_known([usage.cache_read_tokens for usage in each]),
        cache_write_tokens=_sum_of_known([usage.cache_write_tokens for usage in each]),
    )


def _sum_of_known(counts: Sequence[int | None], *, whole: bool = False) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known and (len(known) == len(counts) or not whole) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The usage of a model call and its price in dollars; None when the price is not known."""

    usage: Usage
    usd: Decimal | None
    prices: str = PRICES


def cost_of_build(tokens: int | None) -> Cost:
    """The cost of a build that used so many tokens; None is not reported. Its price is unknown."""
    if tokens is None:
        return cost_of(WORKER, Usage())
    return cost_of(WORKER, Usage(input_tokens=0, output_tokens=tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Bills of earlier replies of one operation: the median, and what 9 of 10 did not exceed."""

    operation: str
    replies: int
    median_seconds: float
    most_seconds: float


def estimate(mode: ReplyMode, past: Past | None) -> tuple[int, Confidence]:
    """The seconds that a reply of a mode usually takes, and how far that can be trusted."""
    if past is None or past.replies < FEW:
        return ESTIMATES[mode], "low"
    seconds = ceil(past.median_seconds)
    spread = past.most_seconds / max(seconds, 1)
    if past.replies >= MANY and spread <= NARROW:
        return seconds, "high"
    return seconds, "medium" if spread <= WIDE else "low"


def billed_seconds(duration_ns: int) -> int:
    """The duration of one model call in whole seconds, rounded up."""
    return -(-duration_ns // NS_PER_SECOND)


def cost_of(model: str, usage: Usage) -> Cost:
    """The price of a call by the current table, exact to a millionth of a dollar."""
    price = next((price for prefix, price in _PRICE_TABLE if model.startswith(prefix)), None)
    if price is None or usage.total is None:
        return Cost(usage=usage, usd=None)
    million_usd = (
        price.input * (usage.input_tokens or 0)
        + price.output * (usage.output_tokens or 0)
        + price.cache_read * (usage.cache_read_tokens or 0)
        + price.cache_write * (usage.cache_write_tokens or 0)
    )
    usd = (million_usd / 1_000_000).quantize(MICRO_USD, rounding=ROUND_HALF_EVEN)
    return Cost(usage=usage, usd=usd)
