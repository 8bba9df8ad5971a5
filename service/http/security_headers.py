"""Security headers of every answer: browsers do not run it, frame it, guess its type or keep it."""

from collections.abc import Iterable
from typing import Final

SECURITY_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


def missing(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The security headers that an answer lacks. The answer's own headers stay: those for caching,
    and the policy of the page."""
    own = {name for name, _ in headers}
    return [header for header in SECURITY_HEADERS if header[0] not in own]
