"""Time travel over HTTP: with `asOf` each read answers what it answered then, byte for byte."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import pytest

from service.app import OPERATIONS
from tests.running import LiveService, Signed, problem, running
from tests.service.talking import begun, say
from tests.service.watching import cursor_at, head_cursor

READS: Final = {
    "getTimeline": ("/v1/project/{projectId}/timeline", {"includeHidden": "true"}),
    "readSession": ("/v1/sessions/{sessionId}", {}),
    "getSession": ("/v1/chat-plan/session/{sessionId}", {}),
    "getSessionMessages": ("/v1/sessions/{sessionId}/messages", {}),
    "listSessions": ("/v1/projects/{projectId}/sessions", {"status": "all", "sort": "name"}),
    "listUserSessions": ("/v1/sessions", {}),
    "getAccount": ("/v1/billing/accounts/{userId}", {}),
    "getConsumption": ("/v1/billing/accounts/{userId}/consumption", {}),
    "listBuilds": ("/v1/builds", {"projectId": "{projectId}"}),
    "getBuild": ("/v1/builds/{buildId}", {}),
    "getBuildEvents": ("/v1/builds/{buildId}/events", {"includeHidden": "true"}),
    "listVersions": ("/v1/projects/{projectId}/versions", {}),
    "listProjects": ("/v1/projects", {}),
    "getProject": ("/v1/projects/{projectId}", {}),
    "listMembers": ("/v1/projects/{projectId}/members", {}),
    "listPrompts": ("/v1/projects/{projectId}/prompts", {}),
    "readPrompt": ("/v1/prompts/{promptId}", {}),
    "listPromptVersions": ("/v1/prompts/{promptId}/versions", {}),
    "listRuns": ("/v1/projects/{projectId}/runs", {}),
    "summariseRuns": ("/v1/projects/{projectId}/runs/summary", {}),
    "getRun": ("/v1/runs/{runId}", {}),
    "listRunSteps": ("/v1/runs/{runId}/steps", {}),
    "listRunCandidates": ("/v1/runs/{runId}/candidates", {}),
}
"""The reads that take `asOf`: the path and the query of each."""

AT: Final = "2026-11-20T10:00:00Z"
ACTING: Final = {"userId": "u1", "projectId": "p1"}
OF_THE_TENANT: Final = {"getAccount", "getConsumption"}
Ids = dict[str, str]


async def read(
    client: httpx.AsyncClient, name: str, ids: Ids, user_id: str | None = "u1", **asked: str
) -> httpx.Response:
    where, query = READS[name]
    params = {key: value.format(**ids) for key, value in query.items()} | asked
    if user_id is not None and name not in OF_THE_TENANT:
        params["userId"] = user_id
    return await client.get(where.format(**ids), params=params)


async def done(run: LiveService, method: str, path: str, **body: Any) -> dict[str, Any]:
    answer = await run.client.request(method, path, json=body)
    assert answer.status_code < 300, answer.text
    return dict(answer.json())


def told(*events: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"eventId": str(n), "title": "t", "at": AT} | each for n, each in enumerate(events)]


def life(run: LiveService, ids: Ids) -> list[Callable[[], Awaitable[Any]]]:
    """What happens in a project, step by step. Each step notes the ids that it makes."""

    async def ask() -> None:
        answer = (await run.chat("Add a login page")).json()
        ids["sessionId"] = answer["sessionId"]

    async def change() -> None:
        body = {"userId": "u1", "name": "Login", "tags": ["a"], "starred": True}
        await done(run, "PATCH", f"/v1/sessions/{ids['sessionId']}", **body)

    async def create_prompt() -> None:
        body = ACTING | {"name": "Sell", "text": "Sell {{what}}"}
        ids["promptId"] = (await done(run, "POST", "/v1/prompts", **body))["promptId"]

    async def build() -> None:
        body = ACTING | {"sessionId": ids["sessionId"]}
        built = await done(run, "POST", "/v1/chat-plan/convert-to-build", **body)
        ids["buildId"] = built["buildId"]

    async def deploy() -> None:
        path = f"/v1/builds/{ids['buildId']}"
        await done(run, "POST", f"{path}/claim", workerId="w1")
        progress = {"phase": "development", "type": "progress"}
        end = {"phase": "deploy", "type": "completed", "versionId": "v1", "seconds": 5}
        await done(run, "POST", f"{path}/events", events=told(progress, end))

    async def save_run() -> None:
        version = f"{ids['promptId']}.1"
        body = ACTING | {"mode": "prompt", "promptVersionId": version, "values": {"what": "tea"}}
        session_id = (await done(run, "POST", "/v1/sessions", **body))["sessionId"]
        await say(run, session_id, "Go")

    async def revise_prompt() -> None:
        path = f"/v1/prompts/{ids['promptId']}/versions"
        await done(run, "POST", path, userId="u1", text="Sell {{what}} now")

    async def begin_run() -> None:
        answer = await done(run, "POST", "/v1/runs", **ACTING, title="Compare")
        ids["runId"] = answer["runId"]
        step = {"type": "step", "stepId": "s1", "output": "o"}
        await done(run, "POST", f"/v1/runs/{ids['runId']}/events", events=told(step))

    async def end_run() -> None:
        path = f"/v1/runs/{ids['runId']}/events"
        candidate = {"eventId": "c", "type": "candidate", "candidateId": "c", "scores": {"x": 1}}
        ended = {"eventId": "e", "type": "succeeded", "summary": "Good"}
        await done(run, "POST", path, events=told(candidate, ended))

    async def describe() -> None:
        await done(run, "PATCH", "/v1/projects/p1", name="Another name")
        await done(run, "DELETE", "/v1/projects/p1/members/u2")
        await say(run, ids["sessionId"], "And a logout?")

    return [
        ask, change, create_prompt, build, deploy, save_run, revise_prompt, begin_run, end_run,
        describe,
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lived:
    """A project with a life. `recorded` has the answers of all reads after each step, by cursor."""

    run: LiveService
    ids: Ids
    recorded: dict[str, dict[str, bytes]]

    @property
    def end(self) -> str:
        """The cursor of the last step."""
        return list(self.recorded)[-1]


@pytest.fixture(scope="module")
async def lived(shared: LiveService) -> Lived:
    run, ids = shared, {"projectId": "p1", "userId": "u1"}
    await run.client.put("/v1/projects/p1/members/u2", json={"role": "editor"})
    recorded: dict[str, dict[str, bytes]] = {}
    for step in life(run, ids):
        await step()
        at = await head_cursor(run)
        recorded[at] = {}
        for name in READS:
            try:
                answer = await read(run.client, name, ids)
            except KeyError:
                continue  # what the read names is not there yet
            assert answer.status_code == 200, answer.text
            recorded[at][name] = answer.content
        assert at == await head_cursor(run), "nothing happened meanwhile"
    await run.chat("Add a search")
    return Lived(run, ids, recorded)


async def test_each_read_answers_what_it_answered_at_that_moment(lived: Lived) -> None:
    for at, answers in lived.recorded.items():
        for name in READS:
            then = await read(lived.run.client, name, lived.ids, asOf=at)
            if name in answers:
                assert then.content == answers[name], (name, at)
                assert then.headers["X-Log-Position"] == at.partition(".")[0]
            else:
                assert then.status_code == 404, (name, at)
    different = {tuple(answers.values()) for answers in lived.recorded.values()}
    assert len(different) == len(lived.recorded), "the control"


def test_these_are_all_reads_with_as_of() -> None:
    fields = {each.name: getattr(each.query, "model_fields", {}) for each in OPERATIONS}
    assert {name for name, each in fields.items() if "as_of" in each} == READS.keys()


async def test_the_past_of_one_tenant_is_unknown_to_another(lived: Lived) -> None:
    url = lived.run.client.base_url
    async with httpx.AsyncClient(base_url=url, auth=Signed("k2")) as foreign:
        for name in READS:
            for user_id in ("u1", None):
                now = await read(foreign, name, lived.ids, user_id)
                then = await read(foreign, name, lived.ids, user_id, asOf=lived.end)
                assert (then.status_code, then.json()) == (now.status_code, now.json()), name


async def test_a_removed_member_sees_nothing_of_the_time_as_a_member(lived: Lived) -> None:
    for name in READS.keys() - OF_THE_TENANT:
        now = await read(lived.run.client, name, lived.ids, "u2")
        for at in lived.recorded:
            then = await read(lived.run.client, name, lived.ids, "u2", asOf=at)
            assert (then.status_code, then.json()) == (now.status_code, now.json()), name


async def test_a_private_session_stays_private_in_the_past(shared: LiveService) -> None:
    await shared.project("private", "u1", "u2")
    talk = await begun(shared, "prompt", project_id="private", instructions="Speak of it.")
    await say(shared, talk, "A zygomorph is a flower", reply=False)
    at = await head_cursor(shared)
    await say(shared, talk, "A quillwort is none", reply=False)
    ids = {"projectId": "private", "userId": "u1", "sessionId": talk}
    for name in ("readSession", "getSession", "getSessionMessages"):
        own = await read(shared.client, name, ids, asOf=at)
        assert ("zygomorph" in own.text, "quillwort" in own.text) == (True, False)
        refused = problem(await read(shared.client, name, ids, "u2", asOf=at))
        assert refused == (404, "session_not_found")
    for name in ("getTimeline", "listSessions"):
        assert talk not in (await read(shared.client, name, ids, "u2", asOf=at)).text
    assert talk in (await read(shared.client, "listSessions", ids, asOf=at)).text


async def test_what_was_erased_since_is_not_in_the_past(shared: LiveService) -> None:
    await shared.project("erased", "u1")
    talk, other = [await begun(shared, "setup", project_id="erased") for _ in range(2)]
    await say(shared, talk, "The hyacinth grows", reply=False)
    await say(shared, other, "The quillwort stays", reply=False)
    at = await head_cursor(shared)
    ids = {"projectId": "erased", "userId": "u1", "sessionId": talk}
    before = await read(shared.client, "getTimeline", ids, asOf=at)
    assert "hyacinth" in before.text
    erased = await shared.client.delete(f"/v1/sessions/{talk}", params={"userId": "u1"})
    assert erased.status_code == 200, erased.text
    for name in ("readSession", "getSessionMessages"):
        refused = problem(await read(shared.client, name, ids, asOf=at))
        assert refused == (404, "session_not_found")
    for name in ("getTimeline", "listSessions", "listUserSessions"):
        after = (await read(shared.client, name, ids, asOf=at)).text
        assert ("hyacinth" in after, talk in after, other in after) == (False, False, True)
    items = (await read(shared.client, "getTimeline", ids, asOf=at)).json()["items"]
    assert items == [each for each in before.json()["items"] if each.get("sessionId") != talk]


async def test_a_time_is_the_position_of_the_last_event_until_then(shared: LiveService) -> None:
    await say(shared, await begun(shared, "setup"), "The quillwort grows", reply=False)
    ids = {"projectId": "p1", "userId": "u1"}
    events = [event async for page in shared.service.store.replay() for event in page]
    for time in sorted({event.recorded_at for event in events})[-4:]:
        for asked in (time, time - timedelta(microseconds=1)):
            position = max((e.position for e in events if e.recorded_at <= asked), default=0)
            answer = await read(shared.client, "getAccount", ids, asOf=asked.isoformat())
            assert answer.headers["X-Log-Position"] == str(position)
            for at in (await cursor_at(shared, position), str(position)):
                same = await read(shared.client, "getAccount", ids, asOf=at)
                assert answer.content == same.content
    long_ago = "2020-01-01T00:00:00Z"
    unknown = problem(await read(shared.client, "getTimeline", ids, asOf=long_ago))
    assert unknown == (404, "project_not_found")
    empty = await read(shared.client, "getAccount", ids, asOf=long_ago)
    assert (empty.status_code, empty.json()["creditedSeconds"]) == (200, 0)


async def test_a_moment_that_is_none_is_refused(shared: LiveService) -> None:
    head = await shared.service.store.head()
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    refusals = {
        f"{head + 1_000_000}": (422, "moment_unknown"),
        f"{head + 1_000_000}.0123abcd": (409, "cursor_of_another_log"),
        "1.0123abcd": (409, "cursor_of_another_log"),
        tomorrow: (422, "moment_unknown"),
        "yesterday": (422, "moment_unknown"),
        "2026-01-01T00:00:00": (422, "moment_unknown"),
        "0000-99-99": (422, "moment_unknown"),
        f"{'9' * 30}.0123abcd": (422, "bad_cursor"),
        "0123abcd.1": (409, "cursor_of_another_log"),
        "x" * 65: (422, "invalid_request"),
    }
    for as_of, refusal in refusals.items():
        answer = await read(shared.client, "getProject", {"projectId": "p1"}, asOf=as_of)
        assert problem(answer) == refusal, as_of
    assert problem(await shared.client.get("/v1/builds", params={"asOf": "1"})) == (
        422,
        "invalid_request",
    )


async def test_too_large_a_past_is_refused_and_says_the_bound(url: str) -> None:
    async with running(url, past_events=5) as run:
        await run.project("p1", "u1")
        await run.credit()
        first = await head_cursor(run)
        await run.chat("Add a login page")
        ids = {"projectId": "p1", "userId": "u1"}
        assert (await read(run.client, "getTimeline", ids, asOf=first)).status_code == 200
        for name in ("getTimeline", "listProjects", "listUserSessions"):
            answer = await read(run.client, name, ids, asOf=await head_cursor(run))
            assert problem(answer) == (422, "past_too_large")
            assert "more than 5 events" in answer.json()["detail"]
