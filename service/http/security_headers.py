"""Security headers of every answer: browsers do not run it, frame it, guess its type or keep it."""

from collections.abc import Iterable
from typing import Final

SECURITY_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CACHE_CONTROL: Final = b"cache-control"
_NOT_KEPT: Final = (*SECURITY_HEADERS, (_CACHE_CONTROL, b"no-store"))


def missing(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """The security headers that an answer lacks. Its own headers stay, also for caching."""
    for name, _ in headers:
        if name == _CACHE_CONTROL:
            return SECURITY_HEADERS
    return _NOT_KEPT
