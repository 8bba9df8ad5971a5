"""The stories of prompts, over HTTP: from an idea to a better prompt, and a saved run."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import httpx
import pytest

from service.model.offline.app import OfflineModel
from service.model.offline.requests import parts
from tests.running import Event, LiveService, events_of, problem, running
from tests.service.watching import SSE

WHO: Final[dict[str, Any]] = {"userId": "u1", "projectId": "p1"}


@pytest.fixture
async def run(url: str) -> AsyncIterator[LiveService]:
    async with running(url) as started:
        await started.project("p1", "u1", "u2")
        await started.credit()
        yield started


async def posted(run: LiveService, path: str, status: int = 201, **body: Any) -> Any:
    answer = await run.client.post(path, json={"userId": "u1"} | body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def got(run: LiveService, path: str, **params: Any) -> Any:
    answer = await run.client.get(path, params={"userId": "u1"} | params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def streamed(run: LiveService, session: Any, message: str) -> list[Event]:
    path = f"/v1/sessions/{session['sessionId']}/messages"
    body = {"userId": "u1", "message": message}
    answer = await run.client.post(path, json=body, headers=SSE)
    assert answer.status_code == 200, answer.text
    return events_of(answer.text)


def appended(events: list[Event], path: str) -> list[str]:
    """The pieces in which the text at a path came."""
    return [
        op["text"]
        for name, data, _ in events
        if name == "chunk"
        for op in data["ops"]
        if op["op"] == "append" and op["path"] == path
    ]


def asked(model: OfflineModel) -> Any:
    """The last question to the model."""
    return model.requests[-1]


async def reported(run: LiveService, version: Any, steps: Sequence[str]) -> str:
    """A run of a prompt version with these steps; returns its id."""
    values = dict.fromkeys(version["placeholders"], "bee")
    body = {**WHO, "title": "Try it", "promptVersionId": version["promptVersionId"]}
    run_id = str((await posted(run, "/v1/runs", **body, values=values))["runId"])
    events = [
        {
            "eventId": each,
            "type": "step",
            "title": each,
            "at": "2026-11-22T10:00:00Z",
            "stepId": each,
            "promptVersionId": version["promptVersionId"],
            "output": f"The output of {each}",
        }
        for each in steps
    ]
    answer = await run.client.post(f"/v1/runs/{run_id}/events", json={"events": events})
    assert answer.json() == {"accepted": len(events), "status": "running"}
    return run_id


async def test_from_an_idea_to_a_better_prompt(run: LiveService) -> None:
    """An idea becomes a prompt; feedback on its output becomes the next version of it."""
    idea = await posted(run, "/v1/sessions", **WHO, mode="idea", reuse=True)
    again = await posted(run, "/v1/sessions", status=200, **WHO, mode="idea", reuse=True)
    assert again["sessionId"] == idea["sessionId"], "create or fetch"
    events = await streamed(run, idea, "A poem about {{animal}}")
    final = events[-1][1]
    assert final["mode"] == "improvement"
    for path, name in (("/analysis", "analysis"), ("/improvedPrompt", "improvedPrompt")):
        assert "".join(appended(events, path)) == final["data"][name], "the text streams"

    accept = f"/v1/chat-plan/replies/{final['messageId']}/accept"
    refused = await run.client.post(accept, json={"userId": "u1"})
    assert problem(refused) == (422, "prompt_needed")
    both = await asyncio.gather(
        *(run.client.post(accept, json={"userId": "u1", "name": "Poems"}) for _ in range(2))
    )
    assert sorted(each.status_code for each in both) == [200, 201], "once"
    accepted = both[0].json()
    assert both[1].json() == accepted
    first = accepted["version"]
    assert first["text"] == final["data"]["improvedPrompt"]
    source = {"sessionId": idea["sessionId"], "messageId": final["messageId"]}
    assert first["source"] == source, "told on the version"
    said = await got(run, f"/v1/sessions/{idea['sessionId']}/messages")
    assert said["messages"][-1]["kind"] == "prompt_version", "told in the session"
    assert said["messages"][-1]["event"]["sourceMessageId"] == final["messageId"]

    run_id = await reported(run, first, steps=("step-1", "step-2"))
    about = {"promptVersionId": first["promptVersionId"], "runId": run_id, "stepId": "step-1"}
    feedback: dict[str, Any] = {**WHO, "mode": "run_feedback", "context": about, "reuse": True}
    talk = await posted(run, "/v1/sessions", **feedback)
    assert (await posted(run, "/v1/sessions", status=200, **feedback)) == talk
    other: dict[str, Any] = {**feedback, "context": about | {"stepId": "step-2"}}
    assert (await posted(run, "/v1/sessions", **other))["sessionId"] != talk["sessionId"]
    events = await streamed(run, talk, "The poem is too long")
    better = events[-1][1]
    told = parts(asked(run.model)["messages"][0]["content"])[0]["text"]
    assert first["text"] in told, "the prompt is told"
    assert "The output of step-1" in told, "and so is the output of the step"
    path = f"/v1/chat-plan/replies/{better['messageId']}/accept"
    second = await posted(run, path)
    assert second["promptId"] == accepted["promptId"]
    assert second["version"]["number"] == 2
    assert (await posted(run, path, status=200, name="Another")) == second, "the same version"
    diff = await got(run, f"/v1/prompts/{second['promptId']}/versions/2/diff", against=1)
    assert "".join(each["text"] for each in diff["ops"] if each["op"] != "insert") == first["text"]
    plan = (await run.chat("Add a page")).json()
    path = f"/v1/chat-plan/replies/{plan['messageId']}/accept"
    refused = await run.client.post(path, json={"userId": "u1", "name": "No"})
    assert problem(refused) == (404, "improvement_not_found")


async def created(run: LiveService, text: str, name: str = "Selling") -> Any:
    return await posted(run, "/v1/prompts", projectId="p1", name=name, text=text)


async def saved(run: LiveService, prompt: Any, **body: Any) -> Any:
    version = prompt["version"]["promptVersionId"]
    return await posted(run, "/v1/sessions", **WHO, mode="prompt", promptVersionId=version, **body)


async def test_a_saved_run(run: LiveService) -> None:
    """Start, talk, leave, find, resume as it was, go on with the newest version, export, erase."""
    prompt = await created(run, "Sell {{what}} to {{who}}.")
    values = {"what": "{{who}} and bees", "who": ""}
    settings = {"temperature": 0.5, "maxTokens": 500}
    started = await saved(run, prompt, values=values, settings=settings)
    assert started["prompt"] == {
        "promptId": prompt["promptId"],
        "promptVersionId": prompt["version"]["promptVersionId"],
        "number": 1,
        "name": "Selling",
        "newest": 1,
        "values": values,
    }
    assert (started["settings"], started["notSent"]) == (settings, ["temperature"])
    final = (await streamed(run, started, "Begin with a question"))[-1][1]
    question = asked(run.model)
    assert "Sell {{who}} and bees to ." in str(question["system"])
    assert question["max_tokens"] == 500
    assert final["metadata"]["duration_ms"] >= 0

    path = f"/v1/sessions/{started['sessionId']}"
    star = await run.client.patch(path, json={"userId": "u1", "starred": True})
    assert star.json()["name"] == "Begin with a question"
    other = await created(run, "Buy", name="Buying")
    await saved(run, other)
    for where in ("/v1/sessions", "/v1/projects/p1/sessions"):
        for filters in (
            {"promptId": prompt["promptId"]},
            {"starred": True},
            {"q": "WITH A quest"},
        ):
            found = await got(run, where, mode="prompt", **filters)
            assert [each["sessionId"] for each in found["sessions"]] == [started["sessionId"]]
        for sort in ("recent", "oldest", "name", "messages"):
            assert len((await got(run, where, mode="prompt", sort=sort))["sessions"]) == 2
    listed = (await got(run, "/v1/projects/p1/prompts", sort="name"))["prompts"]
    assert [(each["name"], each["savedRuns"]) for each in listed] == [("Buying", 1), ("Selling", 1)]
    theirs = (await got(run, "/v1/projects/p1/prompts", userId="u2"))["prompts"]
    assert {each["savedRuns"] for each in theirs} == {0}, "those of others are not counted"
    (message, reply) = (await got(run, f"{path}/messages"))["messages"][-2:]
    assert message["userMessage"]["text"] == "Begin with a question"
    assert {"tokensUsed", "duration", "firstTextMs"} <= reply["aiResponse"].keys()

    await posted(run, f"/v1/prompts/{prompt['promptId']}/versions", text="Sell {{what}}, {{how}}.")
    await run.client.patch(
        f"/v1/prompts/{prompt['promptId']}", json={"userId": "u1", "archived": True}
    )
    resumed = await got(run, path)
    assert (resumed["prompt"]["number"], resumed["prompt"]["newest"]) == (1, 2)
    await streamed(run, started, "Go on")
    assert "Sell {{who}} and bees to ." in str(asked(run.model)["system"]), "exactly as it was"
    instructions = f"{path}/instructions"
    refused = await run.client.post(
        instructions, json={"userId": "u1", "promptVersionId": "newest"}
    )
    assert problem(refused) == (422, "values_missing")
    assert refused.json()["errors"][0]["pointer"] == "/values/how"
    newest = {"promptVersionId": "newest", "values": {"what": "bees", "how": "fast"}}
    changed = await posted(run, instructions, status=200, **newest)
    assert (changed["prompt"]["number"], changed["settings"]) == (2, settings)
    await streamed(run, started, "Faster")
    assert "Sell bees, fast." in str(asked(run.model)["system"])
    hotter = await posted(run, instructions, status=200, settings={"temperature": 1})
    assert hotter["prompt"] == changed["prompt"]
    versions = (await got(run, f"/v1/prompts/{prompt['promptId']}/versions"))["versions"]
    assert [each["usageCount"] for each in versions] == [1, 0]

    for form in ("text", "markdown", "json"):
        document = await run.client.get(f"{path}/export", params={"userId": "u1", "format": form})
        assert "Begin with a question" in document.text
    assert problem(await run.client.get(path, params={"userId": "u2"}))[0] == 404
    erased = await run.client.delete(f"/v1/prompts/{prompt['promptId']}", params={"userId": "u2"})
    assert erased.status_code == 200, erased.text
    assert problem(await run.client.get(path, params={"userId": "u1"}))[0] == 404
    left = (await got(run, "/v1/sessions", mode="prompt"))["sessions"]
    assert [each["prompt"]["name"] for each in left] == ["Buying"]
    log = await run.client.get("/v1/events", params={"limit": 1_000})
    assert "bees" not in log.text


async def refusal(run: LiveService, **body: Any) -> httpx.Response:
    return await run.client.post("/v1/sessions", json={**WHO, "mode": "prompt"} | body)


async def test_a_session_of_a_prompt_needs_the_values_of_its_placeholders(run: LiveService) -> None:
    prompt = await created(run, "Sell {{what}}." + "{{what}}" * 20)
    version = prompt["version"]["promptVersionId"]
    missing = await refusal(run, promptVersionId=version)
    assert problem(missing) == (422, "values_missing")
    assert [each["pointer"] for each in missing.json()["errors"]] == ["/values/what"]
    unknown = await refusal(run, promptVersionId=version, values={"what": "", "why": ""})
    assert problem(unknown) == (422, "values_unknown")
    assert [each["pointer"] for each in unknown.json()["errors"]] == ["/values/why"]
    long = await refusal(run, promptVersionId=version, values={"what": "x" * 20_000})
    assert problem(long) == (422, "prompt_too_long")
    for wrong in (
        {"promptVersionId": version, "mode": "plan"},
        {"promptVersionId": version, "values": {"what": ""}, "reuse": True},
        {"values": {"what": ""}},
    ):
        assert problem(await refusal(run, **wrong)) == (422, "invalid_request")
    for nowhere in ("nowhere", f"{prompt['promptId']}.9", f"{prompt['promptId']}.1.1"):
        assert problem(await refusal(run, promptVersionId=nowhere)) == (
            404,
            "prompt_version_not_found",
        )
    await run.client.post(
        "/v1/projects",
        json={"projectId": "p2", "name": "n", "members": [{"userId": "u1", "role": "owner"}]},
    )
    foreign = await refusal(run, projectId="p2", promptVersionId=version, values={"what": ""})
    assert problem(foreign) == (404, "prompt_version_not_found")
    path = f"/v1/prompts/{prompt['promptId']}"
    await run.client.patch(path, json={"userId": "u1", "archived": True})
    archived = await refusal(run, promptVersionId=version, values={"what": ""})
    assert problem(archived) == (409, "prompt_archived")


async def test_only_the_user_of_a_session_of_mode_prompt_instructs_it(run: LiveService) -> None:
    idea = await posted(run, "/v1/sessions", **WHO, mode="idea")
    plain = await posted(run, "/v1/sessions", **WHO, mode="prompt")
    path = "/v1/sessions/{}/instructions"

    async def instructed(session: Any, **body: Any) -> httpx.Response:
        asked = {"userId": "u1"} | body
        return await run.client.post(path.format(session["sessionId"]), json=asked)

    hot = {"settings": {"temperature": 1}}
    assert problem(await instructed(idea, **hot)) == (409, "instructions_fixed")
    assert problem(await instructed(plain, **hot, userId="u2")) == (404, "session_not_found")
    assert problem(await instructed(plain, values={"a": ""})) == (422, "values_unknown")
    newest = await instructed(plain, promptVersionId="newest")
    assert problem(newest) == (404, "prompt_version_not_found")
    model = await instructed(plain, settings={"model": "another"})
    assert problem(model) == (422, "model_not_allowed")
    assert problem(await instructed(plain)) == (422, "invalid_request")
    assert (await instructed(plain, **hot)).json()["settings"] == hot["settings"]


async def test_an_improvement_goes_to_a_prompt_of_its_own_project(run: LiveService) -> None:
    await run.project("p2", "u1")
    foreign = await posted(run, "/v1/prompts", projectId="p2", name="n", text="t")
    about = {"promptVersionId": foreign["version"]["promptVersionId"]}
    refused = await run.client.post("/v1/sessions", json={**WHO, "mode": "idea", "context": about})
    assert problem(refused) == (404, "prompt_version_not_found")
    own = {"promptVersionId": "one.of.our.own.7", "promptId": "ours"}
    idea = await posted(run, "/v1/sessions", **WHO, mode="idea", context=own)
    assert idea["context"] == own, "a context may have ids of the client's own"
    path = f"/v1/sessions/{idea['sessionId']}/messages"
    reply = await posted(run, path, status=200, message="Sell bees")
    accept = f"/v1/chat-plan/replies/{reply['messageId']}/accept"
    for body in ({"promptId": foreign["promptId"]}, {}):
        refused = await run.client.post(accept, json={"userId": "u1"} | body)
        assert problem(refused) == (404, "prompt_not_found")
    first = await created(run, "Sell")
    accepted = await posted(run, accept, promptId=first["promptId"])
    assert (accepted["promptId"], accepted["version"]["number"]) == (first["promptId"], 2)
    erased = await run.client.delete(f"/v1/prompts/{first['promptId']}", params={"userId": "u1"})
    assert erased.status_code == 200
    again = await posted(run, accept, name="Bees")
    assert again["version"]["text"] == accepted["version"]["text"]
    assert again["promptId"] != first["promptId"], "what was erased can be accepted anew"
