"""Signing in with a browser: a link that works once becomes a browser session.

The link has a code, and the browser keeps a secret in a cookie. Nobody can guess the code or the
secret, and only their digests are stored. A browser session gives short tokens, and nothing else
takes its cookie. It belongs to the key that asked for the link, so it ends with its key.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, ClassVar, Final

from psycopg.rows import class_row

import sql
from service.access.authentication import Caller, Unauthenticated
from service.eventlog.errors import committing
from service.ids import new_id
from service.postgres.connections import Connection, Pool, service_transaction
from service.settings import Key, Scope

SQL: Final = sql.statements("browser_sessions.sql")
SECONDS: Final = 43_200
"""How long a browser session lasts."""

MOST_LINKS: Final = 20
MOST_BROWSER_SESSIONS: Final = 20
"""The most links and the most browser sessions of a user. A new one removes the oldest."""

_SECRET_BYTES: Final = 32
_SECRET_LENGTH: Final = 43
_SCOPES: Final[frozenset[Scope]] = frozenset({"chat"})


class LinkUnusable(Unauthenticated):
    """This link was used already, or has expired. Ask for another link."""

    code: ClassVar[str] = "link_unusable"


class SignedOut(Unauthenticated):
    """This browser is not signed in, or not any more. Sign in with another link."""

    code: ClassVar[str] = "signed_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserSession:
    """A browser in which a user is signed in."""

    browser_session_id: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    tenant_id: str
    key_id: str
    user_id: str
    project_id: str | None
    browser_session_id: str | None


class BrowserSessions:
    """Links and browser sessions. Each belongs to a known key."""

    def __init__(self, keys: Mapping[str, Key], pool: Pool) -> None:
        self._keys = keys
        self._pool = pool

    async def add_link(
        self, caller: Caller, *, user_id: str, project_id: str | None, seconds: int
    ) -> tuple[str, datetime]:
        """A new link for a user of the caller's tenant: its code, and when it expires."""
        code = secrets.token_urlsafe(_SECRET_BYTES)
        asked: dict[str, Any] = {
            "tenant_id": caller.tenant_id,
            "code_digest": _digest(code),
            "key_id": caller.key_id,
            "user_id": user_id,
            "project_id": project_id,
            "seconds": seconds,
            "most": MOST_LINKS,
        }
        with committing():
            async with service_transaction(self._pool) as connection:
                added = await connection.execute(SQL["add_link"], asked)
        ((expires_at,),) = await added.fetchall()
        return code, expires_at

    async def of_code(self, code: str) -> Caller:
        """The user that a link signs in. Raises LinkUnusable."""
        caller = None
        if len(code) == _SECRET_LENGTH:
            caller = await self._caller("link", code_digest=_digest(code))
        if caller is None:
            raise LinkUnusable
        return caller

    async def redeem(self, code: str) -> tuple[BrowserSession, str]:
        """A browser session in place of the link, and its secret. Raises LinkUnusable, also where
        another request with the same code was faster."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        asked: dict[str, Any] = {
            "code_digest": _digest(code),
            "browser_session_id": new_id(),
            "secret_digest": _digest(secret),
            "seconds": SECONDS,
            "most": MOST_BROWSER_SESSIONS,
        }
        with committing():
            async with service_transaction(self._pool) as connection:
                cursor = connection.cursor(row_factory=class_row(BrowserSession))
                await cursor.execute(SQL["redeem"], asked)
        row = await cursor.fetchone()
        if row is None:
            raise LinkUnusable
        return row, secret

    async def of_secret(self, secret: str) -> Caller:
        """The user of a browser session. The time of its last use becomes now. Raises SignedOut."""
        caller = None
        if len(secret) == _SECRET_LENGTH:
            caller = await self._caller("use", secret_digest=_digest(secret))
        if caller is None:
            raise SignedOut
        return caller

    async def end(self, caller: Caller, browser_session_id: str, user_id: str) -> bool:
        """End a browser session; returns False where the user has no browser session of this id."""
        asked = _asked(caller, user_id) | {"browser_session_id": browser_session_id}
        with committing():
            async with service_transaction(self._pool) as connection:
                ended = await connection.execute(SQL["end"], asked)
        return await ended.fetchone() is not None

    async def _caller(self, statement: str, **asked: str) -> Caller | None:
        async with service_transaction(self._pool) as connection:
            cursor = connection.cursor(row_factory=class_row(_Row))
            await cursor.execute(SQL[statement], asked)
        row = await cursor.fetchone()
        key = None if row is None else self._keys.get(row.key_id)
        if row is None or key is None or key.tenant != row.tenant_id:
            return None
        return Caller(
            key_id=row.key_id,
            tenant_id=row.tenant_id,
            scopes=_SCOPES & key.scopes,
            user_id=row.user_id,
            project_id=row.project_id,
            browser_session_id=row.browser_session_id,
        )


async def of_user(connection: Connection, caller: Caller, user_id: str) -> list[BrowserSession]:
    """The browser sessions of a user, newest first."""
    async with connection.cursor(row_factory=class_row(BrowserSession)) as cursor:
        await cursor.execute(SQL["of_user"], _asked(caller, user_id))
        return await cursor.fetchall()


async def expire(pool: Pool, *, limit: int) -> int:
    """Remove what has expired, at most `limit` links and browser sessions each; returns how many
    were removed."""
    async with service_transaction(pool) as connection:
        removed = await connection.execute(SQL["expire"], {"limit": limit})
    (count,) = await removed.fetchone() or (0,)
    return int(count)


def _asked(caller: Caller, user_id: str) -> dict[str, str | None]:
    """The parameters that select the browser sessions of a user. A caller with a token for one
    project sees the browser sessions of this project alone."""
    return {
        "tenant_id": caller.tenant_id,
        "user_id": user_id,
        "project_id": caller.project_id,
    }


def _digest(secret: str) -> str:
    """What the database keeps of a code or a secret."""
    return sha256(secret.encode()).hexdigest()
