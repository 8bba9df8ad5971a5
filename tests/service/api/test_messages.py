"""The messages of a session: page by page, appended, answered, and live."""

import asyncio
from typing import Any

import pytest

from service.timelines import feed as feeds
from service.wire import BEGINNING
from tests.running import LiveService, problem, running
from tests.service import law
from tests.service.chat.test_cancel import HANGS, cancel
from tests.service.talking import BOTH, begun, forked, path, said, say, state_of, streamed, texts
from tests.service.watching import append, chained, opened, shown
from tests.service.watching import said as appended


async def note(live: LiveService, session_id: str, *messages: str, **members: Any) -> None:
    """Append messages without asking the model."""
    for message in messages:
        answer = await say(live, session_id, message, reply=False, **members)
        assert answer.status_code == 201, answer.text


# pages -------------------------------------------------------------------------------------------


async def test_the_messages_of_a_session_are_its_items_oldest_first(run: LiveService) -> None:
    session_id = (await run.chat("Good morning")).json()["sessionId"]
    await append(run, [appended("another session")])
    await streamed(run, session_id, "And good evening")
    items = [each for each in await shown(run) if each.get("sessionId") == session_id]
    assert [each["kind"] for each in items] == ["system_message", *("user_message", "reply") * 2]
    assert await said(run, session_id) == items


@pytest.mark.usefixtures("url")
async def test_pages_go_both_ways_by_cursor(run: LiveService) -> None:
    session_id = await begun(run, "prompt")
    await note(run, session_id, *map(str, range(7)))
    whole = await said(run, session_id)
    assert texts(whole) == list("0123456")
    asking = {"userId": "u1", "limit": "3"}
    pages: list[str] = []
    query = asking
    while True:
        page = (await run.client.get(path(session_id), params=query)).json()
        pages.insert(0, "".join(texts(page["messages"])))
        if not page["hasMore"]:
            break
        query = asking | {"before": page["before"]}
    assert pages == ["0", "123", "456"]
    query, pages = asking | {"after": BEGINNING}, []
    while True:
        page = (await run.client.get(path(session_id), params=query)).json()
        pages.append("".join(texts(page["messages"])))
        if not page["hasMore"]:
            break
        query = asking | {"after": page["after"]}
    assert pages == ["012", "345", "6"]
    between = await said(run, session_id, after=whole[1]["cursor"], before=whole[4]["cursor"])
    assert texts(between) == ["2", "3"]


@pytest.mark.usefixtures("url")
async def test_a_fork_has_the_messages_that_it_shares_with_its_parents(run: LiveService) -> None:
    first = await begun(run, "what_if")
    await note(run, first, "a1", "a2", "a3")
    second = await forked(run, first, version=3, mode="what_if")  # after a2
    await note(run, first, "a4")
    await note(run, second, "b1", "b2", "b3")
    third = await forked(run, second, version=3, mode="what_if")  # after b2
    await note(run, third, "c1")
    whole = await said(run, third)
    assert texts(whole) == ["a1", "a2", "b1", "b2", "c1"]
    for n in range(1, 5):
        at = whole[n]["cursor"]
        assert await said(run, third, before=at, limit=2) == whole[max(0, n - 2) : n]
        assert await said(run, third, after=at, limit=2) == whole[n + 1 : n + 3]
    assert texts(await said(run, second)) == ["a1", "a2", "b1", "b2", "b3"]
    async with opened(run, stream(third), since=whole[0]["cursor"], userId="u1") as watched:
        assert chained(await watched.read(4), whole[0]["cursor"], "item") == whole[1:]
    await run.client.delete(f"/v1/chat-plan/session/{second}?userId=u1")
    assert texts(await said(run, third)) == ["c1"], "what the parent loses, the fork loses"


@pytest.mark.usefixtures("url")
async def test_a_page_has_at_most_its_bytes_next_to_the_cursor(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.wire.PAGE_BYTES", 30)
    session_id = await begun(run, "idea")
    await note(run, session_id, *(10 * str(n) for n in range(4)))
    page = (await run.client.get(path(session_id), params={"userId": "u1"})).json()
    assert (texts(page["messages"]), page["hasMore"]) == ([10 * "2", 10 * "3"], True)
    after = await said(run, session_id, after=BEGINNING)
    assert texts(after) == [10 * "0", 10 * "1"]


# one more message --------------------------------------------------------------------------------


async def test_a_reply_in_a_session_keeps_the_law_and_is_paid_once(
    run: LiveService, url: str
) -> None:
    session_id = await begun(run, "analysis")
    key = {"Idempotency-Key": "k1", "Accept": "text/event-stream"}
    answers = [await say(run, session_id, "Why is it slow?", headers=key) for _ in range(2)]
    assert answers[0].content.split(b"event: ", 1)[1] == answers[1].content.split(b"event: ", 1)[1]
    assert answers[0].headers["RateLimit"].startswith('"user";r=99;')
    assert answers[0].headers["Location"].startswith("/v1/chat-plan/replies/")
    whole = await say(run, session_id, "And now?", chatMode="question")
    assert whole.json()["subtype"] == "success"
    final = whole.json()
    first = law.lawful(await run.join(answers[0].headers["Location"].rpartition("/")[2]))
    assert {first["sessionId"], final["sessionId"]} == {session_id}
    await law.ended_as_shown(run, url, first, final)


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("on_busy", ["reject", "interrupt"])
async def test_a_message_during_a_reply_obeys_on_busy(run: LiveService, on_busy: str) -> None:
    session_id = await begun(run, "idea")
    running_reply = asyncio.create_task(say(run, session_id, HANGS))
    head = run.service.live_log.head
    assert await run.service.live_log.wait(head + 1, seconds=10)
    reply_id = next(iter((await state_of(run, session_id)).running))
    again = await say(run, session_id, "And this?", onBusy=on_busy)
    if on_busy == "reject":
        assert problem(again) == (409, "reply_in_progress")
        refused = await say(run, session_id, "Noted", reply=False)
        assert problem(refused) == (409, "reply_in_progress"), "it would change the talk"
        await cancel(run.client, reply_id)
    else:
        assert again.json()["subtype"] == "success"
    assert (await running_reply).json()["messageId"] == reply_id


@pytest.mark.usefixtures("url")
async def test_an_appended_message_is_told_to_the_model_and_costs_nothing(
    run: LiveService,
) -> None:
    session_id = await begun(run, "prompt")
    key = {"Idempotency-Key": "k1"}
    asked, again = [
        await say(run, session_id, "What is 6 x 7?", reply=False, headers=key) for _ in range(2)
    ]
    answer = asked.json()
    assert asked.status_code == again.status_code == 201
    assert answer == again.json()
    assert answer | {"messageId": ""} == {
        "messageId": "",
        "sessionId": session_id,
        "role": "user",
        "source": "client",
    }
    assert asked.headers["X-Log-Position"] == again.headers["X-Log-Position"]
    assert asked.headers["RateLimit"].startswith('"user";r=100;')
    assert '"project";r=199;' in asked.headers["RateLimit"]
    await note(run, session_id, "42.", role="assistant", locale="fr")
    assert run.model.calls == 0
    assert (await run.account())["availableSeconds"] == 36_000
    first, second = await said(run, session_id)
    assert (first["kind"], first["id"], first["source"]) == (
        "user_message",
        answer["messageId"],
        "client",
    )
    assert (second["kind"], second["source"], second["locale"]) == (
        "assistant_message",
        "client",
        "fr",
    )
    await streamed(run, session_id, "Are you sure?")
    turns = run.model.requests[-1]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert "42." in str(turns[1])
    row = (await run.client.get(f"/v1/chat-plan/session/{session_id}?userId=u1")).json()
    assert row["messageCount"] == 3


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize(
    "members",
    [
        {"role": "assistant"},
        {"role": "system", "reply": False},
        {"reply": False, "chatMode": "fix"},
        {"reply": False, "onBusy": "reject"},
        {"projectId": "p1"},
    ],
)
async def test_a_message_with_members_that_do_not_fit_is_refused(
    run: LiveService, members: dict[str, Any]
) -> None:
    session_id = await begun(run, "idea")
    assert problem(await say(run, session_id, "Hello", **members)) == (422, "invalid_request")
    assert await said(run, session_id) == []


async def test_an_appended_message_counts_for_the_limit_and_needs_a_role(url: str) -> None:
    async with running(url, project_messages=2, user_messages=1) as live:
        await live.project("p1", "u1", "u2")
        await live.credit()
        session_id = await begun(live, "idea")
        await note(live, session_id, "one", "two")
        third = await say(live, session_id, "three", reply=False)
        assert problem(third) == (429, "project_limit_reached")
        viewer = {"role": "viewer"}
        await live.client.put("/v1/projects/p1/members/u1", json=viewer)
        for how in BOTH:
            assert problem(await say(live, session_id, "Hi", **how)) == (403, "viewer_only")


@pytest.mark.usefixtures("url")
async def test_a_session_takes_messages_of_its_own_user_alone(run: LiveService) -> None:
    member = {"role": "owner"}
    await run.client.put("/v1/projects/p1/members/u2", json=member)
    session_id = await begun(run, "idea")
    await note(run, session_id, "Hello")
    for where in (session_id, "unknown"):
        for how in (*BOTH, {"versionId": "unknown"}):
            refused = await say(run, where, "Hello", userId="u2", **how)
            assert problem(refused) == (404, "session_not_found")
    assert texts(await said(run, session_id, userId="u2")) == ["Hello"], "members read it"


@pytest.mark.usefixtures("url")
async def test_the_answer_of_an_erased_message_is_the_answer_of_before(run: LiveService) -> None:
    session_id = await begun(run, "idea")
    noted, asked = {"Idempotency-Key": "k1"}, {"Idempotency-Key": "k2"}
    first = await say(run, session_id, "Hello", reply=False, headers=noted)
    await say(run, session_id, "Hello", headers=asked)
    await run.client.delete(f"/v1/chat-plan/session/{session_id}?userId=u1")
    again = await say(run, session_id, "Hello", reply=False, headers=noted)
    assert (again.status_code, again.json()) == (201, first.json())
    assert problem(await say(run, session_id, "Hello", headers=asked)) == (404, "reply_not_found")
    assert problem(await say(run, session_id, "Hello")) == (404, "session_not_found")


# live --------------------------------------------------------------------------------------------


def stream(session_id: str) -> str:
    """The address of a session's stream."""
    return f"/v1/sessions/{session_id}/stream"


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("ring", [2, 100], ids=["by the table", "by the ring"])
async def test_the_stream_of_a_session_is_resumed_at_every_message(
    run: LiveService, monkeypatch: pytest.MonkeyPatch, ring: int
) -> None:
    monkeypatch.setattr(feeds, "RING", ring)
    monkeypatch.setattr(feeds, "STEP", 3)
    session_id = await begun(run, "prompt")
    await note(run, session_id, *"abcde")
    await append(run, [appended("another session")])
    whole = await said(run, session_id)
    for n in range(len(whole)):
        at = whole[n - 1]["cursor"] if n else BEGINNING
        async with opened(run, stream(session_id), after=at, userId="u1") as watched:
            events = await watched.read(len(whole) - n)
            assert chained(events, at if n else None, "item") == whole[n:]
            assert list(run.service.feeds._feeds) == [("t1", "p1", f"session-{session_id}")]


async def test_a_session_is_followed_with_its_replies_until_it_is_erased(url: str) -> None:
    async with running(url) as one, running(url) as two:
        await one.project()
        await one.credit()
        session_id = await begun(one, "prompt")
        other = await begun(one, "prompt")
        watching = opened(two, stream(session_id), userId="u1", replies=True)
        async with watching as watched:
            await streamed(one, other, "Not here")
            final = law.lawful(await streamed(one, session_id, "Good morning"))
            seen = [await watched.next()]
            while not {"final", "reply"} <= {data.get("kind", name) for name, data, _ in seen}:
                seen.append(await watched.next())
            items = [(name, data, at) for name, data, at in seen if at]
            assert chained(items, None, "item") == await said(one, session_id)
            replies = {data["messageId"] for _, data, at in seen if not at}
            assert replies == {final["messageId"]}
            await one.client.delete(f"/v1/chat-plan/session/{session_id}?userId=u1")
            erased, ended = await watched.read(2)
            assert (erased[0], erased[1]["sessionId"]) == ("erased", session_id)
            assert (ended[0], ended[1]) == ("goaway", {"reason": "erased"})
        gone = await two.client.get(stream(session_id), params={"userId": "u1"})
        assert problem(gone) == (404, "session_not_found")


@pytest.mark.usefixtures("url")
async def test_a_member_that_is_removed_follows_a_session_no_more(run: LiveService) -> None:
    await run.client.put("/v1/projects/p1/members/u2", json={"role": "owner"})
    session_id = await begun(run, "idea")
    async with opened(run, stream(session_id), userId="u2") as watched:
        await note(run, session_id, "Hello")
        assert (await watched.next())[0] == "item"
        await run.client.delete("/v1/projects/p1/members/u2")
        name, data, _ = await watched.next()
        assert (name, data["reason"]) == ("goaway", "removed")
