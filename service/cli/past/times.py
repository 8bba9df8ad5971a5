"""Times as people type them: `2026-11-20T10:00Z`, `2026-11-20`, or `2h` for two hours ago."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_SPAN: Final = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def time_of(text: str) -> datetime | None:
    """The time that a text says; None if it says none. A time without a zone is in UTC."""
    try:
        if span := _SPAN.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[span[2]]: int(span[1])})
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError):  # 999999d is before the first year
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
