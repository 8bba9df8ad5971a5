"""How limits are told: RateLimit-Policy and RateLimit, as draft-ietf-httpapi-ratelimit-headers has
them: structured fields (RFC 9651), an item a limit, `q` per window `w`, `r` remaining, `t` seconds.
"""

from collections.abc import Iterable

from domain.errors import LimitReached
from domain.rate_limits import WINDOW, LimitStatus


def rate_limit(standings: Iterable[LimitStatus]) -> dict[str, str]:
    """The headers of an answer to what was counted; `t` is when it is one more again."""
    told = [
        (
            f'"{each.limit.name}";q={each.limit.quota};w={WINDOW.seconds}',
            f'"{each.limit.name}";r={each.remaining};t={each.seconds}',
        )
        for each in standings
    ]
    return _headers(*zip(*told, strict=True)) if told else {}


def refused(limit: LimitReached) -> dict[str, str]:
    """The headers of an answer to what was one too many."""
    name, seconds = limit.name, limit.retry_after_seconds
    policy = f'"{name}";q={limit.quota};w={limit.window_seconds}'
    return _headers((policy,), (f'"{name}";r=0;t={seconds}',)) | {"Retry-After": str(seconds)}


def _headers(policies: Iterable[str], standings: Iterable[str]) -> dict[str, str]:
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(standings)}
