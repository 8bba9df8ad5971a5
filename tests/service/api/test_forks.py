"""Forks: what the model is told in a fork, where a session can be forked, and who may fork it."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest

from domain.deciders import session
from domain.events import SessionMode
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import Transaction
from tests.running import LiveService, SharedService, Signed, problem


@pytest.fixture
async def run(shared_service: SharedService) -> AsyncIterator[LiveService]:
    async with shared_service.tenant() as started:
        await started.project("p1", "u1", "u2")
        await started.credit()
        await started.credit("u2")
        yield started


async def ask(run: LiveService, message: str, **members: Any) -> dict[str, Any]:
    answer = await run.chat(message, **members)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def fork(
    run: LiveService, session_id: str, message_id: str, user_id: str = "u1", **members: Any
) -> httpx.Response:
    body = {"userId": user_id, "messageId": message_id} | members
    return await run.client.post(f"/v1/sessions/{session_id}/fork", json=body)


async def forked(run: LiveService, session_id: str, message_id: str, **members: Any) -> str:
    answer = await fork(run, session_id, message_id, **members)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["sessionId"])


async def opened(run: LiveService, session_id: str, mode: SessionMode, **settings: Any) -> None:
    """Open a session of u1 in this mode."""

    async def work(transaction: Transaction) -> None:
        stream = session_stream(session_id, "p1")
        opening = partial(
            session.open_session, session_id=session_id, project_id="p1", user_id="u1", mode=mode
        )
        await transaction.decide(stream, opening)
        if settings:
            await transaction.decide(stream, partial(session.instruct, **settings))

    await run.service.transactions.transact(run.tenant_id, work)


async def appended(run: LiveService, session_id: str, message_id: str, **said: Any) -> None:
    async def work(transaction: Transaction) -> None:
        decision = partial(
            session.append_message, message_id=message_id, **({"locale": "en"} | said)
        )
        await transaction.decide(session_stream(session_id, "p1"), decision)

    await run.service.transactions.transact(run.tenant_id, work)


def told(run: LiveService) -> str:
    """The messages of the last request to the model, without its system text."""
    return str(run.model.requests[-1]["messages"])


async def user_message(run: LiveService, text: str) -> str:
    """The id of the user's message with this text."""
    query = {"userId": "u1", "limit": "100"}
    items = (await run.client.get("/v1/project/p1/timeline", params=query)).json()["items"]
    return str(
        next(each["id"] for each in items if each.get("userMessage", {}).get("text") == text)
    )


async def test_a_fork_at_a_reply_is_told_what_was_said_up_to_it(run: LiveService) -> None:
    first = await ask(run, "Why is the cart slow?")
    second = await ask(run, "Add a login page")
    answer = await fork(run, first["sessionId"], first["messageId"])
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["projectId"], made["userId"], made["mode"]) == ("p1", "u1", "what_if")
    assert made["forkedFrom"] == {
        "sessionId": first["sessionId"],
        "messageId": first["messageId"],
    }
    await ask(run, "What if it had no cache?", sessionId=made["sessionId"])
    assert "Why is the cart slow?" in told(run)
    assert first["data"]["answer"] in told(run)
    assert "login" not in told(run)
    await ask(run, "And the parent?", sessionId=second["sessionId"])
    assert "no cache" not in told(run), "the parent has nothing of its fork"


async def test_a_fork_at_a_message_asks_that_message_again(run: LiveService) -> None:
    first = await ask(run, "Why is the cart slow?")
    second = await ask(run, "Add a login page")
    at = await user_message(run, "Add a login page")
    fork_id = await forked(run, first["sessionId"], at)
    await ask(run, "Add a login page with a captcha", sessionId=fork_id)
    assert first["data"]["answer"] in told(run)
    assert second["data"]["plan"]["overview"] not in told(run)
    assert told(run).count("Add a login page") == 1, "the message without its reply is left out"


async def test_a_fork_of_a_fork_is_told_all_that_it_shares(run: LiveService) -> None:
    root = await ask(run, "Tell me of apples")
    one = await forked(run, root["sessionId"], root["messageId"])
    middle = await ask(run, "Tell me of pears", sessionId=one)
    await ask(run, "Tell me of plums", sessionId=one)
    two = await forked(run, one, middle["messageId"], user_id="u2", mode="analysis")
    await ask(run, "Tell me of figs", sessionId=two, userId="u2")
    assert [fruit in told(run) for fruit in ("apples", "pears", "plums", "figs")] == [
        True,
        True,
        False,
        True,
    ]
    # A message that the fork itself shares: the new fork leaves the session that has the message.
    answer = (await fork(run, two, root["messageId"])).json()
    assert answer["forkedFrom"]["sessionId"] == root["sessionId"]
    await ask(run, "Tell me of nuts", sessionId=answer["sessionId"])
    assert "apples" in told(run)
    assert "pears" not in told(run)


async def test_a_fork_at_an_appended_message_is_told_it(run: LiveService) -> None:
    await opened(run, "s1", "setup")
    await appended(run, "s1", "a1", role="user", text="We sell tea")
    await appended(run, "s1", "a2", role="assistant", text="Tea it is")
    await appended(run, "s1", "a3", role="user", text="Or coffee")
    await ask(run, "And now?", sessionId=await forked(run, "s1", "a2"))
    assert "We sell tea" in told(run)
    assert "Tea it is" in told(run)
    assert "coffee" not in told(run)


async def test_what_the_parent_loses_by_erasure_its_forks_lose_too(run: LiveService) -> None:
    root = await ask(run, "Tell me of apples")
    one = await forked(run, root["sessionId"], root["messageId"])
    own = await ask(run, "Tell me of pears", sessionId=one)
    two = await forked(run, one, own["messageId"])
    erased = await run.client.delete(f"/v1/chat-plan/session/{root['sessionId']}?userId=u1")
    assert erased.status_code == 200
    await ask(run, "Tell me of figs", sessionId=two)
    listed = (await run.client.get(f"/v1/sessions/{two}/messages?userId=u1")).text
    assert "pears" in listed
    assert "apples" not in listed
    assert "pears" in told(run)
    assert "apples" not in told(run)
    gone = await fork(run, one, root["messageId"])
    assert problem(gone) == (404, "message_not_found")
    gone = await fork(run, root["sessionId"], root["messageId"])
    assert problem(gone) == (404, "session_not_found")


async def test_a_fork_of_a_private_session_stays_private_and_keeps_its_settings(
    run: LiveService,
) -> None:
    await opened(
        run,
        "private-s1",
        "prompt",
        instructions="You sell tea",
        model="offline",
        max_tokens=500,
        settings={"temperature": 0.3, "isTerse": True, "style": "Ask my friend Carol"},
    )
    first = await ask(run, "Green or black?", sessionId="private-s1")
    answer = (await fork(run, "private-s1", first["messageId"])).json()
    assert answer["mode"] == "prompt"
    kept = {"temperature": 0.3, "isTerse": True}
    assert answer["settings"] == {"model": "offline", "maxTokens": 500} | kept
    again = (await fork(run, answer["sessionId"], first["messageId"])).json()
    assert again["settings"] == answer["settings"], "a fork of the fork has them, too"
    await ask(run, "Which pot?", sessionId=answer["sessionId"])
    asked = run.model.requests[-1]
    assert "You sell tea" in str(asked["system"])
    assert "Green or black?" in told(run)
    assert asked["max_tokens"] == 500
    foreign = await fork(run, "private-s1", first["messageId"], user_id="u2")
    assert problem(foreign) == (404, "session_not_found")
    foreign = await fork(run, answer["sessionId"], first["messageId"], user_id="u2")
    assert problem(foreign) == (404, "session_not_found")
    public = await fork(run, "private-s1", first["messageId"], mode="what_if")
    assert problem(public) == (409, "mode_fixed")
    await run.client.delete("/v1/chat-plan/session/private-s1?userId=u1")
    await ask(run, "And now?", sessionId=answer["sessionId"])
    assert "You sell tea" not in str(run.model.requests[-1])
    assert "Green" not in told(run)


async def test_a_message_that_is_unknown_or_has_no_end_is_no_place_for_a_fork(
    run: LiveService,
) -> None:
    answer = await ask(run, "Hello there")
    assert problem(await fork(run, answer["sessionId"], "nobody")) == (404, "message_not_found")
    body = {"userId": "u1", "projectId": "p1", "message": "Hello [[offline: hang]]"}
    headers = {"Accept": "text/event-stream"}
    async with run.client.stream("POST", "/v1/chat-plan", json=body, headers=headers) as stream:
        reply = stream.headers["Location"]
        refused = await fork(run, answer["sessionId"], reply.rpartition("/")[2])
        assert problem(refused) == (404, "message_not_found")
    ended = await run.client.post(f"{reply}/cancel?userId=u1")
    assert ended.json()["status"] == "ended"


async def test_a_viewer_and_a_stranger_fork_nothing(run: LiveService) -> None:
    answer = await ask(run, "Hello there")
    await run.client.put("/v1/projects/p1/members/u3", json={"role": "viewer"})
    at = (answer["sessionId"], answer["messageId"])
    assert problem(await fork(run, *at, user_id="u3")) == (403, "viewer_only")
    assert problem(await fork(run, *at, user_id="u4")) == (404, "project_not_found")
    body = {"userId": "u1", "messageId": at[1]}
    foreign = await run.client.post(f"/v1/sessions/{at[0]}/fork", json=body, auth=Signed("k2"))
    assert problem(foreign) == (404, "session_not_found")


async def test_the_same_key_is_the_same_fork(run: LiveService) -> None:
    answer = await ask(run, "Hello there")
    body = {"userId": "u1", "messageId": answer["messageId"]}
    path, key = f"/v1/sessions/{answer['sessionId']}/fork", {"Idempotency-Key": "k"}
    first = await run.client.post(path, json=body, headers=key)
    again = await run.client.post(path, json=body, headers=key)
    assert first.json() == again.json()


async def test_a_chain_of_forks_has_an_end(run: LiveService) -> None:
    answer = await ask(run, "Hello there")
    last, at = answer["sessionId"], answer["messageId"]
    for n in range(session.MOST_FORKS):
        last = await forked(run, last, at)
        at = f"a{n}"
        await appended(run, last, at, role="user", text=f"Word {n}")
    assert problem(await fork(run, last, at)) == (409, "too_many_forks")
    assert (await fork(run, last, "a3")).status_code == 201, "an earlier place"
