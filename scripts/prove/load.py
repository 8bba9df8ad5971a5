"""Runs the load and the faults, until all replies have ended, and then reads everything again."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

from psycopg import OperationalError

from projections.projection import status
from scripts.prove.calls import Caller
from scripts.prove.checks.tenants import FAULTS
from scripts.prove.clients import Client
from scripts.prove.database import Postgres
from scripts.prove.endings import end_under_watch
from scripts.prove.fleet import Fleet
from scripts.prove.observed import Feed, Observed
from scripts.prove.others import read_states, read_timelines, watch, work
from scripts.prove.sizes import Size
from scripts.prove.tenants import Tenant

FIRST_SECONDS: Final = 130
"""A user's first seconds: enough for two messages at a time, so that a third is refused."""

WORKERS: Final = 2
FROZEN_SECONDS: Final = 12.0
"""How long a process stands still: longer than its lease lasts."""

QUIET_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.2


class Load:
    """All clients. Their random numbers come from one seed, split by name."""

    def __init__(
        self,
        size: Size,
        seed: int,
        tenants: tuple[Tenant, ...],
        fleet: Fleet,
        postgres: Postgres,
        folder: Path,
    ) -> None:
        self.observed = Observed(canaries={each.name: each.canary for each in tenants})
        self._size, self._seed, self._tenants = size, seed, tenants
        self._fleet, self._postgres, self._folder = fleet, postgres, folder
        self._callers: list[Caller] = []
        self._numbers = count()

    async def run(self) -> None:
        """Run the load. When it does not end in time, the checks report what has not ended."""
        try:
            with suppress(TimeoutError):
                await self._run()
        finally:
            for caller in self._callers:
                await caller.close()

    async def _run(self) -> None:
        async with asyncio.timeout(self._size.limit_seconds), self._watched():
            async with self._working() as stop_working:
                clients = self._clients()
                await self._prepare(clients)
                stop = asyncio.Event()
                async with asyncio.TaskGroup() as running:
                    for client in clients:
                        running.create_task(client.run(stop))
                    for tenant in self._tenants:
                        caller = self._caller(tenant, f"ends-{tenant.name}")
                        running.create_task(end_under_watch(caller, stop))
                    await self._faults()
                    await self._until(self._has_tried_every_fault)
                    stop.set()
                stop_working.set()
            await self._until_quiet()
            await self._read_once_more()
            await self._until_watched()

    def _random(self, name: str) -> Random:
        return Random(f"{self._seed} {name}")

    def _caller(self, tenant: Tenant, name: str) -> Caller:
        kept = self._folder / f"received-{next(self._numbers)}-{name}"
        caller = Caller(tenant, self._fleet, self.observed, self._random(name), kept)
        self._callers.append(caller)
        return caller

    def _clients(self) -> list[Client]:
        names = [f"client-{number}" for number in range(self._size.clients)]
        callers = [
            self._caller(self._tenants[number % len(self._tenants)], name)
            for number, name in enumerate(names)
        ]
        return [
            Client(name, caller, tuple(each for each in callers if each.tenant != caller.tenant))
            for name, caller in zip(names, callers, strict=True)
        ]

    async def _prepare(self, clients: Iterable[Client]) -> None:
        """Make projects with a prompt each and first credits, and for each tenant a plan that is
        saved and built."""
        for tenant, client in zip(self._tenants, clients, strict=False):
            caller = self._caller(tenant, f"owner-{tenant.name}")
            members = [{"userId": user_id} for user_id in tenant.users]
            for project_id in tenant.projects:
                body = {"projectId": project_id, "name": tenant.canary, "members": members}
                body["members"] = [{**each, "role": "owner"} for each in members]
                await caller.call("registerProject", "POST", "/v1/projects", body, key=project_id)
                asked = {"userId": tenant.users[0], "projectId": project_id}
                asked |= {"name": tenant.canary, "text": f"{tenant.canary} for {{{{what}}}}"}
                key = f"prompt-{project_id}"
                await caller.call("createPrompt", "POST", "/v1/prompts", asked, key=key)
            await client.ask_without_seconds()
            for user_id in tenant.users:
                await client.credit(user_id, FIRST_SECONDS)
            await client.ask(plainly=True)

    @asynccontextmanager
    async def _working(self) -> AsyncGenerator[asyncio.Event]:
        """Run two racing build workers for each tenant. They end when no build waits."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for tenant in self._tenants:
                for number in range(WORKERS):
                    worker_id = f"{tenant.canary}-worker-{number}"
                    caller = self._caller(tenant, f"worker-{tenant.name}-{number}")
                    group.create_task(work(caller, worker_id, stop))
            yield stop

    @asynccontextmanager
    async def _watched(self) -> AsyncGenerator[None]:
        """Run a watcher of each tenant's log."""
        watching: list[asyncio.Task[None]] = []
        for tenant in self._tenants:
            feed = Feed(tenant=tenant.name)
            self.observed.feeds.append(feed)
            caller = self._caller(tenant, f"watcher-{tenant.name}")
            watching.append(asyncio.create_task(watch(caller, feed)))
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    # Faults --------------------------------------------------------------------------------------

    async def _faults(self) -> None:
        """Kill and freeze processes and kill the database, spread over the time of the load."""
        await asyncio.gather(
            self._spread("kills of service", self._size.service_kills, self._fleet.kill),
            self._spread("kills of postgres", self._size.postgres_kills, self._kill_postgres),
            self._spread("freezes of service", self._size.service_freezes, self._freeze_service),
        )

    async def _spread(
        self, name: str, times: int, fault: Callable[[Random], Awaitable[None]]
    ) -> None:
        random = self._random(name)
        loop = asyncio.get_running_loop()
        begun, pace = loop.time(), self._size.seconds / (times + 1)
        for number in range(times):
            moment = begun + pace * (number + random.uniform(0.5, 1.5))
            await asyncio.sleep(max(0.0, moment - loop.time()))
            await fault(random)
            self.observed.counts[name] += 1
        await asyncio.sleep(max(0.0, begun + self._size.seconds - loop.time()))

    async def _freeze_service(self, random: Random) -> None:
        await self._fleet.freeze(random, FROZEN_SECONDS)

    async def _kill_postgres(self, random: Random) -> None:  # noqa: ARG002 - the same signature as the other faults
        self._postgres.kill()
        await asyncio.to_thread(self._postgres.restart)

    async def _has_tried_every_fault(self) -> bool:
        return all(self.observed.counts[name] for name in FAULTS)

    # The end -------------------------------------------------------------------------------------

    async def _until_quiet(self) -> None:
        """Wait until no reply runs and every read model has reached the head of the log."""
        await self._until(self._is_quiet)

    async def _is_quiet(self) -> bool:
        try:
            async with self._postgres.connection() as owner:
                found = await owner.execute("select from app.replies where ended_position is null")
                statuses = await status(owner)
        except OperationalError:
            return False
        return not found.rowcount and all(each.state == "live" for each in statuses)

    async def _read_once_more(self) -> None:
        """Read every reply and every timeline again."""
        async with asyncio.TaskGroup() as group:
            for tenant in self._tenants:
                replies = sorted(
                    reply_id
                    for message in self.observed.messages
                    if message.tenant == tenant.name
                    for reply_id in message.replies
                )
                caller = self._caller(tenant, f"last-{tenant.name}")
                group.create_task(read_states(caller, replies))
                group.create_task(read_timelines(caller))

    async def _until_watched(self) -> None:
        """Wait until each watcher has the end of its tenant's log."""
        async with self._postgres.connection() as owner:
            rows = await owner.execute(
                "select tenant_id, max(position) from app.event group by tenant_id"
            )
            heads = dict(await rows.fetchall())

        async def have_come() -> bool:
            return all(
                feed.links and feed.links[-1].position >= heads[feed.tenant]
                for feed in self.observed.feeds
            )

        await self._until(have_come)

    async def _until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Poll until `is_so`, or until the time limit: then the checks report what is missing."""
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                while True:
                    if await is_so():
                        return
                    await asyncio.sleep(POLL_SECONDS)
