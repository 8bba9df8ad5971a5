"""The parts of the web client by themselves, in Node: the parser, the folds, the iterables."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.replies.operations import fold
from service.model.offline.app import OfflineModel
from service.wire import BEGINNING
from tests.running import LiveService, events_of, running
from tests.service import law
from tests.service.conftest import _no_model_is_slow, _no_server_has_stopped
from tests.service.replies.test_clients import LINES, tricky
from tests.service.watching import append, said
from tests.web.runtimes import Node, node

__all__ = ["_no_model_is_slow", "_no_server_has_stopped"]


@pytest.fixture(scope="module")
async def js() -> AsyncIterator[Node]:
    """A Node process for the module."""
    async with node("http://127.0.0.1:9") as started:
        yield started


PARSE = """
async ({ text }) => {
  const bytes = new TextEncoder().encode(text)
  const found = new Set()
  for (const step of steps(bytes.length)) {
    const parser = new throughline.EventParser()
    const decoder = new TextDecoder()
    const events = []
    for (let at = 0; at < bytes.length; at += step) {
      events.push(...parser.feed(decoder.decode(bytes.subarray(at, at + step), { stream: true })))
    }
    found.add(JSON.stringify([events, parser.retry]))
  }
  return [...found].map(each => JSON.parse(each))
}
"""


async def test_a_stream_is_read_alike_however_its_bytes_are_cut(url: str, js: Node) -> None:
    async with running(url, tricky()) as live:
        await live.project()
        await live.credit()
        body = {"userId": "u1", "projectId": "p1", "message": "Good morning"}
        headers = {"Accept": "text/event-stream"}
        answer = await live.client.post("/v1/chat-plan", json=body, headers=headers)
    events = events_of(answer.text)
    expected = [{"event": name, "data": data, "id": at} for name, data, at in events]
    for text in (answer.text, answer.text.replace("\n", "\r\n"), answer.text.replace("\n", "\r")):
        code = PARSE.replace("steps(bytes.length)", "[1, 2, 3, 5, 7, 64, 1000, bytes.length]")
        assert await js.run(code, {"text": text}) == [[expected, 1000]]
    code = f"async ({{ events }}) => {{ {FROZEN} return folded(events) }}"
    state = await js.run(code, {"events": expected})
    assert state["data"] == {"markdown": LINES * 20}
    law.lawful(events)


FROZEN = """
const frozen = value => {
  if (value && typeof value === 'object' && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const each of Object.values(value)) frozen(each)
  }
  return value
}
const { foldReply, NO_REPLY } = throughline
const next = (state, event) => frozen(foldReply(state, frozen(event)))
const folded = events => events.reduce(next, frozen(NO_REPLY))
"""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(": a comment\n\nretry: 5\n\n", id="no event"),
        pytest.param("data: 1", id="not ended"),
        pytest.param("id: 7\nevent: e\n\n", id="no data"),
    ],
)
async def test_a_block_without_data_is_no_event(js: Node, text: str) -> None:
    code = PARSE.replace("steps(bytes.length)", "[1, bytes.length]")
    ((events, _),) = await js.run(code, {"text": text})
    assert events == []


async def test_fields_are_read_by_the_rules(js: Node) -> None:
    text = (
        'event:e\ndata:{\ndata: "a": 1}\nid: 1\nid: a\0b\nfoo: bar\nretry: x\nempty\n\ndata: 2\n\n'
    )
    code = PARSE.replace("steps(bytes.length)", "[1, bytes.length]")
    first, second = {"event": "e", "data": {"a": 1}, "id": "1"}, {"event": "message", "data": 2}
    assert await js.run(code, {"text": text}) == [[[first, second | {"id": ""}], None]]


OPERATIONS: list[Any] = [
    {"op": "open", "path": "", "kind": "object"},
    {"op": "open", "path": "/a~1b", "kind": "array"},
    {"op": "append", "path": "/a~1b/0", "text": "one "},
    {"op": "append", "path": "/a~1b/0", "text": "two"},
    {"op": "set", "path": "/a~1b/1", "value": None},
    {"op": "open", "path": "/__proto__", "kind": "object"},
    {"op": "set", "path": "/__proto__/polluted", "value": True},
    {"op": "set", "path": "/c~0d", "value": 1.5},
    {"op": "set", "path": "/constructor", "value": "x"},
]


async def test_operations_fold_as_in_the_service(js: Node) -> None:
    code = f"""async ({{ ops }}) => {{ {FROZEN}
      const each = folded(ops.map(op => ({{ event: 'chunk', data: {{ ops: [op] }} }})))
      const all = folded([{{ event: 'chunk', data: {{ ops }} }}])
      return [JSON.stringify(each.data), JSON.stringify(all.data), {{}}.polluted === undefined]
    }}"""
    each, at_once, is_clean = await js.run(code, {"ops": OPERATIONS})
    expected = '{"a/b":["one two",null],"__proto__":{"polluted":true},"c~d":1.5,"constructor":"x"}'
    assert (each, at_once, is_clean) == (expected, expected, True)
    assert fold(OPERATIONS) == {
        "a/b": ["one two", None],
        "__proto__": {"polluted": True},
        "c~d": 1.5,
        "constructor": "x",
    }


@pytest.mark.parametrize(
    "op",
    [
        {"op": "append", "path": "/a~1b", "text": "x"},
        {"op": "set", "path": "/c~0d", "value": 2},
        {"op": "set", "path": "/nowhere/x", "value": 2},
        {"op": "open", "path": "", "kind": "array"},
    ],
)
async def test_an_operation_that_does_not_fit_is_refused(js: Node, op: Any) -> None:
    code = f"""async ({{ ops }}) => {{ {FROZEN}
      try {{ return folded([{{ event: 'chunk', data: {{ ops }} }}]).data }}
      catch (error) {{ return error.name }}
    }}"""
    assert await js.run(code, {"ops": [*OPERATIONS, op]}) == "TypeError"


def item(n: int, **more: Any) -> dict[str, Any]:
    """An item at a position."""
    return {"id": f"i{n}", "cursor": f"{n}.e", "kind": "user_message", "sessionId": "s1"} | more


ITEMS = """
async ({ events }) => {
  const { fold, NOTHING } = throughline
  const state = events.reduce((state, event) => fold(state, event), NOTHING)
  return { ...state, ids: state.items.map(each => each.id) }
}
"""


async def folded(js: Node, *events: tuple[str, Any, str]) -> Any:
    """The state of a timeline after events: name, data, id."""
    named = [{"event": name, "data": data, "id": at} for name, data, at in events]
    return await js.run(ITEMS, {"events": named})


async def test_a_page_does_not_bring_back_what_was_erased_after_it_was_read(js: Node) -> None:
    page = {"items": [item(2, sessionId="s2"), item(1)], "hasMore": False, "at": 5}
    state = await folded(
        js, ("item", item(1), "1.e"), ("erased", {"sessionId": "s1"}, "6.e"), ("page", page, "")
    )
    assert (state["ids"], state["position"]) == (["i2"], "6.e")


async def test_an_erasure_does_not_take_what_a_later_page_has(js: Node) -> None:
    page = {"items": [item(8), item(7)], "hasMore": False, "at": 9}
    state = await folded(js, ("page", page, ""), ("erased", {"sessionId": "s1"}, "6.e"))
    assert state["ids"] == ["i7", "i8"]


async def test_a_page_does_not_make_an_item_older(js: Node) -> None:
    build = {"buildId": "b1", "status": "queued"}
    later = item(1, build=build | {"status": "succeeded"})
    page = {"items": [item(2, build=build), item(1, build=build)], "hasMore": True, "at": 4}
    state = await folded(js, ("item", later, "9.e"), ("page", page | {"before": "1.e"}, ""))
    assert [each["build"]["status"] for each in state["items"]] == ["succeeded"] * 2
    assert (state["ids"], state["before"]) == (["i1", "i2"], "1.e")
    assert state["builds"]["b1"]["status"] == "succeeded"


async def test_the_past_is_what_was_loaded_up_to_a_cursor(js: Node) -> None:
    """The states of builds and runs are not known then, and items that are not loaded may be."""
    build = {"buildId": "b1", "title": "A shop", "status": "succeeded"}
    items = [item(8), item(5, build=build), item(3)]
    page = {"items": items, "hasMore": True, "before": "3.e", "at": 9}
    state = await folded(js, ("page", page, ""))
    known = {}
    for at in (9, 7, 5, 4, 2):
        code = "async ({ state, at }) => throughline.past(state, at)"
        then = await js.run(code, {"state": state, "at": f"{at}.e"})
        known[at] = ([each["id"] for each in then["state"]["items"]], then["isWhole"])
        assert then["state"]["before"] == "3.e"
        builds = [each["build"] for each in then["state"]["items"] if "build" in each]
        assert builds in ([], [{"buildId": "b1", "title": "A shop"}])
    assert known == {
        9: (["i3", "i5", "i8"], False),
        7: (["i3", "i5"], False),
        5: (["i3", "i5"], False),
        4: (["i3"], True),
        2: ([], False),
    }


async def test_a_reply_grows_beside_the_items_until_its_item_comes(js: Node) -> None:
    begin = [
        ("accepted", {"messageId": "r1", "sessionId": "s1"}, ""),
        ("chunk", {"messageId": "r1", "ops": OPERATIONS[:1]}, ""),
    ]
    state = await folded(js, *begin, *begin)
    assert state["replies"]["r1"]["data"] == {}
    ended = [*begin, ("item", item(3, id="r1"), "3.e"), begin[1]]
    assert (await folded(js, *ended))["replies"] == {}
    for gone in ({"messageId": "r1"}, {"sessionId": "s1"}):
        assert (await folded(js, *begin, ("erased", gone, "4.e")))["replies"] == {}
    lost = ("goaway", {"messageId": "r1", "reason": "lost"}, "")
    assert (await folded(js, *begin, lost))["replies"] == {}


async def test_an_iterable_has_every_event_and_ends(url: str) -> None:
    async with running(url, OfflineModel(pace=0.001)) as live, node(base(live)) as js:
        await live.project()
        await live.credit()
        token, _ = live.service.browser_tokens.mint("k1", user_id="u1", project_id="p1", seconds=60)
        code = """
        async ({ token }) => {
          const client = new throughline.Throughline({ url: address, token })
          const names = []
          const reply = client.chat({ projectId: 'p1', message: 'Good morning' })
          for await (const { event } of reply) names.push(event)
          const left = client.join(reply.messageId)
          for await (const each of left) break
          left.close()
          const closed = await left.done.then(() => null, error => error.code)
          const again = (await client.join(reply.messageId).done).messageId
          return { names, closed, again, id: reply.messageId }
        }
        """
        found = await js.run(code, {"token": token})
        whole = await live.join(found["id"])
    assert found["names"] == [name for name, _, _ in whole]
    assert (found["closed"], found["again"]) == ("closed", found["id"])


def base(live: LiveService) -> str:
    """The address of a service."""
    return str(live.client.base_url).rstrip("/")


MANY = """
async ({ token, after, count }) => {
  const client = new throughline.Throughline({ url: address, token })
  const follow = () => {
    const feed = client.follow('p1', { after })
    feed.count = 0
    feed.addEventListener('event', () => { feed.count++ })
    return feed
  }
  const until = (feed, holds) => new Promise(resolve => {
    feed.addEventListener('event', () => { if (holds()) resolve() })
  })
  const read = follow()
  const events = read[Symbol.asyncIterator]()
  const ids = [(await events.next()).value.id]
  const unread = follow()
  await until(unread, () => unread.count === count)
  const waiting = read.count
  while (ids.length < count) ids.push((await events.next()).value.id)
  const late = await unread[Symbol.asyncIterator]().next().then(() => null, error => error.name)
  read.close()
  unread.close()
  return { waiting, late, isWhole: new Set(ids).size === count && ids.at(-1) === read.position }
}
"""


async def test_a_slow_reader_makes_the_stream_wait_and_no_reader_does_not(url: str) -> None:
    async with running(url) as live, node(base(live)) as js:
        await live.project()
        await append(live, [said(f"{n}") for n in range(1_500)])
        token, _ = live.service.browser_tokens.mint("k1", user_id="u1", project_id="p1", seconds=60)
        asked = {"token": token, "after": BEGINNING, "count": 1_500}
        found = await js.run(MANY, asked)
    assert found["isWhole"]
    assert found["waiting"] <= 1_001
    assert found["late"] == "RangeError"
