"""What a web client must bear: one table of faults, for Node and for Chromium.

Each fault drives a client in JavaScript and the network in Python, and checks that the client has
every event once, that its state is whole, and that the log has each message once.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import orjson
import pytest

from service.model.offline.app import OfflineModel
from service.replies import tail
from service.replies.sse import encode
from service.wire import BEGINNING
from tests.running import LiveService, running
from tests.service import law
from tests.service.watching import append, said, shown, until
from tests.sizes import chance, size
from tests.web.network import LOST, BadNetwork, answer, problem
from tests.web.runtimes import Runtime, page_of_tests

_numbers: Final = count(1)

BEGIN: Final = """
async ({ userId, project }) => {
  Object.assign(TIMES, { pause: 20, longestPause: 100, patience: 50, silence: 5_000 })
  globalThis.renewals = 0
  globalThis.renew = async () => {
    globalThis.renewals++
    const unreachable = () => { throw new throughline.ThroughlineError('unreachable') }
    const answer = await fetch(`${address}/test/token`).catch(unreachable)
    return await answer.json()
  }
  globalThis.userId = userId
  globalThis.project = project
  globalThis.client = new throughline.Throughline({ url: address, userId, renew })
  globalThis.watched = (source) => {
    source.seen = []
    source.connections = []
    source.addEventListener('event', ({ detail: { event, data, id } }) => {
      source.seen.push([event, data, id])
    })
    source.addEventListener('connection', ({ detail }) => source.connections.push(detail))
    return source
  }
  globalThis.once = (source, holds) => new Promise(resolve => {
    const check = () => { if (holds(source)) resolve() }
    const names = ['state', 'event', 'connection', 'end', 'reset']
    for (const name of names) source.addEventListener(name, check)
    check()
  })
}
"""
ASK: Final = """
async ({ message, ...more }) => {
  globalThis.reply = watched(client.chat({ projectId: project, message, ...more }))
}
"""
ENDED: Final = """
async () => {
  const final = await reply.done
  return { final, seen: reply.seen, state: reply.state, connections: reply.connections }
}
"""
FAILED: Final = """
async () => {
  const error = await reply.done.then(() => null, error => error)
  return { code: error?.code, status: error?.status, state: reply.state }
}
"""
FOLLOW: Final = """
async ({ of, how } = {}) => {
  globalThis.feed = watched(client.follow(of ?? project, how))
  await feed.ready
}
"""
FOLLOWED: Final = """
async ({ count }) => {
  await once(feed, () => feed.state.items.length >= count)
  return { seen: feed.seen, state: feed.state, connections: feed.connections }
}
"""


@dataclass
class Ground:
    """Where a fault happens: a client, a network, the service, and a project of its own."""

    live: LiveService
    network: BadNetwork
    js: Runtime
    url: str
    user: str = field(default_factory=lambda: f"u{next(_numbers)}")
    token_seconds: int = 300

    @property
    def project(self) -> str:
        """The id of the project."""
        return f"p-{self.user}"

    async def begin(self) -> None:
        """Make the project, and a client in the runtime."""
        self.network.pages["/test/token"] = self._token
        await self.live.project(self.project, self.user)
        await self.live.credit(self.user)
        await self.js.run(BEGIN, {"userId": self.user, "project": self.project})

    async def _token(self) -> tuple[str, bytes]:
        token, expires_at = self.live.service.browser_tokens.mint(
            "k1", user_id=self.user, project_id=self.project, seconds=self.token_seconds
        )
        return "application/json", orjson.dumps({"token": token, "expiresAt": expires_at})

    async def ended(self, times: int = 1) -> Any:
        """Check the end of the reply: every event once, and one message in the log."""
        end = await self.js.run(ENDED)
        final = law.lawful([tuple(each) for each in end["seen"]])
        assert end["final"] == final
        assert (end["state"]["status"], end["state"]["data"]) == ("final", final["data"])
        await self.has_messages(times)
        return end

    async def has_messages(self, times: int) -> None:
        """Check that the user has said so many things."""
        items = await shown(self.live, self.project)
        assert [item["kind"] for item in items].count("user_message") == times

    async def timeline_is(self, state: Any) -> None:
        """Check that the state of a feed has the items of the pages."""
        there = [without_actions(item) for item in await shown(self.live, self.project)]
        assert [without_actions(item) for item in state["items"]] == there


def without_actions(item: Any) -> Any:
    """An item without what depends on the moment of reading, and without what is of a stream."""
    return {key: value for key, value in item.items() if key not in ("actions", "prev")}


Fault_ = Callable[[Ground], Awaitable[None]]
FAULTS: Final[dict[str, Fault_]] = {}
"""The faults of `make test`, by their names."""

LARGE: Final[dict[str, Fault_]] = {}
"""The faults that take longer, for `make prove`."""


def fault(name: str, into: dict[str, Fault_] = FAULTS) -> Callable[[Fault_], Fault_]:
    """Put a fault into the table."""

    def put(body: Fault_) -> Fault_:
        into[name] = body
        return body

    return put


# A reply -----------------------------------------------------------------------------------------


@fault("streams are cut")
async def cut(ground: Ground) -> None:
    """The stream of a reply breaks at many places, also inside characters and events."""
    ground.network.cut_streams(chance("cut").randrange(1, 900) for _ in range(size(4, 40)))
    await ground.js.run(ASK, {"message": "أضف حقل بحث 🧵", "locale": "ar"})
    end = await ground.ended()
    assert "lost" in end["connections"]
    assert ground.network.count("POST /v1/chat-plan") == 1


@fault("the answer is lost")
async def lost(ground: Ground) -> None:
    """The service stores the message, and the client does not hear of it."""
    ground.network.next_answers("POST /v1/chat-plan", LOST, LOST)
    await ground.js.run(ASK, {"message": "Add a login page"})
    await ground.ended()
    assert ground.network.count("POST /v1/chat-plan") == 3


@fault("the service is busy")
async def busy(ground: Ground) -> None:
    """Refusals that pass are waited for."""
    ground.network.next_answers(
        "POST /v1/chat-plan",
        problem(429, "user_limit_reached", "Retry-After: 0"),
        problem(503, "overloaded", "Retry-After: 0"),
    )
    ground.network.next_answers("GET /v1/billing", problem(503, "database_away", "Retry-After: 0"))
    await ground.js.run(ASK, {"message": "Add a login page"})
    end = await ground.ended()
    balance = await ground.js.run("async () => await client.balance()")
    assert balance["consumedSeconds"] == end["final"]["metadata"]["billed_seconds"]


@fault("the user's hour is full")
async def refused(ground: Ground) -> None:
    """A refusal with a long Retry-After ends the call at once: the client does not wait so long."""
    limit = problem(429, "user_limit_reached", "Retry-After: 1800")
    ground.network.next_answers("POST /v1/chat-plan", limit)
    await ground.js.run(ASK, {"message": "Add a login page"})
    end = await ground.js.run(FAILED)
    assert (end["code"], end["status"]) == ("user_limit_reached", 429)
    assert end["state"]["problem"]["code"] == "user_limit_reached"
    assert await ground.js.run("async () => client.unsent()") == []


@fault("a reply is taken back")
async def reset(ground: Ground) -> None:
    """What was shown before a reset is not part of the reply, also where the stream breaks."""
    ground.network.cut_streams(200 * n for n in range(1, 6))
    await ground.js.run(ASK, {"message": "[[offline: broken_contract times=1]] Add a login page"})
    end = await ground.ended()
    assert "reset" in [name for name, _, _ in end["seen"]]


@fault("a reader comes late")
async def snapshot(ground: Ground) -> None:
    """A client that joins far behind gets a snapshot, and then the rest."""
    await ground.js.run(ASK, {"message": "Tell me more"})
    end = await ground.js.run(ENDED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "LONG_WAY", 5)
        joined = await ground.js.run(
            "async ({ id }) => { globalThis.reply = watched(client.join(id)); await reply.done;"
            " return { seen: reply.seen, state: reply.state } }",
            {"id": end["final"]["messageId"]},
        )
    assert [name for name, _, _ in joined["seen"]] == ["snapshot", "final"]
    assert joined["state"]["data"] == end["final"]["data"] == end["state"]["data"]


@fault("the client has read the end")
async def read_already(ground: Ground) -> None:
    """The server answers 204 after the final event. The client still knows the end."""
    await ground.js.run(ASK, {"message": "Good morning"})
    end = await ground.ended()
    final = await ground.js.run(
        "async ({ id, after }) => await client.join(id, { after }).done",
        {"id": end["final"]["messageId"], "after": end["seen"][-1][2]},
    )
    assert final == end["final"]
    assert 204 in ground.network.statuses


@fault("the session is erased")
async def erased(ground: Ground) -> None:
    """A reply and a feed of an erased session come to an end, and forget what was said."""
    await ground.js.run(ASK, {"message": "Good morning"})
    final = (await ground.ended())["final"]
    await ground.js.run(FOLLOW)
    path = f"/v1/sessions/{final['sessionId']}"
    assert (await ground.live.client.delete(f"{path}?userId={ground.user}")).is_success
    await ground.js.run("async () => await once(feed, () => feed.state.items.length === 0)")
    end = await ground.js.run(
        "async ({ id }) => { globalThis.reply = client.join(id);"
        " return await reply.done.then(() => null, error => [error.status, error.code]) }",
        {"id": final["messageId"]},
    )
    assert end == [404, "reply_not_found"]


@fault("a stream repeats and skips")
async def repeated(ground: Ground) -> None:
    """An event that comes again is left out, and a missing event is asked for."""
    await ground.js.run(ASK, {"message": "Good morning"})
    end = await ground.ended()
    events = [tuple(each) for each in end["seen"]]
    reply_id = end["final"]["messageId"]
    path = f"GET /v1/chat-plan/replies/{reply_id}/stream"
    ground.network.next_answers(path, streamed(*events[:2], *events[:3], *events[4:]))
    await ground.js.run(
        "async ({ id }) => { globalThis.reply = watched(client.join(id)) }", {"id": reply_id}
    )
    assert (await ground.ended())["seen"] == end["seen"]
    assert f"after={reply_id}.3" in ground.network.requests[-1]

    items = (await shown(ground.live, ground.project))[:3]
    begin = BEGINNING
    linked = [
        ("item", item | {"prev": before}, item["cursor"])
        for before, item in zip([None, *(each["cursor"] for each in items)], items, strict=False)
    ]
    path = f"GET /v1/project/{ground.project}/timeline/stream"
    ground.network.next_answers(path, streamed(linked[0], linked[0], linked[2]))
    await ground.js.run(FOLLOW, {"how": {"after": begin}})
    feed = await ground.js.run(FOLLOWED, {"count": 3})
    assert [at for _, _, at in feed["seen"]] == [item["cursor"] for item in items]
    await ground.timeline_is(feed["state"])


def streamed(*events: tuple[str, Any, str]) -> bytes:
    """An answer with these events."""
    text = b"".join(encode(name, data, at) for name, data, at in events)
    return answer(200, "text/event-stream", text)


# Tokens and clocks -------------------------------------------------------------------------------


async def expired(ground: Ground, shift: int) -> None:
    """A token ends in the middle of a feed. The client renews it ahead, and misses nothing.

    The clock of the device is off by `shift` seconds.
    """
    ground.token_seconds = 2
    await ground.js.run(SHIFT, {"shift": shift})
    await ground.js.run(
        "async () => { client = new throughline.Throughline({ url: address, userId, renew }) }"
    )
    await ground.js.run(FOLLOW)
    await ground.js.run(
        "async () => { while (renewals < 3) await new Promise(done => setTimeout(done, 20)) }"
    )
    await append(ground.live, [said("after", project_id=ground.project)])
    end = await ground.js.run(FOLLOWED, {"count": 1})
    await ground.timeline_is(end["state"])
    assert await ground.js.run("async () => renewals") <= 6
    assert 401 not in ground.network.statuses
    assert "lost" not in end["connections"]


SHIFT: Final = """
async ({ shift }) => {
  const now = Date.now
  Date.now = () => now() + shift * 1000
}
"""


@fault("tokens expire", LARGE)
async def on_time(ground: Ground) -> None:
    """The device's clock is right."""
    await expired(ground, shift=0)


@fault("the clock is fast by ten minutes")
async def fast(ground: Ground) -> None:
    """The device's clock is ahead of the server's."""
    await expired(ground, shift=600)


@fault("the clock is slow by ten minutes", LARGE)
async def slow(ground: Ground) -> None:
    """The device's clock is behind the server's."""
    await expired(ground, shift=-600)


@fault("a token is refused")
async def unauthorised(ground: Ground) -> None:
    """A refused token is renewed once, and the call goes on. Then the refusal is told."""
    refusal = problem(401, "not_authenticated")
    ground.network.next_answers("POST /v1/chat-plan", refusal)
    await ground.js.run(ASK, {"message": "Good morning"})
    await ground.ended()
    assert await ground.js.run("async () => renewals") == 2
    ground.network.next_answers("GET /v1/projects", refusal, refusal)
    code = (
        "async () => await client.projects().then(() => null, error => [error.status, error.code])"
    )
    assert await ground.js.run(code) == [401, "not_authenticated"]


# The network -------------------------------------------------------------------------------------


@fault("the network is away")
async def away(ground: Ground) -> None:
    """Messages without a network arrive once and in their order, when the network is back."""
    await ground.js.run("async () => await client.projects()")
    ground.network.go_down()
    await ground.js.run(ASK, {"message": "Add a login page"})
    await ground.js.run("async () => { globalThis.first = reply }")
    await ground.js.run(ASK, {"message": "And a logout page"})
    await until(lambda: ground.network.refused >= 3)
    assert await ground.js.run("async () => first.state.status") == "waiting"
    ground.network.come_up()
    await ground.ended(times=2)
    connections = await ground.js.run("async () => { await first.done; return first.connections }")
    assert connections[0] in ("lost", "offline")
    items = await shown(ground.live, ground.project)
    said_so = [item["userMessage"]["text"] for item in items if item["kind"] == "user_message"]
    assert said_so == ["Add a login page", "And a logout page"]


@fault("a server says nothing")
async def silent(ground: Ground) -> None:
    """A connection that carries nothing any more is given up, and the reply goes on."""
    await ground.js.run("async () => { TIMES.silence = 300 }")
    ground.network.is_mute = True
    await ground.js.run(ASK, {"message": "Add a login page"})
    await ground.js.run("async () => await once(reply, () => reply.connections.includes('lost'))")
    ground.network.is_mute = False
    await ground.ended()


@fault("a server stops")
async def stopped(ground: Ground) -> None:
    """A server says goodbye, and another one goes on with the feed and the reply."""
    async with running(ground.url, OfflineModel(pace=0.02)) as other:
        ground.network.target = str(other.client.base_url)
        await ground.js.run(FOLLOW)
        await ground.js.run(ASK, {"message": "Good morning"})
        await ground.js.run(
            "async () => await once(reply, () => reply.state.status === 'streaming')"
        )
        ground.network.target = str(ground.live.client.base_url)
    await ground.ended()
    await append(ground.live, [said("after", project_id=ground.project)])
    end = await ground.js.run(FOLLOWED, {"count": 4})
    await ground.timeline_is(end["state"])


# A feed ------------------------------------------------------------------------------------------


@fault("feeds are cut")
async def feed_cut(ground: Ground) -> None:
    """A feed that breaks again and again has every item once, and grows replies as they come."""
    some = [said(f"{n} 🧵", project_id=ground.project) for n in range(8)]
    await append(ground.live, some[:3])
    ground.network.cut_streams(chance("feed").randrange(1, 2_000) for _ in range(size(6, 60)))
    await ground.js.run(FOLLOW, {"how": {"history": 2}})
    for each in some[3:]:
        await append(ground.live, [each])
    end = await ground.js.run(ASK, {"message": "Good morning"})
    end = await ground.js.run(FOLLOWED, {"count": 10})
    await ground.js.run("async () => { while (await feed.older(1)); }")
    end = await ground.js.run(FOLLOWED, {"count": 11})
    await ground.timeline_is(end["state"])
    assert end["state"]["replies"] == {}
    ids = [at for name, _, at in end["seen"] if name == "item"]
    assert len(ids) == len(set(ids))


@fault("a feed breaks before its first event")
async def feed_begins(ground: Ground) -> None:
    """What happens between the first connection and the second one is not missed."""
    await ground.js.run(FOLLOW)
    ground.network.go_down()
    await append(ground.live, [said("meanwhile", project_id=ground.project)])
    ground.network.come_up()
    end = await ground.js.run(FOLLOWED, {"count": 1})
    await ground.timeline_is(end["state"])


@fault("the log is another one")
async def another_log(ground: Ground) -> None:
    """After a restore the cursors are of another history: the feed begins again."""
    await append(ground.live, [said("here", project_id=ground.project)])
    await ground.js.run(
        "async () => { globalThis.feed = watched(client.follow(project, { after: '5.00000000' }));"
        " await feed.ready }"
    )
    end = await ground.js.run(FOLLOWED, {"count": 1})
    await ground.timeline_is(end["state"])


@fault("a feed and its history agree")
async def same_fold(ground: Ground) -> None:
    """The state of live events is the state of the pages: one function folds both."""
    await ground.js.run(FOLLOW)
    await ground.js.run(ASK, {"message": "Add a login page"})
    final = (await ground.ended())["final"]
    order = await ground.js.run(
        "async ({ sessionId }) => await client.convert({ projectId: project, sessionId })",
        {"sessionId": final["sessionId"]},
    )
    await ground.js.run(f"async () => await client.cancelBuild({order['buildId']!r})")
    code = """
    async () => {
      const hasFailed = () => Object.values(feed.state.builds)[0]?.status === 'failed'
      await once(feed, () => hasFailed() && feed.state.activeBuildId === null)
      const { fold, NOTHING } = throughline
      const page = await client.timeline(project, { limit: 200 })
      await once(feed, () => feed.state.items.length === page.items.length)
      const past = fold(NOTHING, { event: 'page', data: page })
      return [feed.state, past].map(({ items, builds, runs, replies, activeBuildId }) => ({
        items: items.map(({ actions, prev, ...item }) => item),
        builds, runs, replies, activeBuildId
      }))
    }
    """
    state, past = await ground.js.run(code)
    assert state == past
    await ground.timeline_is(state)


@asynccontextmanager
async def grounds(url: str) -> AsyncGenerator[Callable[[], tuple[LiveService, BadNetwork]]]:
    """A service for all faults, and a network for each."""
    async with running(url, OfflineModel(pace=0.005)) as live:

        def make() -> tuple[LiveService, BadNetwork]:
            network = BadNetwork(str(live.client.base_url))
            network.pages["/test"] = page_of_tests
            return live, network

        yield make
