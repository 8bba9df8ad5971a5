"""Links to shared plans: a token that nobody can guess. Only its digest is stored.

A token is made from the share's id with a secret that is derived from the key's secret. So a
request that is sent again gets the same token, though nothing has stored it.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from math import ceil
from time import monotonic
from typing import Final

from domain.errors import AddressLimitReached, LimitReached, ShareLimitReached
from projections.shares import ShareRow, share_of_token
from service.concurrency.lru import LRU
from service.postgres.connections import Pool, service_transaction
from service.settings import Key

WINDOW_SECONDS: Final = 3_600
MOST_OF_LINK: Final = 600
MOST_OF_ADDRESS: Final = 1_200
"""The most reads of a link, and of all links by an address, in one window."""

MOST_COUNTED: Final = 10_000
"""The most links, and the most addresses, that are counted at a time: the ones read last."""

_PURPOSE: Final = b"throughline share link v1"


class ShareLinks:
    """Makes and finds the tokens of shares."""

    def __init__(self, keys: Mapping[str, Key], pool: Pool) -> None:
        self._keys = keys
        self._pool = pool

    def token(self, key_id: str, share_id: str, digest: str | None = None) -> str | None:
        """The token of a share that a key made; None where no secret of the key gives the digest.

        Without a digest it is the token of a new share.
        """
        for secret in _secrets(self._keys[key_id]):
            made = hmac.digest(secret, share_id.encode(), "sha256")
            token = urlsafe_b64encode(made).rstrip(b"=").decode()
            if digest in (None, digest_of(token)):
                return token
        return None

    async def find(self, token: str) -> ShareRow | None:
        """The share with this token that has not ended, whatever its tenant; or None."""
        async with service_transaction(self._pool) as connection:
            return await share_of_token(connection, token_digest=digest_of(token))


class ShareReads:
    """Counts the reads of links by everybody, in this process alone: a read leaves no event.

    The window of a link or an address begins with its first read.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._links: LRU[str, tuple[float, int]] = LRU(MOST_COUNTED)
        self._addresses: LRU[str, tuple[float, int]] = LRU(MOST_COUNTED)

    def count(self, token: str, address: str) -> None:
        """Count one read. Raises AddressLimitReached, ShareLimitReached, and counts no read then.

        The token is counted whether there is such a link or not, so a refusal does not tell that.
        """
        now = self._clock()
        reads = (
            (self._addresses, address, MOST_OF_ADDRESS, AddressLimitReached),
            (self._links, digest_of(token), MOST_OF_LINK, ShareLimitReached),
        )
        counted = [_counted(known.get(key), now, most, over) for known, key, most, over in reads]
        for (known, key, *_), count in zip(reads, counted, strict=True):
            known.put(key, count)


def _counted(
    before: tuple[float, int] | None, now: float, most: int, refusal: type[LimitReached]
) -> tuple[float, int]:
    """The beginning of the window and the reads in it, with one more. Raises the refusal."""
    began, reads = before or (now, 0)
    if now - began >= WINDOW_SECONDS:
        began, reads = now, 0
    if reads >= most:
        raise refusal(
            quota=most,
            window_seconds=WINDOW_SECONDS,
            retry_after_seconds=ceil(began + WINDOW_SECONDS - now),
        )
    return began, reads + 1


def digest_of(token: str) -> str:
    """What the log keeps of a token."""
    return sha256(token.encode()).hexdigest()


def _secrets(key: Key) -> Iterator[bytes]:
    """The secrets that make the key's tokens. Other secrets sign requests."""
    for secret in (key.secret, *key.secrets):
        yield hmac.digest(secret.get_secret_value().encode(), _PURPOSE, "sha256")
