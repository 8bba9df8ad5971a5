"""The service's ids: UUIDs of version 7, which sort by time."""

import secrets
import time
from uuid import UUID


def new_id(*, seconds_ago: float = 0) -> str:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then random bits."""
    return id_at(time.time() - seconds_ago, secrets.randbits(80))


def id_at(seconds: float, chance: int) -> str:
    """The UUIDv7 of a time, in seconds since 1970, and of 80 random bits."""
    value = (round(seconds * 1_000) << 80) | chance
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return str(UUID(int=value))
