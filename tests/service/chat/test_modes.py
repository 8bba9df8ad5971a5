"""What the mode of a session changes in its replies, through the provider's SDK and a model."""

import asyncio
from typing import Any

import pytest

from service.model.offline.app import Fault, OfflineModel
from tests.running import LiveService, running
from tests.service import law
from tests.service.talking import begun, said, state_of, streamed
from tests.service.talking import say as answered
from tests.service.watching import until


async def paid(live: LiveService, final: law.Final) -> dict[str, Any]:
    """The entry of the ledger for the only reply, which bills what its envelope says."""
    (entry,) = await law.ledger(live)
    assert entry["messageId"] == final["messageId"]
    assert entry["billedSeconds"] == final["metadata"]["billed_seconds"]
    return entry


@pytest.mark.parametrize(
    ("mode", "operation"), [("idea", "idea_consultation"), ("run_feedback", "run_feedback")]
)
async def test_an_improvement_streams_its_analysis_and_its_prompt(
    url: str, mode: Any, operation: str
) -> None:
    async with running(url, OfflineModel(pace=0.01)) as live:
        await live.project()
        await live.credit()
        session_id = await begun(live, mode)
        events = await streamed(live, session_id, "A poem about the sea", chatMode="feature")
        final = law.lawful(events)
        assert (final["subtype"], final["mode"]) == ("success", "improvement")
        appended = [op["path"] for op in law.operations(events) if op["op"] == "append"]
        assert appended.count("/analysis") > 1
        assert appended.count("/improvedPrompt") > 1
        assert (await paid(live, final))["operationType"] == operation
        (request,) = live.model.requests
        assert "tools" not in request
        assert "The user marked this" not in str(request["messages"]), "a hint is for the planner"
        await law.stored(live, final)
        (_, reply) = await said(live, session_id)
        assert reply["aiResponse"]["text"] == final["data"]["analysis"]


JSON = '{"a": [1, 2], "intent": "feature"}'


async def test_a_prompt_session_streams_markdown_whatever_it_begins_with(url: str) -> None:
    pieces = tuple(JSON[n : n + 4] for n in range(0, len(JSON), 4))
    model = OfflineModel(script=[Fault("raw", pieces=pieces)], pace=0.01)
    async with running(url, model) as live:
        await live.project()
        await live.credit()
        session_id = await begun(
            live, "prompt", instructions="Answer in JSON.", model="another", max_tokens=123
        )
        events = await streamed(live, session_id, "A list of numbers", locale="ar")
        final = law.lawful(events)
        assert (final["subtype"], final["mode"]) == ("success", "general")
        assert final["data"] == {"markdown": JSON}
        assert [name for name, _, _ in events].count("chunk") > 1
        assert final["metadata"].get("warnings", []) == []
        (request,) = live.model.requests
        assert (request["model"], request["max_tokens"]) == ("another", 123)
        assert "output_config" not in request
        assert "tools" not in request
        assert [part["text"] for part in request["system"]] == ["Answer in JSON."]
        entry = await paid(live, final)
        assert (entry["operationType"], entry["model"]) == ("prompt_run", "another")
        (_, reply) = await said(live, session_id)
        assert reply["aiResponse"]["text"] == JSON


async def test_the_next_server_asks_the_same_question_of_a_prompt_session(url: str) -> None:
    model = OfflineModel()
    async with running(url, model, grace_seconds=0.3) as live:
        await live.project()
        await live.credit()
        session_id = await begun(
            live, "prompt", instructions="Be brief.", model="another", max_tokens=99
        )
        await answered(live, session_id, "The sea is blue.", role="assistant", reply=False)
        message = "A poem [[offline: hang times=1 ping=0.05]]"
        key = {"Accept": "text/event-stream", "Idempotency-Key": "k"}
        asking = asyncio.create_task(answered(live, session_id, message, headers=key))
        await until(lambda: model.calls)
        reply_id = next(iter((await state_of(live, session_id)).running))
        live.server.handle_exit(15, None)
        assert "goaway" in (await asking).text
    async with running(url, model) as live:
        final = law.lawful(await live.join(reply_id))
        assert final["subtype"] == "success"
        first, again = model.requests
        assert first == again
        assert (await paid(live, final))["operationType"] == "prompt_run"
