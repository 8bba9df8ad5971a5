"""A tab needs one connection: for the project's items, and for its running replies."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
import psycopg
import pytest

from domain.replies.operations import fold
from service.model.offline.app import OfflineModel
from tests.running import Event, LiveService, events_of, running
from tests.service import law


async def tab(
    live: LiveService, opened: asyncio.Event, **asked: Any
) -> AsyncGenerator[Event, None]:
    """The events of a project's stream with replies, as they arrive."""
    path = "/v1/project/p1/timeline/stream"
    params: dict[str, Any] = {"userId": "u1", "replies": True} | asked
    async with live.client.stream("GET", path, params=params) as answer:
        assert answer.status_code == 200, await answer.aread()
        opened.set()
        text = ""
        async for piece in answer.aiter_text():
            *blocks, text = (text + piece).split("\n\n")
            for event in events_of("\n\n".join(blocks)):
                yield event


async def until_reply(live: LiveService, opened: asyncio.Event, **asked: Any) -> list[Event]:
    """All events up to the final event of a reply and the item of that reply."""
    events: list[Event] = []
    async with aclosing(tab(live, opened, **asked)) as stream:
        async for event in stream:
            events.append(event)
            kinds = {data.get("kind", name) for name, data, _ in events}
            if {"reply", "final"} <= kinds:
                return events
    raise AssertionError("the stream ended")


def of_reply(events: list[Event], reply_id: str) -> list[Event]:
    """The reply's events, in the form of the reply's own stream."""
    own = [
        (name, data, "")
        for name, data, at in events
        if data.get("messageId") == reply_id and not at
    ]
    for name, data, _ in own:
        if name not in ("accepted", "final"):
            del data["messageId"]
    return own


async def test_a_tab_streams_a_reply_that_begins_after_the_tab_opened(url: str) -> None:
    async with running(url, OfflineModel(pace=0.005)) as live:
        await live.project()
        await live.credit()
        opened = asyncio.Event()
        watching = asyncio.create_task(until_reply(live, opened))
        await opened.wait()
        events = await live.stream("Good morning")
        final = law.lawful(events)
        seen = await watching
        assert of_reply(seen, final["messageId"]) == [(name, data, "") for name, data, _ in events]
        assert [data["kind"] for name, data, _ in seen if name == "item"] == [
            "system_message",
            "user_message",
            "reply",
        ]


async def test_a_tab_that_opens_during_a_reply_gets_the_whole_reply_on_another_server(
    url: str,
) -> None:
    async with running(url, OfflineModel(pace=0.02)) as live, running(url) as other:
        await live.project()
        await live.credit()
        events: list[Event] = []
        watching: asyncio.Task[list[Event]] | None = None
        async for event in law.read_stream(live, "Good morning"):
            events.append(event)
            if len(events) == 5:
                watching = asyncio.create_task(until_reply(other, asyncio.Event()))
        assert watching is not None
        final = law.lawful(events)
        seen = of_reply(await watching, final["messageId"])
        assert orjson.dumps(fold(law.operations(seen))) == orjson.dumps(final["data"])
        assert seen == [(name, data, "") for name, data, _ in events]


async def test_a_tab_gets_only_items_by_default(url: str) -> None:
    async with running(url) as live:
        await live.project()
        await live.credit()
        opened, seen = asyncio.Event(), []
        async with aclosing(tab(live, opened, replies=False)) as stream:
            waiting = asyncio.ensure_future(anext(stream))
            await opened.wait()
            await live.stream("Good morning")
            seen.append(await waiting)
            seen.append(await anext(stream))
        assert [name for name, _, _ in seen] == ["item", "item"]
        assert all(at for _, _, at in seen)


async def test_the_running_replies_of_a_project_are_found_by_one_query_for_all(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, users = law.GatedModel(), [f"u{n}" for n in range(1, 6)]
    async with running(url, model) as live, running(url) as other:
        await live.project("p1", *users)
        for user in users:
            await live.credit(user)
        accepted = [asyncio.Event() for _ in users]
        asking = [
            asyncio.create_task(ask(live, user, begun))
            for user, begun in zip(users, accepted, strict=True)
        ]
        await asyncio.gather(*(begun.wait() for begun in accepted))
        queries = queries_of("from app.reply_chunk", monkeypatch)
        seen: set[str] = set()
        async with aclosing(tab(other, asyncio.Event())) as stream:
            async for name, data, _ in stream:
                seen |= {data["messageId"]} if name == "accepted" else set()
                if len(seen) == len(users):
                    break
        model.go.set()
        assert seen == set(await asyncio.gather(*asking))
        assert [query for query in queries if "unnest" not in query] == []


async def test_a_tab_is_told_where_the_events_of_one_reply_end(url: str) -> None:
    model = law.GatedModel()
    async with running(url, model) as live:
        await live.project()
        await live.credit()
        begun = asyncio.Event()
        asking = asyncio.create_task(ask(live, "u1", begun))
        await begun.wait()
        async with aclosing(tab(live, asyncio.Event())) as stream:
            async for name, data, at in stream:
                if name == "accepted":
                    live.service.directory._tails[data["messageId"]].leave("erased")
                elif name == "goaway":
                    assert (data["reason"], at) == ("erased", "")
                    break
            asking.cancel()
            model.go.set()
            async for name, data, _ in stream:
                if name == "item" and data["kind"] == "reply":
                    break


async def ask(live: LiveService, user: str, begun: asyncio.Event) -> str:
    """Ask as a user, to the end; returns the reply's id."""
    events: list[Event] = []
    async for event in law.read_stream(live, "Good morning", userId=user):
        events.append(event)
        begun.set()
    return str(law.lawful(events)["messageId"])


def queries_of(text: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements with this text, from now on."""
    queries: list[str] = []
    execute = psycopg.AsyncCursor.execute

    async def noted(cursor: Any, query: Any, *args: Any, **how: Any) -> Any:
        if isinstance(query, bytes) and text in query.decode():
            queries.append(query.decode())
        return await execute(cursor, query, *args, **how)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", noted)
    return queries
