"""Runs through the API: asked for, claimed, reported, listed, watched, discussed, erased."""

import asyncio
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
from psycopg import sql as compose
from structlog.testing import capture_logs

from service import wire
from service.commands import runs
from service.jobs.expiry import time_out_silent_runs
from service.postgres import connections
from tests.running import LiveService, problem, running
from tests.service import watching
from tests.service.talking import begun

AT = "2026-11-22T10:00:00Z"
WORD = "zygomorph"


async def asked_for(run: LiveService, **members: Any) -> str:
    body = {"userId": "u1", "projectId": "p1", "title": "Compare"} | members
    answer = await run.client.post("/v1/runs", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["runId"])


def told(event_id: str, kind: str, **members: Any) -> dict[str, Any]:
    return {"eventId": event_id, "type": kind, "title": f"{kind} {event_id}", "at": AT} | members


STEP = told("1", "step", stepId="s1", prompt="Find {{thing}}", output=f"A {WORD}")
GOOD = told("2", "candidate", candidateId="good", scores={"found": 0.9, "speed": 1}, data={"n": 1})
BAD = told("3", "candidate", candidateId="bad", scores={"found": 0.1})
DONE = told("4", "succeeded", summary=f"The {WORD} wins", findings=["Slow"], seconds=3, tokens=9)


async def report(run: LiveService, run_id: str, *events: dict[str, Any]) -> httpx.Response:
    return await run.client.post(f"/v1/runs/{run_id}/events", json={"events": events})


async def ended(run: LiveService, **members: Any) -> str:
    """A run that has ended well."""
    run_id = await asked_for(run, **members)
    answer = await report(run, run_id, STEP, BAD, GOOD, DONE)
    assert answer.json() == {"accepted": 4, "status": "succeeded"}
    return run_id


async def read(run: LiveService, path: str, **query: Any) -> dict[str, Any]:
    answer = await run.client.get(path, params={"userId": "u1", **query})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def discuss(run: LiveService, run_id: str, **members: Any) -> httpx.Response:
    body = {"userId": "u1"} | members
    return await run.client.post(f"/v1/runs/{run_id}/discuss", json=body)


async def materials(run: LiveService, session_id: str) -> list[str]:
    """The texts that a session got beside its messages."""
    items = (await read(run, f"/v1/sessions/{session_id}/messages"))["messages"]
    return [each["aiResponse"]["text"] for each in items if each["kind"] == "material"]


async def test_an_engine_works_on_a_run_and_everyone_sees_how_far_it_is(run: LiveService) -> None:
    talk = await begun(run, "setup")
    made = {"userId": "u1", "projectId": "p1", "name": "Tea", "text": "Be {{tone}} to {{tone}} tea"}
    version = (await run.client.post("/v1/prompts", json=made)).json()["version"]
    answer = await run.client.post(
        "/v1/runs",
        json={
            "userId": "u1",
            "projectId": "p1",
            "sessionId": talk,
            "title": "Compare",
            "promptVersionId": version["promptVersionId"],
            "values": {"tone": "kind"},
            "settings": {"temperature": 0.2},
            "input": {"queries": ["tea"]},
        },
    )
    run_id = answer.json()["runId"]
    assert answer.json() == {"runId": run_id, "status": "queued", "sessionId": talk}
    assert answer.headers["Location"] == f"/v1/runs/{run_id}"
    (queued,) = (await run.client.get("/v1/runs")).json()["runs"]
    assert queued["runId"] == run_id
    assert (queued["values"], queued["settings"]) == ({"tone": "kind"}, {"temperature": 0.2})
    assert (queued["input"], queued["promptVersionId"]) == (
        {"queries": ["tea"]},
        version["promptVersionId"],
    )

    path = f"/v1/runs/{run_id}"
    for _ in range(2):
        claimed = await run.client.post(f"{path}/claim", json={"workerId": "w1"})
        assert (claimed.status_code, claimed.json()["status"]) == (200, "running")
        assert claimed.json()["prompt"] == "Be kind to kind tea"
    other = await run.client.post(f"{path}/claim", json={"workerId": "w2"})
    assert problem(other) == (409, "run_claimed")
    assert (await run.client.get("/v1/runs")).json()["runs"] == []
    mine = await run.client.get("/v1/runs", params={"status": "running", "workerId": "w1"})
    assert [each["runId"] for each in mine.json()["runs"]] == [run_id]

    more = told("9", "candidate", candidateId="bad", scores={"speed": 0.5})
    assert (await report(run, run_id, DONE, GOOD, BAD)).json()["accepted"] == 3
    late = await report(run, run_id, DONE, STEP, more, told("5", "failed", error="No"))
    assert late.json() == {"accepted": 3, "status": "succeeded"}
    whole = await read(run, path)
    assert (whole["status"], whole["summary"]) == ("succeeded", f"The {WORD} wins")
    assert (whole["findings"], whole["seconds"], whole["tokens"]) == (["Slow"], 3, 9)
    assert (whole["stepCount"], whole["candidateCount"]) == (1, 2)
    assert "error" not in whole
    assert whole["sessionId"] == talk
    (step,) = (await read(run, f"{path}/steps"))["steps"]
    assert (step["prompt"], step["output"]) == ("Find {{thing}}", f"A {WORD}")
    first = await read(run, f"{path}/candidates", limit=1)
    assert first["hasMore"]
    (rest,) = (await read(run, f"{path}/candidates", after=first["after"]))["candidates"]
    assert first["candidates"][0]["scores"] == {"found": 0.9, "speed": 1}
    assert (rest["candidateId"], rest["scores"]) == ("bad", {"found": 0.1, "speed": 0.5})
    taken = await run.client.post(f"{path}/claim", json={"workerId": "w1"})
    assert problem(taken) == (409, "run_ended")
    assert (await run.account())["consumedSeconds"] == 0, "a run bills nothing"


async def test_the_runs_of_a_project_are_listed_and_summed_up(run: LiveService) -> None:
    talk = await begun(run, "setup")
    one, two = await ended(run, sessionId=talk), await ended(run)
    await report(run, two, told("7", "candidate", candidateId="best", scores={"found": 2.5}))
    three = await asked_for(run, sessionId=talk)

    async def ids(**query: Any) -> list[str]:
        page = await read(run, "/v1/projects/p1/runs", **query)
        return [each["runId"] for each in page["runs"]]

    assert await ids() == [three, two, one]
    assert await ids(sessionId=talk) == [three, one]
    assert await ids(status="queued") == [three]
    page = await read(run, "/v1/projects/p1/runs", limit=2)
    assert page["hasMore"]
    assert await ids(before=page["before"]) == [one]
    summary = await read(run, "/v1/projects/p1/runs/summary")
    assert summary["counts"] == {
        "runs": 3,
        "queued": 1,
        "running": 0,
        "succeeded": 2,
        "failed": 0,
    }
    assert [each["runId"] for each in summary["newest"]] == [three, two, one]
    assert summary["bestScores"]["found"]["score"] == 2.5
    assert summary["bestScores"]["found"]["candidateId"] == "best"
    assert summary["bestScores"]["speed"]["score"] == 1
    of_talk = await read(run, "/v1/projects/p1/runs/summary", sessionId=talk)
    assert of_talk["counts"]["runs"] == 2
    assert of_talk["bestScores"]["found"]["score"] == 0.9
    figures = (await read(run, "/v1/projects/p1/analytics"))["runs"]
    assert (figures["runs"], figures["succeeded"], figures["open"]) == (3, 2, 1)
    assert figures["successRate"] == 1


async def test_a_page_of_large_steps_has_fewer_of_them(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await asked_for(run)
    steps = [told(f"{n}", "step", stepId=f"s{n}", output="é" * 300) for n in range(5)]
    await report(run, run_id, *steps)
    monkeypatch.setattr(wire, "PAGE_BYTES", 2_000)
    page = await read(run, f"/v1/runs/{run_id}/steps", limit=200)
    assert page["hasMore"]
    rest = await read(run, f"/v1/runs/{run_id}/steps", limit=200, after=page["after"])
    found = [each["stepId"] for each in (*page["steps"], *rest["steps"])]
    assert found == [f"s{n}" for n in range(len(found))]
    assert 2 < len(found) < 5


async def test_watchers_get_the_item_of_a_run_again_when_it_changes(run: LiveService) -> None:
    async with watching.opened(run, userId="u1") as stream:
        run_id = await asked_for(run)
        events = [await stream.next()]
        await run.client.post(f"/v1/runs/{run_id}/claim", json={"workerId": "w1"})
        events.append(await stream.next())
        await report(run, run_id, STEP, DONE)
        events.append(await stream.next())
        await run.client.delete(f"/v1/runs/{run_id}", params={"userId": "u1"})
        events.append(await stream.next())
    assert [name for name, _, _ in events] == ["item", "item", "item", "erased"]
    items = [data for _, data, _ in events[:3]]
    assert {each["id"] for each in items} == {run_id}
    assert {(each["kind"], each["type"], each["text"]) for each in items} == {
        ("run", "run", "Compare")
    }
    assert [each["status"] for each in items] == ["in_progress", "in_progress", "succeeded"]
    assert items[2]["run"]["status"] == "succeeded"
    assert events[3][1]["runId"] == run_id
    assert [each[2] for each in events[:3]] == [each[1]["prev"] for each in events[1:]]


async def test_a_page_of_the_timeline_shows_a_run_once_as_it_is_now(run: LiveService) -> None:
    run_id = await ended(run)
    (item,) = (await read(run, "/v1/project/p1/timeline"))["items"]
    assert (item["id"], item["kind"], item["status"]) == (run_id, "run", "succeeded")
    assert (item["mode"], item["userId"], item["text"]) == ("plan", "u1", "Compare")
    assert item["run"]["status"] == "succeeded"
    assert "sessionId" not in item


async def test_a_poll_waits_for_a_run_and_an_idle_poll_leaves_no_trace(run: LiveService) -> None:
    poll = asyncio.create_task(run.client.get("/v1/runs", params={"wait": 20}))
    while not run.service.run_polls._waiting[run.tenant_id]:  # noqa: ASYNC110 - no event says so
        await asyncio.sleep(0)
    run_id = await asked_for(run)
    busy = await poll
    assert [each["runId"] for each in busy.json()["runs"]] == [run_id]
    await run.client.post(f"/v1/runs/{run_id}/cancel", params={"userId": "u1"})
    with capture_logs() as lines:
        idle = await run.client.get("/v1/runs", params={"wait": 1})
    assert idle.json()["runs"] == []
    shown = [each for each in lines if each.get("operation") == "listOpenRuns"]
    assert [each["log_level"] for each in shown] == ["debug"]
    await run.credit()  # the entry of a write is stored after those of earlier reads
    audited = (await run.client.get("/v1/audit")).json()["items"]
    asked = [each["requestId"] for each in audited if each["operation"] == "listOpenRuns"]
    assert asked == [busy.headers["X-Request-Id"]]


async def test_a_member_cancels_a_run_and_its_engine_learns_of_it(run: LiveService) -> None:
    run_id = await asked_for(run)
    for _ in range(2):
        path = f"/v1/runs/{run_id}/cancel"
        cancelled = (await run.client.post(path, params={"userId": "u1"})).json()
        assert (cancelled["status"], cancelled["code"]) == ("failed", "cancelled")
    answer = await report(run, run_id, STEP)
    assert answer.json() == {"accepted": 1, "status": "failed", "code": "cancelled"}


async def test_a_run_that_is_silent_for_too_long_fails(run: LiveService, url: str) -> None:
    run_id, over = await asked_for(run), await ended(run)
    async with connections.pool(url) as pool:
        transactions = run.service.transactions
        assert await time_out_silent_runs(transactions, pool, 3_600) == 0
        work = partial(runs.time_out, tenant_id="t1", run_id=run_id, silent_seconds=3_600)
        _, appended = await transactions.transact("t1", work)
        assert appended is None, "an engine reported after the search for silent runs"
        assert await time_out_silent_runs(transactions, pool, 0) == 1
        assert await time_out_silent_runs(transactions, pool, 0) == 0
    failed = await read(run, f"/v1/runs/{run_id}")
    assert (failed["status"], failed["code"]) == ("failed", "timed_out")
    assert (await read(run, f"/v1/runs/{over}"))["status"] == "succeeded"


async def test_a_run_comes_from_a_session_that_all_members_see(run: LiveService) -> None:
    await run.project("p2", "u1", "u2")
    own, public = await begun(run, "prompt", project_id="p2"), await begun(run, "setup")
    body = {"userId": "u1", "projectId": "p2", "title": "Compare"}
    for user, session, refusal in (
        ("u1", own, (422, "session_private")),
        ("u2", own, (404, "session_not_found")),
        ("u1", public, (404, "session_not_found")),
        ("u1", "none", (404, "session_not_found")),
        ("u9", None, (404, "project_not_found")),
    ):
        asked = body | {"userId": user} | ({} if session is None else {"sessionId": session})
        assert problem(await run.client.post("/v1/runs", json=asked)) == refusal, asked
    assert (await run.client.get("/v1/runs")).json()["runs"] == []


async def test_a_run_uses_a_prompt_of_its_project_with_all_values(run: LiveService) -> None:
    await run.project("p2")
    made = {"userId": "u1", "projectId": "p1", "name": "Tea", "text": "Sell {{what}}"}
    prompt = (await run.client.post("/v1/prompts", json=made)).json()
    version = prompt["version"]["promptVersionId"]
    for project_id, values, refusal in (
        ("p1", {}, (422, "values_missing")),
        ("p1", {"what": "tea", "why": "?"}, (422, "values_unknown")),
        ("p2", {"what": "tea"}, (404, "prompt_version_not_found")),
    ):
        body = {"userId": "u1", "projectId": project_id, "title": "Compare", "values": values}
        refused = await run.client.post("/v1/runs", json=body | {"promptVersionId": version})
        assert problem(refused) == refusal
    run_id = await asked_for(run, promptVersionId=version, values={"what": "tea"})
    assert (await read(run, f"/v1/runs/{run_id}"))["prompt"] == "Sell tea"
    await run.client.delete(f"/v1/prompts/{prompt['promptId']}", params={"userId": "u1"})
    assert "prompt" not in await read(run, f"/v1/runs/{run_id}"), "erased where it stood"


async def test_a_viewer_and_a_stranger_do_not_act(run: LiveService) -> None:
    run_id = await ended(run)
    await run.client.put("/v1/projects/p1/members/u2", json={"role": "viewer"})
    assert (await read(run, f"/v1/runs/{run_id}", userId="u2"))["runId"] == run_id
    body = {"userId": "u2", "projectId": "p1", "title": "Compare"}
    refused = (403, "viewer_only")
    assert problem(await run.client.post("/v1/runs", json=body)) == refused
    assert problem(await discuss(run, run_id, userId="u2")) == refused
    cancelled = await run.client.post(f"/v1/runs/{run_id}/cancel", params={"userId": "u2"})
    assert problem(cancelled) == refused
    for call in (run.client.get, run.client.delete):
        stranger = await call(f"/v1/runs/{run_id}", params={"userId": "u9"})
        assert problem(stranger) == (404, "project_not_found")
    other = await run.client.delete(f"/v1/runs/{run_id}", params={"userId": "u2"})
    assert problem(other) == (404, "run_not_found"), "a run is erased by its user"


BAD_REPORTS = (
    told("1", "step"),
    told("1", "candidate"),
    told("1", "progress", output="x"),
    told("1", "succeeded", error="x"),
    told("1", "candidate", candidateId="c", scores={"x": 1e300}),
    told("1", "candidate", candidateId="c", scores={"x": True}),
    told("1", "candidate", candidateId="c", data={"x": "\x00"}),
    told("1", "candidate", candidateId="c", data={"\x00": 1}),
    told("1", "candidate", candidateId="c", data={"x": [1e300]}),
    told("1", "candidate", candidateId="c", data={"x": orjson.loads("[" * 40 + "]" * 40)}),
    told("1", "step", stepId="s", output="x" * 50_001),
    told("1", "succeeded", findings=["x"] * 51),
)


async def test_a_report_that_cannot_be_kept_is_refused(run: LiveService) -> None:
    for event in BAD_REPORTS:
        assert problem(await report(run, "any", event)) == (422, "invalid_request"), event


# Discussion --------------------------------------------------------------------------------------


async def test_a_run_is_discussed_in_one_session_that_is_told_its_results_once(
    run: LiveService,
) -> None:
    run_id = await ended(run)
    first = await discuss(run, run_id)
    session_id = first.json()["sessionId"]
    assert (first.status_code, first.headers["Location"]) == (201, f"/v1/sessions/{session_id}")
    again = await asyncio.gather(*(discuss(run, run_id) for _ in range(3)))
    assert {(each.status_code, each.json()["sessionId"]) for each in again} == {(200, session_id)}
    session = await read(run, f"/v1/sessions/{session_id}")
    assert (session["mode"], session["name"]) == ("analysis", f"Analysis: Run {run_id[:8]}")
    assert session["context"] == {"runId": run_id}
    (text,) = await materials(run, session_id)
    assert f"Summary: The {WORD} wins" in text
    assert text.index("candidate 2 (good)") < text.index("candidate 3 (bad)"), "the best first"
    await run.client.post(
        f"/v1/sessions/{session_id}/messages", json={"userId": "u1", "message": "Why?"}
    )
    asked = run.model.requests[-1]
    assert f"The {WORD} wins" in str(asked["messages"]), "the model is told"


async def test_a_run_is_discussed_in_a_named_session_and_about_a_candidate(
    run: LiveService,
) -> None:
    run_id = await ended(run)
    about = await discuss(run, run_id, candidateId="bad", name="Why so bad?")
    session = await read(run, f"/v1/sessions/{about.json()['sessionId']}")
    assert session["name"] == "Why so bad?"
    assert session["context"] == {"runId": run_id, "candidateId": "bad"}
    (text,) = await materials(run, session["sessionId"])
    assert text.index("candidate 3 (bad)") < text.index("candidate 2 (good)")

    talk = await begun(run, "setup")
    for _ in range(2):
        answer = await discuss(run, run_id, sessionId=talk)
        assert (answer.status_code, answer.json()) == (200, {"sessionId": talk})
    assert len(await materials(run, talk)) == 1
    await run.client.put("/v1/projects/p1/members/u2", json={"role": "editor"})
    others = await discuss(run, run_id, userId="u2", sessionId=talk)
    assert problem(others) == (404, "session_not_found")
    in_french = await run.client.post(
        f"/v1/runs/{run_id}/discuss", json={"userId": "u2"}, headers={"Accept-Language": "fr"}
    )
    assert in_french.status_code == 201, "each user has a session of their own"
    session = await read(run, f"/v1/sessions/{in_french.json()['sessionId']}")
    assert session["name"] == f"Analyse : exécution {run_id[:8]}"


async def test_what_cannot_be_discussed_is_refused(run: LiveService) -> None:
    queued = await asked_for(run)
    assert problem(await discuss(run, queued)) == (409, "run_not_ended")
    run_id = await ended(run)
    unknown = await discuss(run, run_id, candidateId="none")
    assert problem(unknown) == (404, "candidate_not_found")
    assert problem(await discuss(run, "none")) == (404, "run_not_found")
    archived = await begun(run, "setup")
    await run.client.patch(f"/v1/sessions/{archived}", json={"userId": "u1", "archived": True})
    assert problem(await discuss(run, run_id, sessionId=archived)) == (409, "session_ended")


async def test_a_session_about_a_step_is_told_its_prompt_and_output(run: LiveService) -> None:
    run_id = await ended(run)
    body: dict[str, Any] = {"userId": "u1", "projectId": "p1", "mode": "run_feedback"}
    body |= {"reuse": True, "context": {"runId": run_id, "stepId": "s1"}}
    opened = [await run.client.post("/v1/sessions", json=body) for _ in range(2)]
    assert [each.status_code for each in opened] == [201, 200]
    (text,) = await materials(run, opened[0].json()["sessionId"])
    assert text == f"Step: step 1\n\nPrompt:\nFind {{{{thing}}}}\n\nOutput:\nA {WORD}"


async def test_a_session_is_about_a_run_of_its_project(run: LiveService) -> None:
    run_id = await ended(run)
    await run.project("p2")
    for project_id, context, refusal in (
        ("p1", {"runId": "none"}, (404, "run_not_found")),
        ("p1", {"runId": run_id, "stepId": "none"}, (404, "step_not_found")),
        ("p1", {"runId": run_id, "candidateId": "none"}, (404, "candidate_not_found")),
        ("p2", {"runId": run_id}, (404, "run_not_found")),
        ("p1", {"stepId": "s1"}, (422, "invalid_request")),
    ):
        body: dict[str, Any] = {"userId": "u1", "projectId": project_id, "mode": "analysis"}
        refused = await run.client.post("/v1/sessions", json=body | {"context": context})
        assert problem(refused) == refusal, context


# Erasure -----------------------------------------------------------------------------------------


async def found_in(url: str, word: str) -> set[str]:
    """The tables of the database that have the word in any column."""
    found: set[str] = set()
    async with await connections.connect(url, as_service=False) as owner:
        rows = await owner.execute(
            "select relname from pg_class join pg_namespace on relnamespace = pg_namespace.oid "
            "where nspname = 'app' and relkind in ('r', 'p')"
        )
        for (table,) in await rows.fetchall():
            query = compose.SQL(
                "select count(*) from {} as r where r::text like %(hex)s or r::text like %(word)s"
            ).format(compose.Identifier("app", table))
            asked = {"hex": f"%{word.encode().hex()}%", "word": f"%{word}%"}
            row = await (await owner.execute(query, asked)).fetchone()
            found |= {table} if row is not None and row[0] else set()
    return found


async def test_of_an_erased_run_no_text_is_left_anywhere(run: LiveService, url: str) -> None:
    run_id = await ended(
        run,
        title=f"{WORD} title",
        values={"a": WORD},
        settings={"b": WORD},
        input={"c": [WORD]},
    )
    session_id = (await discuss(run, run_id)).json()["sessionId"]
    body: dict[str, Any] = {"userId": "u1", "projectId": "p1", "mode": "run_feedback"}
    body |= {"context": {"runId": run_id, "stepId": "s1"}}
    await run.client.post("/v1/sessions", json=body)
    path = f"/v1/sessions/{session_id}/messages"
    await run.client.post(path, json={"userId": "u1", "message": "I keep this", "reply": False})
    assert await found_in(url, WORD) >= {"event", "runs", "run_steps", "timeline"}, "the control"
    async with watching.opened(run, f"/v1/sessions/{session_id}/stream", userId="u1") as stream:
        key = {"Idempotency-Key": "erase"}
        for _ in range(2):
            erased = await run.client.delete(
                f"/v1/runs/{run_id}", params={"userId": "u1"}, headers=key
            )
            assert (erased.status_code, erased.json()) == (200, {"runId": run_id})
        name, data, _ = await stream.next()
        assert (name, list(data)) == ("erased", ["messageId", "prev"])
        await run.client.post(path, json={"userId": "u1", "message": "And this", "reply": False})
        assert (await stream.next())[1]["userMessage"]["text"] == "And this", "the stream goes on"
    assert await found_in(url, WORD) == set()
    assert await materials(run, session_id) == []
    items = (await read(run, path))["messages"]
    assert [each["userMessage"]["text"] for each in items] == ["I keep this", "And this"]
    assert problem(await run.client.get(f"/v1/runs/{run_id}")) == (404, "run_not_found")
    assert problem(await report(run, run_id, STEP)) == (404, "run_not_found")
    gone = await run.client.delete(f"/v1/runs/{run_id}", params={"userId": "u1"})
    assert problem(gone) == (404, "run_not_found")


async def test_a_project_is_erased_with_its_runs(run: LiveService, url: str) -> None:
    await ended(run, title=f"{WORD} title")
    await asked_for(run, title=f"{WORD} again")
    assert (await run.client.delete("/v1/projects/p1")).status_code < 300
    assert await found_in(url, WORD) == set()


async def test_two_servers_know_the_same_runs(url: str) -> None:
    async with running(url) as one, running(url) as two:
        await one.project()
        poll = asyncio.create_task(two.client.get("/v1/runs", params={"wait": 20}))
        while not two.service.run_polls._waiting["t1"]:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0)
        run_id = await asked_for(one)
        assert [each["runId"] for each in (await poll).json()["runs"]] == [run_id]
        path = f"/v1/runs/{run_id}/claim"
        answers = await asyncio.gather(
            *(
                live.client.post(path, json={"workerId": name})
                for live, name in ((one, "w1"), (two, "w2"))
            )
        )
        assert sorted(each.status_code for each in answers) == [200, 409]
