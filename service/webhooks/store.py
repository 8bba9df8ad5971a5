"""The webhooks of all tenants in the database."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.rows import class_row

import sql
from service.chat.leases import Lease
from service.eventlog.errors import committing
from service.ids import new_id
from service.postgres.connections import Connection, Pool, service_transaction
from service.webhooks.sending import new_secret

SQL: Final = sql.statements("webhooks.sql")
MOST_WEBHOOKS: Final = 10
"""The most webhooks of a tenant."""

MOST_DEAD_LETTERS: Final = 100
"""The most dead letters of a webhook. A new dead letter removes the oldest."""

ROTATION_SECONDS: Final = 86_400
"""How long the old secret still signs after a rotation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRow:
    """A webhook as its tenant sees it."""

    webhook_id: str
    url: str
    types: list[str] | None
    description: str | None
    is_enabled: bool
    created_at: datetime
    position: int
    cursor: str
    tries: int
    next_try_at: datetime | None
    error: str | None
    old_secret_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterRow:
    """An event that a webhook did not take."""

    position: int
    type: str
    error: str
    given_up_at: datetime
    is_wanted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A webhook that this process delivers."""

    tenant_id: str
    webhook_id: str
    url: str
    types: list[str] | None
    secret: str
    old_secret: str | None
    revision: int
    position: int
    tries: int
    next_try_at: datetime | None

    @property
    def version(self) -> tuple[int, str | None]:
        """Another value where the tenant changed the webhook, or its old secret has expired."""
        return self.revision, self.old_secret

    @property
    def secrets(self) -> list[str]:
        """The secrets that sign."""
        return [self.secret] if self.old_secret is None else [self.secret, self.old_secret]


class Webhooks:
    """Changes of webhooks, for their tenants."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(
        self, tenant_id: str, *, url: str, types: list[str] | None, description: str | None
    ) -> tuple[str, str] | None:
        """A new webhook: its id and its secret. None where the tenant has MOST_WEBHOOKS already."""
        secret = new_secret()
        asked = {
            "tenant_id": tenant_id,
            "webhook_id": new_id(),
            "url": url,
            "types": types,
            "description": description,
            "secret": secret,
            "most": MOST_WEBHOOKS,
        }
        with committing():
            async with service_transaction(self._pool) as connection:
                await connection.execute(SQL["lock"], {"tenant_id": tenant_id})
                added = await connection.execute(SQL["add"], asked)
        found = await added.fetchone()
        return None if found is None else (found[0], secret)

    async def change(
        self,
        tenant_id: str,
        webhook_id: str,
        *,
        url: str | None,
        types: list[str] | None,
        description: str | None,
        is_enabled: bool | None,
        rotate: bool,
    ) -> tuple[bool, str | None]:
        """Change a webhook. Returns whether there is a webhook of this id, and after a rotation its
        new secret."""
        secret = new_secret() if rotate else None
        asked = {
            "tenant_id": tenant_id,
            "webhook_id": webhook_id,
            "url": url,
            "types": types,
            "description": description,
            "is_enabled": is_enabled,
            "secret": secret,
            "seconds": ROTATION_SECONDS,
        }
        return await self._one("change", asked) is not None, secret

    async def remove(self, tenant_id: str, webhook_id: str) -> bool:
        """Remove a webhook. Returns False where the tenant has no webhook of this id."""
        asked = {"tenant_id": tenant_id, "webhook_id": webhook_id}
        return await self._one("remove", asked) is not None

    async def redeliver(self, tenant_id: str, webhook_id: str) -> int | None:
        """Ask for the dead letters of a webhook to be sent once more. Returns their number; None
        where the tenant has no webhook of this id."""
        asked = {"tenant_id": tenant_id, "webhook_id": webhook_id}
        found = await self._one("redeliver", asked)
        return None if found is None else int(found[0])

    async def _one(self, statement: str, asked: dict[str, Any]) -> tuple[Any, ...] | None:
        with committing():
            async with service_transaction(self._pool) as connection:
                found = await connection.execute(SQL[statement], asked)
        return await found.fetchone()


async def webhooks_of(
    connection: Connection, tenant_id: str, webhook_id: str | None = None
) -> list[WebhookRow]:
    """The webhooks of a tenant, or its webhook with this id."""
    async with connection.cursor(row_factory=class_row(WebhookRow)) as cursor:
        asked = {"tenant_id": tenant_id, "webhook_id": webhook_id}
        await cursor.execute(SQL["webhooks_of"], asked)
        return await cursor.fetchall()


async def dead_letters(
    connection: Connection, tenant_id: str, webhook_id: str
) -> list[DeadLetterRow]:
    """The events that a webhook did not take, the newest first."""
    async with connection.cursor(row_factory=class_row(DeadLetterRow)) as cursor:
        asked = {"tenant_id": tenant_id, "webhook_id": webhook_id}
        await cursor.execute(SQL["dead_letters"], asked)
        return await cursor.fetchall()


class Deliveries:
    """What a process that delivers reads and writes. Its lease keeps all other processes out."""

    def __init__(self, pool: Pool, lease: Lease) -> None:
        self._pool = pool
        self._lease = lease

    async def claim(self) -> list[Claimed]:
        """All webhooks of this process. First the process takes each webhook without a living
        process."""
        asked = {
            "lease_id": self._lease.lease_id,
            "until": self._lease.stable_until,
            "lease_seconds": self._lease.times.lasts,
            "grace_seconds": self._lease.times.database_stable_after,
        }
        async with service_transaction(self._pool) as connection:
            await connection.execute(SQL["lock_claims"])
            cursor = connection.cursor(row_factory=class_row(Claimed))
            await cursor.execute(SQL["claim"], asked)
            return await cursor.fetchall()

    async def write(self, statement: str, webhook: Claimed, **asked: Any) -> bool:
        """Write what became of an event. Returns False where the webhook has changed meanwhile."""
        async with service_transaction(self._pool) as connection:
            found = await connection.execute(SQL[statement], self._key(webhook) | asked)
        return found.rowcount > 0

    async def wanted(self, webhook: Claimed) -> list[int]:
        """The positions of the events that are to be sent once more."""
        async with service_transaction(self._pool) as connection:
            found = await connection.execute(SQL["wanted"], self._key(webhook))
            return [position for (position,) in await found.fetchall()]

    def _key(self, webhook: Claimed) -> dict[str, Any]:
        return {
            "tenant_id": webhook.tenant_id,
            "webhook_id": webhook.webhook_id,
            "revision": webhook.revision,
            "lease_id": self._lease.lease_id,
        }
