"""All checks, in the order of the report."""

from typing import Final

from scripts.prove import (
    billing_checks,
    log_checks,
    model_checks,
    reply_checks,
    tenant_checks,
    trust_checks,
)
from scripts.prove.check import Check, Found

CHECKS: Final[tuple[Check, ...]] = (
    *log_checks.CHECKS,
    *billing_checks.CHECKS,
    *model_checks.CHECKS,
    *reply_checks.CHECKS,
    *tenant_checks.CHECKS,
    *trust_checks.CHECKS,
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
