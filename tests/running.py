"""The whole service on a real port, for tests: HTTP server, database and offline model."""

import asyncio
import secrets
import ssl
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpx
import orjson
from pydantic import SecretStr
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from service.access import signatures
from service.access.overload import Bounds, Capacity
from service.app import application
from service.chat.leases import LeaseTimes
from service.http.call import Service
from service.http.server import Server
from service.model.offline.app import OfflineModel, serving
from service.settings import Key, Scope, Settings
from tests import routes

Event: TypeAlias = tuple[str, Any, str]
"""Name, data, id."""

ALL_SCOPES: frozenset[Scope] = frozenset({"chat", "build", "admin", "read"})
KEYS = {
    "k1": Key(secret=SecretStr("secret-of-the-first-tenant"), tenant="t1", scopes=ALL_SCOPES),
    "k2": Key(secret=SecretStr("secret-of-the-other-tenant"), tenant="t2", scopes=ALL_SCOPES),
}
TENANTS = tuple(f"t{number}" for number in range(3, 203))
"""Further tenants, for tests that share a service: each has a tenant of its own."""
KEYS |= {
    f"k{tenant[1:]}": Key(
        secret=SecretStr(f"the-secret-of-tenant-{tenant}"), tenant=tenant, scopes=ALL_SCOPES
    )
    for tenant in TENANTS
}

UNSAFE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""The settings of the test run's PostgreSQL: quick, and not safe in a crash."""

LEASE_TIMES = LeaseTimes(lasts=4.0, renewed_every=0.5, stable_after=1.0, database_stable_after=1.0)
"""Short leases for services in processes of their own, so that a process's end is noticed soon."""

PATIENT = Capacity(
    replies=Bounds(lag=10, waiting=1_000, stored=10),
    others=Bounds(lag=10, waiting=1_000, stored=10),
    seconds=60,
)
"""Refuses nothing: here the service shares its loop with clients, model and test."""


def signature(method: str, path: bytes, query: bytes, body: bytes, key_id: str = "k1") -> str:
    """The value of the signature's header for a request that is sent now."""
    moment, nonce = int(time.time()), secrets.token_hex(8)
    v1 = signatures.sign(
        KEYS[key_id].secret.get_secret_value(),
        method=method,
        path=path,
        query=query,
        time=moment,
        nonce=nonce,
        key_id=key_id,
        body=body,
    )
    return f"t={moment},kid={key_id},n={nonce},v1={v1}"


def problem(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of a refusal."""
    return answer.status_code, answer.json()["code"]


class Signed(httpx.Auth):
    """Signs each request as a client does, over the bytes of the body."""

    requires_request_body = True

    def __init__(self, key_id: str = "k1") -> None:
        self.key_id = key_id

    def auth_flow(self, request: httpx.Request) -> Any:
        """Add the header."""
        path, _, query = request.url.raw_path.partition(b"?")
        request.headers[signatures.HEADER] = signature(
            request.method, path, query, request.content, self.key_id
        )
        yield request


@dataclass(frozen=True, slots=True)
class LiveService:
    """A running service: its parts, its model, and a client that signs as tenant t1."""

    client: httpx.AsyncClient
    model: OfflineModel
    service: Service
    server: Server

    @property
    def key_id(self) -> str:
        """The key that the client signs with."""
        assert isinstance(self.client.auth, Signed)
        return self.client.auth.key_id

    @property
    def tenant_id(self) -> str:
        """The tenant that the client acts as."""
        return KEYS[self.key_id].tenant

    def wait_for_the_replica(self) -> None:
        """Let each read ask for what the log has by now: a test writes past the service, too."""

        async def ask(request: httpx.Request) -> None:
            if request.method == "GET" and "X-Min-Position" not in request.headers:
                request.headers["X-Min-Position"] = str(await self.service.store.head())

        self.client.event_hooks = {"request": [ask]}

    async def project(self, project_id: str = "p1", *users: str) -> None:
        """Register a project with its members (u1 unless given)."""
        members = [{"userId": user, "role": "owner"} for user in users or ("u1",)]
        body = {"projectId": project_id, "name": "A project", "members": members}
        answer = await self.client.post("/v1/projects", json=body)
        assert answer.status_code == 201, answer.text

    async def credit(self, user_id: str = "u1", seconds: int = 36_000) -> None:
        """Give a user AI seconds."""
        body = {"userId": user_id, "seconds": seconds, "kind": "paid"}
        answer = await self.client.post("/v1/billing/credits", json=body)
        assert answer.status_code == 201, answer.text

    async def account(self, user_id: str = "u1") -> dict[str, Any]:
        """The user's balance."""
        answer = await self.client.get(f"/v1/billing/accounts/{user_id}")
        return dict(answer.json())

    async def chat(self, message: str, **members: Any) -> httpx.Response:
        """Post a message and wait for the whole reply as JSON."""
        body = {"userId": "u1", "projectId": "p1", "message": message} | members
        return await self.client.post("/v1/chat-plan", json=body)

    async def stream(self, message: str, **members: Any) -> list[Event]:
        """Post a message and read the reply's stream to its end: event, data, id."""
        body = {"userId": "u1", "projectId": "p1", "message": message} | members
        return await self.stream_of("/v1/chat-plan", body)

    async def stream_of(self, path: str, body: dict[str, Any]) -> list[Event]:
        """Post a body and read the stream of the reply to its end."""
        headers = {"Accept": "text/event-stream"}
        async with self.client.stream("POST", path, json=body, headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            return events_of((await answer.aread()).decode())

    async def join(self, reply_id: str, last_id: str | None = None) -> list[Event]:
        """Read a reply's stream from an event on to its end."""
        headers = {"Accept": "text/event-stream"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        path = f"/v1/chat-plan/replies/{reply_id}/stream"
        async with self.client.stream(
            "GET", path, params={"userId": "u1"}, headers=headers
        ) as answer:
            assert answer.status_code == 200, await answer.aread()
            return events_of((await answer.aread()).decode())


class ModelInTurn(OfflineModel):
    """A model that another model answers for, so that tests share a service but no model."""

    def __init__(self) -> None:
        super().__init__()
        self.answering = OfflineModel()

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        await self.answering(scope, receive, send)


@dataclass(frozen=True, slots=True)
class SharedService:
    """A service that the tests of a module share, and the tenants that none of them has had."""

    live: LiveService
    model: ModelInTurn
    unused: Iterator[str]

    @asynccontextmanager
    async def tenant(
        self, model: OfflineModel | None = None, *, key_id: str = ""
    ) -> AsyncGenerator[LiveService]:
        """The service for a tenant, with a model of its own: the tenant of a key, or else a tenant
        that nobody has used."""
        key_id = key_id or f"k{next(self.unused)[1:]}"
        self.model.answering = model or OfflineModel()
        async with _client(str(self.live.client.base_url), key_id) as client:
            client.event_hooks = self.live.client.event_hooks
            yield replace(self.live, client=client, model=self.model.answering)


@asynccontextmanager
async def sharing(url: str, **settings: Any) -> AsyncGenerator[SharedService]:
    """Start a service for many tenants against the database `url`; stop it gracefully."""
    model = ModelInTurn()
    async with running(url, model, **settings) as live:
        yield SharedService(live, model, iter(TENANTS))


def events_of(text: str) -> list[Event]:
    """The events of a whole stream: name, data, id. Comments are left out."""
    events: list[Event] = []
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":")
        )
        if "event" in fields:
            events.append((fields["event"], orjson.loads(fields["data"]), fields.get("id", "")))
    return events


@asynccontextmanager
async def running(
    url: str,
    model: OfflineModel | None = None,
    *,
    capacity: Capacity = PATIENT,
    **settings: Any,
) -> AsyncGenerator[LiveService, None]:
    """Start the service on a port of its own against the database `url`; stop it gracefully."""
    model = model or OfflineModel()
    way = routes.route(url)
    if way.replica_url is not None:
        settings = {"database_replica_url": SecretStr(way.replica_url)} | settings
    async with serving(model) as model_url:
        chosen = Settings(
            port=0,
            hmac_keys=KEYS,
            anthropic_api_key=SecretStr("offline"),
            anthropic_base_url=model_url,
        ).model_copy(update={"model": "offline", "grace_seconds": 2.0} | settings)
        app = application(
            chosen, database_url=way.url, direct_url=way.direct_url, capacity=capacity
        )
        server = Server(app, chosen)
        # Signals belong to the test run, not to the server in it.
        task = asyncio.create_task(server._serve())
        await server.ready.wait()
        base = f"http://127.0.0.1:{urlsplit(server.url).port}"
        try:
            async with _client(base, "k1") as client:
                live = LiveService(client, model, app.state.service, server)
                if way.replica_url is not None:
                    live.wait_for_the_replica()
                yield live
        finally:
            server.handle_exit(15, None)
            await task


def _client(base: str, key_id: str) -> httpx.AsyncClient:
    # Without TLS no certificates are needed. It takes 30 ms to load them.
    none = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The server closes a connection that was idle for 5 seconds. In that moment nobody may use it.
    limits = httpx.Limits(keepalive_expiry=2)
    return httpx.AsyncClient(
        base_url=base, auth=Signed(key_id), timeout=60, verify=none, limits=limits
    )
