"""Links to shared plans: a token that nobody can guess, of which only the digest is stored.

A token is made from the share's id with a secret that is derived from the key's secret. So a
request that is sent again gets the same token, though nothing has stored it.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Final

from projections.shares import ShareRow, share_of_token
from service.postgres.connections import Pool, service_transaction
from service.settings import Key

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


def digest_of(token: str) -> str:
    """What the log keeps of a token."""
    return sha256(token.encode()).hexdigest()


def _secrets(key: Key) -> Iterator[bytes]:
    """The secrets that make the key's tokens. They differ from those that sign requests."""
    for secret in (key.secret, *key.secrets):
        yield hmac.digest(secret.get_secret_value().encode(), _PURPOSE, "sha256")
