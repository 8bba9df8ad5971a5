"""All checks, in the order of the report."""

from typing import Final

from scripts.prove.check import Check, Found
from scripts.prove.checks import billing, log, models, replies, tenants, trust

CHECKS: Final[tuple[Check, ...]] = (
    *log.CHECKS,
    *billing.CHECKS,
    *models.CHECKS,
    *replies.CHECKS,
    *tenants.CHECKS,
    *trust.CHECKS,
)
FOUND: Final = "found"
SHOWN_AT_MOST: Final = 20
"""The most breaches of one check that are printed."""


def verdict(check: Check, found: Found, control: str) -> list[str]:
    """The faults of a line of the report. A check that compared nothing proves nothing, and neither
    does a check that misses the damage of its control."""
    wrong = [f"{check.name}: {breach}" for breach in found.breaches[:SHOWN_AT_MOST]]
    if not found.counted:
        wrong.append(f"{check.name}: nothing was inspected")
    if control != FOUND:
        wrong.append(f"{check.name}: its control was {control}")
    return wrong
