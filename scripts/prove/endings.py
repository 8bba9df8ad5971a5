"""Replies are erased, and readers are removed, while their streams are open on any server."""

import asyncio
from contextlib import aclosing
from typing import Any, Final

import httpx

from scripts.prove.calls import STREAM, Caller
from scripts.prove.observed import Watched

NAME: Final = "endWatched"
"""The calls here: they may find that what they ask for is gone already."""

WATCHERS: Final = 3
HANGS_SECONDS: Final = 30.0
"""A stream that is open for so long after its reason is gone hangs: 15 s are promised, and the
server of the stream may stand still for as long as a freeze lasts."""

ACTS: Final = ("a session is erased", "a project is erased", "a reader is removed")


async def end_under_watch(caller: Caller, stop: asyncio.Event) -> None:
    """Begin replies that would run for ever, and end what their readers may read, until `stop`."""
    number = 0
    while not stop.is_set():
        number += 1
        await _Round(caller, number).run(ACTS[number % len(ACTS)])
        await asyncio.sleep(caller.random.uniform(0.5, 1.5))


class _Round:
    """One project with one reply, which is erased at the end."""

    def __init__(self, caller: Caller, number: int) -> None:
        self._caller = caller
        self._id = f"ended-{caller.tenant.name}-{number}"
        self._user = f"{caller.tenant.canary}-ended"
        self._project = f"/v1/projects/{self._id}"
        self._calls = 0

    async def run(self, act: str) -> None:
        """Begin the reply, open streams, end it or what its reader may read, and wait."""
        reply = await self._begin()
        if reply is None:
            return
        watchers = [asyncio.create_task(self._watch(reply)) for _ in range(WATCHERS)]
        await asyncio.sleep(self._caller.random.uniform(0, 1))
        await self._end(act, reply)
        await asyncio.wait(watchers, timeout=HANGS_SECONDS)
        for watcher in watchers:
            end = watcher.result() if watcher.done() else None
            self._caller.observed.watched.append(Watched(reply=reply, act=act, end=end))
            watcher.cancel()
        self._caller.observed.counts[act] += 1
        await self._call("DELETE", self._project)

    async def _begin(self) -> str | None:
        """The address of a reply that its model never ends; None if its message was refused."""
        members = [{"userId": each, "role": "owner"} for each in (self._user, "another")]
        await self._call(
            "POST", "/v1/projects", {"projectId": self._id, "name": "Ended", "members": members}
        )
        credit = {"userId": self._user, "seconds": 1_000, "kind": "paid", "reason": self._id}
        await self._call("POST", "/v1/billing/credits", credit)
        text = f"{self._caller.tenant.canary} {self._id} [[offline: hang after=8 ping=1]]"
        body = {"userId": self._user, "projectId": self._id, "message": text}
        headers = STREAM | {"Idempotency-Key": f"{self._id}-message"}
        while True:
            try:
                async with self._caller.open(
                    NAME, "POST", "/v1/chat-plan", body, headers
                ) as answer:
                    if answer.status_code != 503:
                        found: str | None = answer.headers.get("Location")
                        return found
            except httpx.TransportError:
                pass
            await self._caller.again()

    async def _watch(self, reply: str) -> str:
        """Read on one connection; returns how it ended."""
        path = f"{reply}/stream?userId={self._user}"
        last = "end of connection"
        try:
            async with self._caller.open(NAME, "GET", path, None, STREAM) as answer:
                if answer.status_code != 200:
                    return str(answer.status_code)
                async with aclosing(self._caller.events(answer)) as events:
                    async for event in events:
                        last = event.name
        except httpx.TransportError as error:
            return type(error).__name__
        return last

    async def _end(self, act: str, reply: str) -> None:
        if act == "a project is erased":
            await self._call("DELETE", self._project)
        elif act == "a reader is removed":
            await self._call("DELETE", f"{self._project}/members/{self._user}")
        else:
            state = await self._caller.call(NAME, "GET", reply)
            if state.status == 200:
                await self._call("DELETE", f"/v1/chat-plan/session/{state.json['sessionId']}")

    async def _call(self, method: str, path: str, body: Any = None) -> None:
        self._calls += 1
        await self._caller.call(NAME, method, path, body, key=f"{self._id}-{self._calls}")
