"""A project's figures, compared with its messages and builds."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import pytest

from service.postgres import connections
from tests.running import LiveService, SharedService, Signed

PATH = "/v1/projects/p1/analytics"


@pytest.fixture
async def run(shared_service: SharedService) -> AsyncIterator[LiveService]:
    async with shared_service.tenant() as started:
        await started.project("p1", "u1", "u2")
        await started.credit()
        await started.credit("u2")
        yield started


async def figures(run: LiveService, **asked: str) -> dict[str, Any]:
    answer = await run.client.get(PATH, params={"userId": "u1"} | asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def build(run: LiveService, session_id: str | None, kind: str) -> None:
    """Build a session's plan or an idea, and end the build."""
    body = {"userId": "u1", "projectId": "p1"}
    if session_id is None:
        answer = await run.client.post("/v1/builds", json=body | {"message": "A shop"})
    else:
        path = "/v1/chat-plan/convert-to-build"
        answer = await run.client.post(path, json=body | {"sessionId": session_id})
    end = {"eventId": "e", "phase": "deploy", "type": kind, "title": "t", "versionId": "v1"}
    end |= {"at": "2026-01-01T00:00:00Z"}
    path = f"/v1/builds/{answer.json()['buildId']}/events"
    await run.client.post(path, json={"events": [end]})


async def test_an_empty_project_has_figures_too(run: LiveService) -> None:
    found = await figures(run)
    none = ("replies", "succeeded", "cutOff", "failed", "resets", "retries", "wrongLanguage")
    assert found["replies"] == dict.fromkeys(none, 0)
    assert found["byMode"] == found["byLanguage"] == {}
    assert set(found["tokens"].values()) == set(found["secondsByCredit"].values()) == {0}
    assert "conversionRate" not in found["sessions"]


async def test_replies_are_counted_by_result_and_by_mode(run: LiveService) -> None:
    finals = [
        (await run.chat(message)).json()
        for message in (
            "Why is the cart slow?",
            "How is it built?",
            "Fix the cart",
            "Review it [[offline: cut after=20]]",
            "Hello [[offline: refusal]]",
        )
    ]
    found = await figures(run)
    replies = found["replies"]
    assert {name: replies[name] for name in ("replies", "succeeded", "cutOff", "failed")} == {
        "replies": 5,
        "succeeded": 3,
        "cutOff": 1,
        "failed": 1,
    }
    assert replies["errorRate"] == 0.2
    assert set(found["byMode"]) == {"question", "fix", "analysis", "unknown"}
    assert found["byMode"]["unknown"]["errorRate"] == 1, "it was refused before it had a mode"
    asked = [final for final in finals if final["mode"] == "question"]
    times = [final["metadata"]["duration_ms"] for final in asked]
    question = found["byMode"]["question"]
    assert question["replies"] == 2
    assert abs(question["p50Ms"] - median(times)) <= 1
    assert min(times) <= question["p95Ms"] <= max(times)
    assert question["tokens"] == sum(final["metadata"]["tokens_used"] for final in asked)
    assert found["byMode"]["analysis"]["cutOff"] == 1
    assert found["seconds"] == sum(final["metadata"]["billed_seconds"] for final in finals)
    assert found["seconds"] == sum(each["seconds"] for each in found["byMode"].values())


async def test_token_counts_equal_the_ledger_and_include_the_cache(run: LiveService) -> None:
    for _ in range(3):
        await run.chat("Why is the cart slow?")
    ledger = (await run.client.get("/v1/billing/accounts/u1/consumption")).json()["items"]
    found = (await figures(run))["tokens"]
    names = {"input": "inputTokens", "output": "outputTokens", "cacheRead": "cacheReadTokens"}
    for ours, theirs in (names | {"cacheWrite": "cacheWriteTokens"}).items():
        assert found[ours] == sum(entry[theirs] for entry in ledger)
    sent = found["input"] + found["cacheRead"] + found["cacheWrite"]
    assert found["cacheHitRatio"] == round(found["cacheRead"] / sent, 4)
    assert found["cacheHitRatio"] > 0


async def test_conversions_and_their_builds_are_counted(run: LiveService) -> None:
    for kind in ("completed", "failed"):
        plan = (await run.chat("Add a login page")).json()
        await build(run, plan["sessionId"], kind)
    await run.chat("Hello there", userId="u2")
    await build(run, None, "completed")
    found = await figures(run)
    assert found["sessions"]["sessions"] == 3
    assert found["sessions"]["converted"] == 2
    assert found["sessions"]["conversionRate"] == 0.6667
    assert found["sessions"]["averageMessages"] == pytest.approx(5 / 3, abs=0.01)
    builds = found["builds"]
    assert (builds["builds"], builds["succeeded"], builds["failed"]) == (3, 2, 1)
    assert (builds["converted"], builds["convertedSuccessRate"]) == (2, 0.5)
    assert builds["successRate"] == 0.6667


async def test_the_figures_of_a_time_span_count_only_that_span(run: LiveService) -> None:
    await run.chat("Hello")
    now = datetime.now(UTC)
    tomorrow, yesterday = now + timedelta(days=1), now - timedelta(days=1)
    within = {"since": yesterday.isoformat(), "until": tomorrow.isoformat()}
    assert (await figures(run, **within))["replies"]["replies"] == 1
    assert (await figures(run, until=yesterday.isoformat()))["replies"]["replies"] == 0
    assert (await figures(run, since=tomorrow.isoformat()))["replies"]["replies"] == 0
    assert (await figures(run, until="0001-01-01T00:00:00Z"))["replies"]["replies"] == 0
    naive = await run.client.get(PATH, params={"userId": "u1", "since": "2026-01-01T00:00:00"})
    assert naive.status_code == 422


async def test_only_members_see_the_figures(run: LiveService) -> None:
    stranger = await run.client.get(PATH, params={"userId": "u3"})
    foreign = await run.client.get(PATH, params={"userId": "u1"}, auth=Signed("k2"))
    assert stranger.status_code == foreign.status_code == 404
    assert stranger.json() == foreign.json()


async def test_the_quality_of_replies_is_counted(run: LiveService) -> None:
    for message, asked in (
        ("راجع المشروع كله [[offline: wrong_language times=1]]", {"locale": "ar"}),
        ("Fix the cart [[offline: status code=529 times=1]]", {}),
        ("Fix it all [[offline: refusal]]", {"chatMode": "fix"}),
    ):
        await run.chat(message, **asked)
    found = await figures(run)
    replies = found["replies"]
    assert (replies["resets"], replies["retries"], replies["wrongLanguage"]) == (1, 1, 0)
    assert found["byLanguage"]["ar"] == {"replies": 1, "succeeded": 1, "successRate": 1.0}
    assert found["byLanguage"]["en"]["successRate"] == 0.5
    assert found["byMode"]["fix"]["failed"] == 1, "the hint, where the model decided nothing"
    assert found["sessions"]["continuity"] == pytest.approx(2 / 3, abs=0.001)
    tokens = found["tokens"]
    saved = 0.9 * tokens["cacheRead"] - 0.25 * tokens["cacheWrite"]
    assert tokens["cacheSavings"] == round(saved)


async def test_bonus_seconds_are_used_up_first(run: LiveService) -> None:
    body = {"userId": "u1", "seconds": 1, "kind": "bonus"}
    await run.client.post("/v1/billing/credits", json=body)
    for _ in range(2):
        await run.chat("Why is the cart slow?")
    found = await figures(run)
    split = found["secondsByCredit"]
    assert (split["bonus"], split["unknown"]) == (1, 0)
    assert split["paid"] == found["seconds"] - 1
    ledger = (await run.client.get("/v1/billing/accounts/u1/consumption")).json()["items"]
    assert [each["bonusSeconds"] for each in ledger] == [0, 1]


async def test_prompts_and_their_saved_runs_are_counted(run: LiveService, shared_url: str) -> None:
    acting = {"userId": "u1", "projectId": "p1"}

    async def posted(path: str, **body: Any) -> dict[str, Any]:
        answer = await run.client.post(path, json=body)
        assert answer.is_success, answer.text
        return dict(answer.json())

    made = await posted("/v1/prompts", **acting, name="Bees", text="Sell bees")
    idea = await posted("/v1/sessions", **acting, mode="idea")
    path = f"/v1/sessions/{idea['sessionId']}/messages"
    for text in ("Better", "Better still"):
        better = await posted(path, userId="u1", message=text)
    accepted = f"/v1/chat-plan/replies/{better['messageId']}/accept"
    await posted(accepted, userId="u1", promptId=made["promptId"])
    version = made["version"]["promptVersionId"]
    for user, messages in (("u1", 2), ("u1", 0), ("u2", 1)):
        who = {"userId": user, "projectId": "p1"}
        saved = await posted("/v1/sessions", **who, mode="prompt", promptVersionId=version)
        for _ in range(messages):
            path = f"/v1/sessions/{saved['sessionId']}/messages"
            await posted(path, userId=user, message="Go on")

    found = (await figures(run))["prompts"]
    assert (found["prompts"], found["versions"]) == (1, 2)
    assert (found["improvements"], found["accepted"], found["acceptanceRate"]) == (2, 1, 0.5)
    assert (found["savedRuns"], found["averageMessages"]) == (2, 1), "those of the user"
    assert (found["returnRate"], found["adoption"]) == (0, 0.5)
    async with await connections.connect(shared_url, as_service=False) as owner:
        await owner.execute(
            "update app.sessions set last_active_at = last_active_at + interval '1 hour' "
            "where tenant_id = %s and user_id = 'u2' and mode = 'prompt'",
            [run.tenant_id],
        )
    whole = (await run.client.get(PATH)).json()["prompts"]
    assert (whole["savedRuns"], whole["returnRate"], whole["adoption"]) == (3, 0.3333, 1)
