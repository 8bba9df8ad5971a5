"""The headers RateLimit-Policy and RateLimit, by draft-ietf-httpapi-ratelimit-headers: structured
fields (RFC 9651), an item a limit, `q` per window `w`, `r` remaining, the next one in `t` seconds.
"""

from collections.abc import Iterable

from domain.deciders.rate_limits import WINDOW, LimitStatus
from domain.errors import LimitReached


def rate_limit(limits: Iterable[LimitStatus]) -> dict[str, str]:
    """The headers of an answer to a message that was counted."""
    parts = [
        (
            f'"{each.limit.name}";q={each.limit.quota};w={WINDOW.seconds}',
            f'"{each.limit.name}";r={each.remaining};t={each.seconds}',
        )
        for each in limits
    ]
    return _headers(*zip(*parts, strict=True)) if parts else {}


def refused(limit: LimitReached) -> dict[str, str]:
    """The headers of an answer to a message over the limit."""
    name, seconds = limit.name, limit.retry_after_seconds
    policy = f'"{name}";q={limit.quota};w={limit.window_seconds}'
    return _headers((policy,), (f'"{name}";r=0;t={seconds}',)) | {"Retry-After": str(seconds)}


def _headers(policies: Iterable[str], limits: Iterable[str]) -> dict[str, str]:
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(limits)}
