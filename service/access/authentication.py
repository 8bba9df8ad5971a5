"""Verifies the signature of a request over the bytes as they arrived."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import sql
from service.access import signatures
from service.access.signatures import CLOCK_SECONDS, Signature
from service.postgres.connections import Pool, service_transaction
from service.settings import Key, Scope

SQL: Final = sql.statements("nonces.sql")
_READS: Final = frozenset({"GET", "HEAD"})
_NOBODY: Final = "no key has this secret, it only takes as long"


class Unauthenticated(Exception):
    """Sign the request with a known key: X-HMAC-Signature, a clock within 300 seconds, and a nonce
    that was not used before; or bring a token, where a browser may call.
    """

    # All causes have the same answer, so that an attacker learns nothing from it.
    code: ClassVar[str] = "not_authenticated"

    @property
    def detail(self) -> str:
        """The message for the client: the docstring."""
        return " ".join((type(self).__doc__ or "").split())


class Forbidden(Exception):
    """The key lacks the scope `scope`."""

    def __init__(self, scope: str) -> None:
        super().__init__(scope)
        self.scope = scope


class NotYours(Exception):
    """The token belongs to another user than the request names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The key that signed a request, and its tenant and scopes.

    With a browser's token the caller is one user, in one project or in all of the user's, until
    `expires_at` (Unix seconds). `browser_session_id` is where the user has signed in.
    """

    key_id: str
    tenant_id: str
    scopes: frozenset[Scope]
    user_id: str | None = None
    project_id: str | None = None
    expires_at: int | None = None
    browser_session_id: str | None = None

    def require(self, scope: Scope) -> None:
        """Raises Forbidden unless the key has the scope."""
        if scope not in self.scopes:
            raise Forbidden(scope)


class Authenticator:
    """Verifies signatures. The database keeps the nonces of writes, so each is used once."""

    def __init__(self, keys: Mapping[str, Key], pool: Pool) -> None:
        self._keys = keys
        self._pool = pool

    def read(self, header: str | None) -> Signature:
        """Parse the header and check its time, before the body is read. Raises Unauthenticated."""
        signature = signatures.parse(header or "")
        if signature is None or abs(time.time() - signature.time) > CLOCK_SECONDS:
            raise Unauthenticated
        return signature

    async def verify(
        self, signature: Signature, *, method: str, path: bytes, query: bytes, body: bytes
    ) -> Caller:
        """The caller. An unknown key takes as long as a known key. Raises Unauthenticated."""
        key = self._keys.get(signature.key_id)
        expected = [
            signatures.sign(
                secret,
                method=method,
                path=path,
                query=query,
                time=signature.time,
                nonce=signature.nonce,
                key_id=signature.key_id,
                body=body,
            )
            for secret in _secrets(key)
        ]
        if not signatures.matches(signature, expected) or key is None:
            raise Unauthenticated
        if method not in _READS:
            await self._use_up(signature)
        return Caller(key_id=signature.key_id, tenant_id=key.tenant, scopes=key.scopes)

    async def _use_up(self, signature: Signature) -> None:
        """Mark the nonce as used. Called after the signature was verified: only the caller can."""
        async with service_transaction(self._pool) as connection:
            used = await connection.execute(
                SQL["use"], {"key_id": signature.key_id, "nonce": signature.nonce}
            )
        if await used.fetchone() is None:
            raise Unauthenticated


def _secrets(key: Key | None) -> list[str]:
    if key is None:
        return [_NOBODY]
    return [secret.get_secret_value() for secret in (key.secret, *key.secrets)]
