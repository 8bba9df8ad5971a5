"""Short tokens for browsers: JWTs (RFC 7519) for one user, in one project or all of the user's.

A server with a key mints tokens; a browser reads with a token, and chats as its user. A token is
signed with a secret that is derived from the key's secret, so it ends with its key. The service
chooses the algorithm, never the token.
"""

import hmac
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Final

import jwt
from pydantic import BaseModel, ConfigDict, Field

from service.access.authentication import Caller, Unauthenticated
from service.access.signatures import CLOCK_SECONDS
from service.settings import Key, Scope
from service.wire import Id

ISSUER: Final = "throughline"
AUDIENCE: Final = "throughline-browser"
ALGORITHM: Final = "HS256"
LONGEST: Final = 2_048
_NEEDED: Final = ("iss", "aud", "sub", "iat", "exp")
_SCOPES: Final[frozenset[Scope]] = frozenset({"chat"})
_PURPOSE: Final = b"throughline browser token v1"
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999, in Unix seconds."""


class Claims(BaseModel):
    """What a token says of its caller: ids as everywhere, and times in Unix seconds.

    A token without a project is for all projects of its user.
    """

    model_config = ConfigDict(strict=True)

    user_id: Annotated[Id, Field(alias="sub")]
    project_id: Annotated[Id | None, Field(alias="prj")] = None
    browser_session_id: Annotated[Id | None, Field(alias="sid")] = None
    issued_at: Annotated[int, Field(alias="iat")]
    expires_at: Annotated[int, Field(alias="exp", ge=0, le=_LAST_SECOND)]


class BrowserTokens:
    """Mints and verifies tokens of the known keys."""

    def __init__(self, keys: Mapping[str, Key]) -> None:
        self._keys = keys

    def mint(
        self,
        key_id: str,
        *,
        user_id: str,
        project_id: str | None,
        seconds: int,
        browser_session_id: str | None = None,
    ) -> tuple[str, int]:
        """A token of the key for a user, and its expiry in Unix seconds.

        Without a project the token is for all projects of the user.
        """
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "iat": now,
            "exp": now + seconds,
        }
        named = {"prj": project_id, "sid": browser_session_id}
        claims |= {name: value for name, value in named.items() if value is not None}
        secret = next(_secrets(self._keys[key_id]))
        token = jwt.encode(  # pyright: ignore[reportUnknownMemberType] - its key may be of any kind
            claims, secret, algorithm=ALGORITHM, headers={"kid": key_id}
        )
        return token, now + seconds

    def read(self, token: str) -> Caller:
        """The caller that the token names. Raises Unauthenticated for every invalid token."""
        try:
            if len(token) > LONGEST:
                raise Unauthenticated
            key_id = jwt.get_unverified_header(token).get("kid")
            key = self._keys.get(key_id) if isinstance(key_id, str) else None
            if key is None or key_id is None:
                raise Unauthenticated
            claims = _verified(token, key)
        except (jwt.PyJWTError, ValueError, ArithmeticError, RecursionError):
            # Also for JSON that is nested too deeply, and for times that are no numbers.
            raise Unauthenticated from None
        return Caller(
            key_id=key_id,
            tenant_id=key.tenant,
            scopes=_SCOPES & key.scopes,
            user_id=claims.user_id,
            project_id=claims.project_id,
            expires_at=claims.expires_at,
            browser_session_id=claims.browser_session_id,
        )


def _verified(token: str, key: Key) -> Claims:
    """The claims, signed by a secret of the key and valid now.

    Raises jwt.InvalidTokenError, and pydantic.ValidationError for claims that are no ids.
    """
    for secret in _secrets(key):
        try:
            decoded = jwt.decode(  # pyright: ignore[reportUnknownMemberType] - as above
                token,
                secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                # The clock of the server that minted the token may be ahead of the clock here.
                options={"require": list(_NEEDED), "verify_iat": False},
            )
        except jwt.InvalidSignatureError:
            continue
        claims = Claims.model_validate(decoded)
        if claims.issued_at > time.time() + CLOCK_SECONDS:
            raise Unauthenticated
        return claims
    raise Unauthenticated


def _secrets(key: Key) -> Iterator[bytes]:
    """The secrets that sign the key's tokens. Other secrets sign requests."""
    for secret in (key.secret, *key.secrets):
        yield hmac.digest(secret.get_secret_value().encode(), _PURPOSE, "sha256")
