"""The law of a reply, which every test of a reply checks: its stream, its end, its stored data.

The operations since the last reset, folded, are the data of the final envelope. The timeline, the
account and the session have the same data, bill and end.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import orjson
from starlette.types import Receive, Scope, Send

from domain.replies.operations import fold
from projections import PROJECTIONS
from projections.projection import Projection, verify
from service.model.offline.app import OfflineModel
from service.postgres import connections
from tests.running import LiveService, events_of

Event: TypeAlias = tuple[str, Any, str]
Final: TypeAlias = dict[str, Any]


def operations(events: Sequence[Event]) -> list[Any]:
    """The operations since the last reset."""
    shown: list[Any] = []
    for name, data, _ in events:
        if name == "reset":
            shown = []
        elif name == "chunk":
            assert data["ops"], "an empty chunk"
            shown += data["ops"]
    return shown


def lawful(events: Sequence[Event]) -> Final:
    """Check that a whole stream keeps the law; returns its final envelope."""
    names = [name for name, _, _ in events]
    assert names[0] == "accepted"
    assert names[-1] == "final"
    assert names.count("accepted") == names.count("final") == 1
    assert names.count("reset") <= 2
    assert set(names) <= {"accepted", "intent", "chunk", "tool", "reset", "notice", "final"}
    _intents_before_chunks(names)
    accepted, final = events[0][1], events[-1][1]
    reply_id = accepted["messageId"]
    assert [at for _, _, at in events] == [f"{reply_id}.{n + 1}" for n in range(len(events))]
    assert (final["messageId"], final["sessionId"]) == (reply_id, accepted["sessionId"])
    # As bytes, because in Python 1, 1.0 and true are equal, and so are objects in another order.
    assert orjson.dumps(fold(operations(events))) == orjson.dumps(final["data"])
    whole(final)
    return dict(final)


def _intents_before_chunks(names: Sequence[str]) -> None:
    known = False
    for name in names:
        if name == "chunk":
            assert known, "a chunk before its intent"
        known = name == "intent" or (known and name != "reset")


def whole(final: Final) -> None:
    """Check that the envelope has the members of its kind of end, and no others."""
    assert final["type"] == "chat_response"
    assert ("reason" in final) == (final["subtype"] == "partial")
    assert ("error" in final) == (final["subtype"] == "error")
    assert (final["data"] is None) == (final["subtype"] == "error")
    if final["subtype"] == "error":
        assert final["error"]["template"] == f"reply_{final['error']['code']}"
        assert final["metadata"]["billed_seconds"] == 0
    else:
        assert final["metadata"]["billed_seconds"] >= 1


async def item(live: LiveService, reply_id: str, project_id: str = "p1") -> dict[str, Any]:
    """The timeline's item of a reply, read at once: the item must be there without a wait."""
    answer = await live.client.get(f"/v1/project/{project_id}/timeline", params={"limit": 200})
    found = [each for each in answer.json()["items"] if each["id"] == reply_id]
    assert len(found) == 1
    return dict(found[0])


async def stored(live: LiveService, final: Final) -> None:
    """Check that the timeline shows the reply as its stream ended."""
    of_session = (await live.client.get(f"/v1/chat-plan/session/{final['sessionId']}")).json()
    shown = await item(live, final["messageId"], of_session["projectId"])
    reply = shown["aiResponse"]
    assert (shown["kind"], reply["subtype"]) == ("reply", final["subtype"])
    assert shown["sessionId"] == final["sessionId"]
    assert reply["duration"] == final["metadata"]["duration_ms"] or final["subtype"] == "error"
    if final["subtype"] == "error":
        assert (shown["status"], reply["data"]) == ("failed", {"code": final["error"]["code"]})
    else:
        assert (shown["status"], shown["chatMode"]) == ("planning", final["mode"])
        assert reply["data"] == final["data"]
        assert reply.get("tokensUsed") == final["metadata"].get("tokens_used")


async def billed(
    live: LiveService, *finals: Final, user_id: str = "u1", credited: int = 36_000
) -> int:
    """Check that the account, its ledger and the session agree with the envelopes.

    Returns the sum of the billed seconds.
    """
    account = await live.account(user_id)
    seconds = sum(int(final["metadata"]["billed_seconds"]) for final in finals)
    assert account == {
        "userId": user_id,
        "creditedSeconds": credited,
        "bonusSeconds": 0,
        "consumedSeconds": seconds,
        "reservedSeconds": 0,
        "availableSeconds": credited - seconds,
    }
    entries = await ledger(live, user_id)
    kept = {each["messageId"]: each["metadata"] for each in finals if each["subtype"] != "error"}
    assert len(entries) == len(kept)
    assert {entry["messageId"]: entry["billedSeconds"] for entry in entries} == {
        reply_id: metadata["billed_seconds"] for reply_id, metadata in kept.items()
    }
    for entry in entries:
        reported = kept[entry["messageId"]].get("tokens_used")
        assert reported in (None, tokens(entry))
    for session_id in {final["sessionId"] for final in finals}:
        answer = await live.client.get(f"/v1/chat-plan/session/{session_id}")
        of_session = [entry for entry in entries if entry["sessionId"] == session_id]
        assert answer.json()["billing"] == {
            "aiSeconds": sum(entry["billedSeconds"] for entry in of_session),
            "tokensUsed": sum(map(tokens, of_session)),
            "costUsd": str(sum((cost(entry) for entry in of_session), Decimal("0.000000"))),
        }
    return seconds


def tokens(entry: dict[str, Any]) -> int:
    """The sum of the tokens of a ledger's entry; an unknown count is 0."""
    return sum(
        int(entry.get(f"{kind}Tokens", 0))
        for kind in ("input", "output", "cacheRead", "cacheWrite")
    )


def cost(entry: dict[str, Any]) -> Decimal:
    """The cost of a ledger's entry in USD; an unknown cost is 0."""
    return Decimal(entry.get("costUsd", "0.000000"))


async def ledger(live: LiveService, user_id: str = "u1") -> list[dict[str, Any]]:
    """The entries of the user's ledger, newest first."""
    answer = await live.client.get(
        f"/v1/billing/accounts/{user_id}/consumption", params={"limit": 200}
    )
    return list(answer.json()["items"])


async def healthy(live: LiveService, url: str) -> None:
    """Check that every read model is live and equals the log, row for row."""
    answer = await live.client.get("/readyz")
    assert answer.status_code == 200
    readiness = answer.json()
    assert readiness["status"] == "ready"
    states = readiness["projections"]
    assert {states[each.name]["state"] for each in PROJECTIONS if each.is_inline} == {"live"}
    async with await connections.connect(url, as_service=False) as owner:
        found = await owner.execute("select distinct type from app.event")
        types = {name for (name,) in await found.fetchall()}
        for projection in PROJECTIONS:
            if types.isdisjoint(kind.__name__ for kind in projection.handles):
                # Its verification would compare no rows with no rows, and takes longer.
                assert await is_empty(owner, projection), projection.name
            else:
                assert await verify(owner, projection) == 0, projection.name


async def is_empty(connection: connections.Connection, projection: Projection) -> bool:
    """Whether a read model has no rows."""
    found = await connection.execute(f"select from app.{projection.name} limit 1".encode())
    return not await found.fetchall()


async def ended_as_shown(live: LiveService, url: str, *finals: Final) -> None:
    """Check that the replies are stored and billed as shown, and that the read models are healthy.

    `finals` are all replies of the test's only user.
    """
    for final in finals:
        await stored(live, final)
    await billed(live, *finals)
    await healthy(live, url)


class GatedModel(OfflineModel):
    """A model that waits for `go` before it answers; it sets `asked` at the first request."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer after `go` is set."""
        self.asked.set()
        await self.go.wait()
        await super().__call__(scope, receive, send)


async def read_stream(
    live: LiveService, message: str, **members: Any
) -> AsyncGenerator[Event, None]:
    """The events of a reply, each as it arrives. Closing the generator closes the connection."""
    body = {"userId": "u1", "projectId": "p1", "message": message} | members
    headers = {"Accept": "text/event-stream"}
    async with live.client.stream("POST", "/v1/chat-plan", json=body, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        text = ""
        async for piece in answer.aiter_text():
            *blocks, text = (text + piece).split("\n\n")
            for event in events_of("\n\n".join(blocks)):
                yield event
        assert not text


async def logged(url: str, *types: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of these types in the log, in order."""
    async with await connections.connect(url, as_service=False) as owner:
        rows = await owner.execute(
            "select type, state from app.event where type = any(%s) order by position",
            [list(types)],
        )
        return [(str(name), orjson.loads(state)) for name, state in await rows.fetchall()]
