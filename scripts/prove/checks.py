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
TOLD_AT_MOST: Final = 20
"""Breaches of one check that are told; one is enough."""


def verdict(check: Check, found: Found, control: str) -> list[str]:
    """What is wrong with a line of the report. A check that looked at nothing proves nothing, and
    neither does one that misses what was damaged for it."""
    wrong = [f"{check.name}: {breach}" for breach in found.breaches[:TOLD_AT_MOST]]
    if not found.counted:
        wrong.append(f"{check.name}: nothing was looked at")
    if control != FOUND:
        wrong.append(f"{check.name}: its control was {control}")
    return wrong
