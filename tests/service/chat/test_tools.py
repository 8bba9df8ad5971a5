"""Tool calls: the files that the model may read, the events of the readers, and the cost."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.model.offline.app import Fault, OfflineModel
from service.model.offline.requests import parts
from tests.running import Event, LiveService, SharedService, problem, sharing
from tests.service import law

KNOWN = {
    "projectId": "p1",
    "name": "Shop",
    "sourceRoot": "shop",
    "members": [{"userId": "u1", "role": "owner"}],
}
APP = 'def greet(name):\n    return f"Hello, {name}!"\n'


@dataclass(frozen=True, slots=True)
class Sourced:
    """A service that the tests share, and the folder with the sources of its tenants."""

    shared: SharedService
    sources: Path

    @asynccontextmanager
    async def tenant(self, model: OfflineModel | None = None) -> AsyncGenerator[LiveService]:
        """A tenant with a project's source, and with a forbidden file beside that source."""
        async with self.shared.tenant(model) as live:
            root = self.sources / live.tenant_id / "shop"
            root.mkdir(parents=True)
            (root / "app.py").write_text(APP)
            (root / "README.md").write_text("\n# Shop\n\nTea.\n")
            (root / ".env").write_text("TOKEN=canary\n")
            assert (await live.client.post("/v1/projects", json=KNOWN)).status_code == 201
            await live.credit()
            yield live


@pytest.fixture(scope="module")
async def sourced(
    shared_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Sourced]:
    sources = tmp_path_factory.mktemp("sources")
    (sources / "t2").mkdir()
    (sources / "t2" / "other.py").write_text("canary\n")
    async with sharing(shared_url, source_dir=sources) as shared:
        yield Sourced(shared, sources)


@pytest.fixture
async def run(sourced: Sourced) -> AsyncIterator[LiveService]:
    async with sourced.tenant() as live:
        yield live


def tool_calls(events: list[Event]) -> list[tuple[str, str]]:
    return [(data["name"], data["status"]) for name, data, _ in events if name == "tool"]


def sent(run: LiveService) -> list[Any]:
    """The blocks of the last request's messages after the user's."""
    messages = run.model.requests[-1]["messages"]
    return [block for message in messages for block in parts(message["content"])]


async def test_readers_see_the_tool_calls_of_the_model(run: LiveService, shared_url: str) -> None:
    events = await run.stream("How does app.py greet?")
    assert tool_calls(events) == [("read_file", "running"), ("read_file", "done")]
    summary = next(data["summary"] for name, data, _ in events if name == "tool")
    assert summary == "read_file app.py"
    final = law.lawful(events)
    assert final["subtype"] == "success"
    assert final["data"]["references"] == [
        {"file": "app.py", "line": 1, "snippet": "def greet(name):"}
    ]
    assert run.model.calls == 2
    assert "def greet(name):" in str(sent(run)[-1])
    await law.ended_as_shown(run, shared_url, final)


async def test_the_seconds_of_each_model_call_are_rounded_up(run: LiveService) -> None:
    final = (await run.chat("How does app.py greet?")).json()
    assert final["metadata"]["billed_seconds"] == 2
    assert (await run.account())["consumedSeconds"] == 2


async def test_a_project_without_source_is_answered_without_tools(run: LiveService) -> None:
    await run.project("p2")
    final = (await run.chat("How does app.py greet?", projectId="p2")).json()
    assert "tools" not in run.model.requests[-1]
    assert final["data"]["references"] == [], "a file that was not read is no reference"
    assert final["metadata"]["warnings"] == ["references_left_out"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../../t2/other.py", "canary"),
        ("/etc/passwd", "root:"),
        (".env", "canary"),
        ("nothing.py", "Traceback"),
    ],
)
async def test_a_forbidden_path_is_an_error_in_the_tool_result(
    run: LiveService, path: str, code: str
) -> None:
    events = await run.stream(f"Why? [[offline: tool name=read_file path={path}]]")
    assert tool_calls(events) == [("read_file", "running"), ("read_file", "failed")]
    result = sent(run)[-1]
    assert result["is_error"] is True
    assert code not in str(result)
    assert law.lawful(events)["subtype"] == "success"


@pytest.mark.parametrize(
    "directive",
    [
        "name=rm path=app.py",
        "name=read_file",
        "name=read_file path=7",
        "name=read_file path=app.py first_line=many",
        "name=list_files text=x",
    ],
)
async def test_an_invalid_tool_call_is_an_error_and_does_not_end_the_reply(
    run: LiveService, directive: str
) -> None:
    events = await run.stream(f"Why? [[offline: tool {directive}]]")
    assert [status for _, status in tool_calls(events)] == ["running", "failed"]
    assert law.lawful(events)["subtype"] == "success"


async def test_every_tool_shows_the_project_s_source(run: LiveService) -> None:
    for directive, shown in (
        ("name=list_files", "README.md"),
        ("name=search_files text=HELLO", "app.py"),
        ("name=read_file path=app.py first_line=2 lines=1", "Hello"),
    ):
        events = await run.stream(f"Why? [[offline: tool {directive}]]")
        assert tool_calls(events)[-1][1] == "done"
        assert shown in str(sent(run)[-1])
        assert "canary" not in str(run.model.requests[-1])


async def test_the_number_of_tool_calls_is_limited(run: LiveService) -> None:
    directives = " ".join("[[offline: tool name=list_files]]" for _ in range(20))
    events = await run.stream(f"Why? {directives}")
    assert len(tool_calls(events)) == 2 * 6
    assert run.model.requests[-1]["tool_choice"] == {"type": "none"}
    assert law.lawful(events)["subtype"] == "success"


async def test_text_before_a_tool_call_is_not_part_of_the_answer(sourced: Sourced) -> None:
    async with sourced.tenant(_Introducing()) as run:
        events = await run.stream("How does app.py greet?")
        final = law.lawful(events)
        assert final["mode"] == "question"
        assert "Let me look" not in str(events)


class _Introducing(OfflineModel):
    """A model that writes text before its tool call, as models do."""

    def _answer(self, asked: Any, fault: Fault) -> Any:
        played: Any = super()._answer(asked, fault)
        if fault.name == "tool":
            played._steps = _introduced(played._steps)
        return played


def _introduced(steps: Any) -> Any:
    said = (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":7,'
        b'"content_block":{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":7,'
        b'"delta":{"type":"text_delta","text":"Let me look at the code first."}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":7}\n\n'
    )
    for number, step in enumerate(steps):
        yield step
        if number == 0:
            yield said


async def test_the_requested_context_is_in_the_first_question(run: LiveService) -> None:
    context = {
        "includeProjectStructure": True,
        "includeVersionHistory": True,
        "includeBuildErrors": True,
    }
    await run.chat("Hello there", context=context)
    first = run.model.requests[0]["messages"][-1]["content"]
    assert "Project structure:" in first
    assert "app.py" in first
    assert ".env" not in first
    assert "Nothing was deployed yet." in first
    assert "No build has failed." in first


async def test_context_that_is_not_requested_is_not_sent(run: LiveService) -> None:
    await run.chat("Hello there", context={"includeProjectStructure": False})
    assert "Project structure" not in str(run.model.requests[0])


async def test_the_model_sees_versions_and_failed_builds(run: LiveService) -> None:
    for version, kind in (("v1", "completed"), ("", "failed")):
        body = {"userId": "u1", "projectId": "p1", "message": "A shop"}
        build_id = (await run.client.post("/v1/builds", json=body)).json()["buildId"]
        report = {"eventId": "e", "phase": "deploy", "type": kind, "title": "t"}
        report |= {"at": "2026-01-01T00:00:00Z"}
        report |= {"versionId": version} if version else {"error": "No space left"}
        answer = await run.client.post(f"/v1/builds/{build_id}/events", json={"events": [report]})
        assert answer.status_code == 200, answer.text
    for tool, shown in (("version_history", "v1"), ("build_errors", "No space left")):
        events = await run.stream(f"Why? [[offline: tool name={tool}]]")
        assert tool_calls(events)[-1] == (tool, "done")
        assert shown in str(sent(run)[-1])


async def test_references_that_are_not_in_the_source_are_left_out(run: LiveService) -> None:
    real = '{"file":"app.py","line":2,"snippet":"return f\\"Hello, {name}!\\""}'
    wrong_line = '{"file":"app.py","line":1,"snippet":"return f\\"Hello, {name}!\\""}'
    invented = '{"file":"main.py","line":1,"snippet":"import os"}'
    text = (
        '{"intent":"question","response":{"answer":"It greets.","references":['
        f'{invented},{real},{wrong_line},{real}],"relatedTopics":["tests"]}}}}'
    )
    pieces = tuple(text[n : n + 5] for n in range(0, len(text), 5))
    run.model._script.append(Fault("raw", pieces=pieces))
    events = await run.stream("How does it greet?")
    final = law.lawful(events)
    expected = {"file": "app.py", "line": 2, "snippet": 'return f"Hello, {name}!"'}
    assert final["data"] == {
        "answer": "It greets.",
        "references": [expected, expected],
        "relatedTopics": ["tests"],
    }
    assert final["metadata"]["warnings"] == ["references_left_out"]
    assert "main.py" not in str(events)


async def test_a_plan_names_no_file_that_is_not_there(run: LiveService) -> None:
    change = '{"file":"gone.py","changeType":"modify","description":"d"}'
    issue = '"issue":{"description":"i","severity":"low","category":"c"}'
    solution = f'"solution":{{"approach":"a","changes":[{change}],"testingStrategy":"t"}}'
    text = f'{{"intent":"fix","response":{{{issue},"rootCause":"r",{solution}}}}}'
    run.model._script.append(Fault("raw", pieces=(text,)))
    final = law.lawful(await run.stream("The page is broken"))
    assert final["data"]["solution"]["changes"] == []
    assert final["metadata"]["warnings"] == ["references_left_out"]


async def test_the_model_is_told_what_is_deployed_and_what_the_user_looks_at(
    run: LiveService,
) -> None:
    body = {"userId": "u1", "projectId": "p1", "message": "A shop"}
    build_id = (await run.client.post("/v1/builds", json=body)).json()["buildId"]
    report = {"eventId": "e", "phase": "deploy", "type": "completed", "title": "t"}
    report |= {"at": "2026-01-01T00:00:00Z", "versionId": "v1"}
    await run.client.post(f"/v1/builds/{build_id}/events", json={"events": [report]})
    final = (await run.chat("Hello", versionId="v1", buildId=build_id)).json()
    context = final["metadata"]["projectContext"]
    assert (context["versionId"], context["buildId"]) == ("v1", build_id)
    sent = run.model.requests[0]
    facts = str(sent["system"])
    assert "Current version: v1, deployed " in facts
    assert f"Last build: {build_id}, succeeded, since " in facts
    question = sent["messages"][-1]["content"]
    assert question.startswith("The user looks at the version v1.\n\nThe user looks at the build")
    calls = run.model.calls
    assert problem(await run.chat("Hello", versionId="v9")) == (404, "version_not_found")
    assert problem(await run.chat("Hello", buildId="b9")) == (404, "build_not_found")
    await run.project("p2")
    elsewhere = await run.chat("Hello", projectId="p2", buildId=build_id)
    assert problem(elsewhere) == (404, "build_not_found"), "of another project"
    assert run.model.calls == calls


async def test_the_offline_model_follows_the_hint(run: LiveService) -> None:
    for mode in ("question", "feature", "fix", "analysis", "general"):
        assert (await run.chat("Plan a feature: dark mode", chatMode=mode)).json()["mode"] == mode


async def test_a_locale_without_texts_is_told(run: LiveService) -> None:
    final = (await run.chat("Hello", locale="xx")).json()
    assert final["metadata"]["warnings"] == ["locale_unsupported"]
    assert (await run.chat("Hello", locale="fr-CA")).json()["metadata"]["warnings"] == []
