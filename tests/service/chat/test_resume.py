"""A session goes on after its expiry and after a restart, on another device, and during a build."""

from functools import partial
from typing import Any

import httpx

from service.commands import sessions
from service.model.offline.app import OfflineModel
from tests.running import LiveService, problem, running
from tests.service import law
from tests.service.talking import BOTH, begun, said, say, state_of, streamed, texts

WORD = "zygomorph"


def told(model: OfflineModel) -> list[str]:
    """The roles of the last request to the model; its first turn has the word."""
    turns = model.requests[-1]["messages"]
    assert WORD in str(turns[0])
    return [turn["role"] for turn in turns]


async def test_an_expired_session_goes_on_with_its_history(run: LiveService) -> None:
    first = (await run.chat(f"Speak of a {WORD}")).json()["sessionId"]
    for message, how in zip(("Go on", "Noted"), BOTH, strict=True):
        expiring = partial(sessions.expire, project_id="p1", session_id=first)
        await run.service.transactions.transact(run.tenant_id, expiring)
        assert (await state_of(run, first)).status == "expired"
        answer = await say(run, first, message, **how)
        assert answer.is_success, answer.text
        assert (await state_of(run, first)).status == "active"
    assert told(run.model) == ["user", "assistant", "user"]
    assert texts(await said(run, first))[-1] == "Noted"
    assert (await run.chat("Hello")).json()["sessionId"] == first, "it is the active one again"


async def test_a_session_goes_on_after_a_restart_on_another_device(url: str) -> None:
    model = OfflineModel()
    instructed: dict[str, Any] = {"instructions": "Be brief.", "model": "another", "max_tokens": 99}
    async with running(url, model) as live:
        await live.project()
        await live.credit()
        session_id = await begun(live, "prompt", **instructed)
        law.lawful(await streamed(live, session_id, f"Speak of a {WORD}"))
        before = await said(live, session_id)
    async with running(url, model) as live:
        token = await live.client.post("/v1/tokens", json={"userId": "u1", "projectId": "p1"})
        bearer = {"Authorization": f"Bearer {token.json()['token']}"}
        base = live.client.base_url
        async with httpx.AsyncClient(base_url=base, headers=bearer, timeout=60) as device:
            assert await said(live, session_id, device) == before
            answer = await say(live, session_id, "Go on", client=device)
            assert answer.json()["subtype"] == "success"
            assert (await said(live, session_id, device))[:2] == before
    assert told(model) == ["user", "assistant", "user"]
    first, last = model.requests
    for member in ("model", "max_tokens", "system"):
        assert first[member] == last[member], "its settings"


async def test_a_build_stops_the_sessions_of_the_planner_and_no_others(run: LiveService) -> None:
    plan, prompt, idea = [await begun(run, mode) for mode in ("plan", "prompt", "idea")]
    built = {"userId": "u1", "projectId": "p1", "message": "A shop"}
    assert (await run.client.post("/v1/builds", json=built)).is_success
    for session_id in (prompt, idea):
        assert (await say(run, session_id, "Hello")).json()["subtype"] == "success"
        assert (await say(run, session_id, "Noted", reply=False)).status_code == 201
    for how in BOTH:
        assert problem(await say(run, plan, "Hello", **how)) == (409, "build_in_progress")
