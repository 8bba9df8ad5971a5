"""From plan to build through the API: conversion, claims, reports, the lock, and the views."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from projections.read import Read
from service.commands import polls
from service.commands.builds import Builds, Order, Ordered
from service.eventlog.store import EventStore, Recorded
from service.eventlog.transactions import BY_ITSELF, Transactions
from service.jobs.expiry import expire_idle, time_out_silent
from service.postgres import connections
from service.postgres.connections import Pool
from service.wire import BEGINNING
from tests.running import LiveService, Signed, problem, running
from tests.service import law, watching

AT = "2026-01-01T00:00:00Z"


async def planned(run: LiveService, message: str = "Add a login page") -> dict[str, Any]:
    """Ask for a plan; returns the final envelope."""
    answer = await run.chat(message)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def convert(
    run: LiveService,
    plan: dict[str, Any],
    headers: Any = None,
    **members: Any,
) -> httpx.Response:
    body = {"userId": "u1", "projectId": "p1", "sessionId": plan["sessionId"]}
    body |= {"planData": plan["data"]} | members
    return await run.client.post("/v1/chat-plan/convert-to-build", json=body, headers=headers)


async def begin(run: LiveService, message: str = "A shop for tea. With a blog.") -> str:
    body = {"userId": "u1", "projectId": "p1", "message": message}
    answer = await run.client.post("/v1/builds", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["buildId"])


def a_report(event_id: str, phase: str, kind: str, **members: Any) -> dict[str, Any]:
    said = {"eventId": event_id, "phase": phase, "type": kind, "title": f"{phase} {kind}"}
    return said | {"at": AT} | members


async def report(run: LiveService, build_id: str, *events: dict[str, Any]) -> httpx.Response:
    return await run.client.post(f"/v1/builds/{build_id}/events", json={"events": events})


async def items(run: LiveService, **asked: Any) -> list[dict[str, Any]]:
    answer = await run.client.get("/v1/project/p1/timeline", params={"userId": "u1", **asked})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def page(run: LiveService) -> dict[str, Any]:
    answer = await run.client.get("/v1/project/p1/timeline", params={"userId": "u1"})
    return dict(answer.json())


async def next_lock(stream: watching.Stream) -> str | None:
    """The next value of the lock in the stream."""
    while (event := await stream.next())[0] != "lock":
        pass
    active: str | None = event[1]["activeBuildId"]
    return active


DEPLOYED = a_report(
    "end", "deploy", "completed", versionId="v7", previewUrl="https://v7.example/preview"
)
DEVELOPING = a_report("dev", "development", "progress")
FAILED = a_report("end", "build", "failed", error="No space left")


# conversion --------------------------------------------------------------------------------------


async def test_a_plan_becomes_a_build_in_one_append(run: LiveService, url: str) -> None:
    plan = await planned(run)
    answer = await convert(run, plan)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    build_id = answer.json()["buildId"]
    assert answer.headers["Location"] == f"/v1/builds/{build_id}"

    log = [each async for some in run.service.store.replay() for each in some]
    assert log[-1].position == int(answer.headers["X-Log-Position"]), "the append's last event"
    appended = log[-6:]
    assert sorted(each.type for each in appended) == [
        "BuildQueued",
        "ProjectLocked",
        "SessionConverted",
        "SystemMessagePosted",
        "TimeReserved",
        "UserMessagePosted",
    ]
    assert len({each.recorded_at for each in appended}) == 1

    converted, newest = (await items(run))[:2]
    assert converted["aiResponse"]["data"]["template"] == "session_converted"
    assert (converted["mode"], converted["build"]["buildId"]) == ("plan", build_id)
    assert (newest["type"], newest["mode"], newest["status"]) == (
        "build_request",
        "build",
        "in_progress",
    )
    assert newest["conversion"]["fromSessionId"] == plan["sessionId"]
    assert newest["userMessage"]["text"] == plan["data"]["buildPrompt"]
    assert newest["build"] == {"buildId": build_id, "userId": "u1", "status": "queued"}
    session = await run.client.get(
        f"/v1/chat-plan/session/{plan['sessionId']}", params={"userId": "u1"}
    )
    assert (session.json()["status"], session.json()["buildId"]) == ("converted", build_id)


async def test_the_same_plan_again_is_the_same_build(run: LiveService) -> None:
    plan = await planned(run)
    answers = await asyncio.gather(*(convert(run, plan) for _ in range(10)))
    assert [answer.status_code for answer in answers] == [202] * 10
    (build_id,) = {answer.json()["buildId"] for answer in answers}
    await report(run, build_id, DEPLOYED)
    again = await convert(run, plan)
    assert again.json() == {"buildId": build_id, "status": "succeeded"}
    without = await convert(run, plan, planData=None)
    assert without.json()["buildId"] == build_id, "the session's last plan is this plan"
    keyed = await convert(run, plan, headers={"Idempotency-Key": "another"})
    assert keyed.json() == {"buildId": build_id, "status": "succeeded"}, "its present status"
    other = plan["data"] | {"summary": "Another one"}
    assert problem(await convert(run, plan, planData=other)) == (409, "session_ended")


class SlowStore(EventStore):
    """A store whose next read of streams goes on only after `go_on`."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.has_read, self.go_on = asyncio.Event(), asyncio.Event()

    async def streams(
        self,
        tenant_id: str,
        after: Mapping[str, int],
        beside: Sequence[Read[Any]] = (),
        *,
        forms: Mapping[str, str | None] | None = None,
    ) -> dict[str, list[Recorded]]:
        found = await super().streams(tenant_id, after, beside, forms=forms)
        self.has_read.set()
        await self.go_on.wait()
        return found


async def test_a_plan_that_another_server_converts_meanwhile_is_the_same_build(
    run: LiveService,
) -> None:
    plan = await planned(run)
    store = SlowStore(run.service.pool)
    slow = Builds(Transactions(store, run.service.transactions._writer))
    order = Order(tenant_id=run.tenant_id, project_id="p1", user_id="u1", locale="en")
    converting = asyncio.create_task(
        slow.convert(order, session_id=plan["sessionId"], plan=plan["data"], cause=BY_ITSELF)
    )
    await store.has_read.wait()
    converted = await convert(run, plan)
    store.go_on.set()
    build_id = converted.json()["buildId"]
    assert await converting == Ordered(build_id, position=None, is_new=False)


async def test_the_plan_of_a_failed_build_is_built_again_as_a_new_build(run: LiveService) -> None:
    plan = await planned(run)
    first = (await convert(run, plan, {"Idempotency-Key": "first"})).json()["buildId"]
    assert not convertible(await items(run))
    await report(run, first, FAILED)
    assert convertible(await items(run))
    again = await convert(run, plan, {"Idempotency-Key": "first"})
    assert again.json() == {"buildId": first, "status": "failed"}, "the same request"
    second = await convert(run, plan)
    assert (second.status_code, second.json()["status"]) == (202, "queued")
    assert second.json()["buildId"] != first
    same = await convert(run, plan)
    assert same.json() == second.json(), "while it waits, the same plan is the same build"
    await report(run, second.json()["buildId"], DEPLOYED)
    assert not convertible(await items(run))
    session = await run.client.get(f"/v1/chat-plan/session/{plan['sessionId']}?userId=u1")
    assert session.json()["buildId"] == second.json()["buildId"]


def convertible(shown: list[dict[str, Any]]) -> bool:
    """Whether the newest plan of the items can become a build now."""
    (actions,) = [each["actions"] for each in shown if "actions" in each][:1]
    return bool(actions[0]["enabled"])


async def test_plans_of_an_expired_session_are_built_by_any_editor_who_then_pays(
    run: LiveService,
) -> None:
    for user, role in (("u2", "editor"), ("u3", "viewer")):
        await run.client.put(f"/v1/projects/p1/members/{user}", json={"role": role})
    await run.credit("u2", 400)
    plan = await planned(run)
    save = f"/v1/chat-plan/replies/{plan['messageId']}/save"
    assert problem(await run.client.post(f"{save}?userId=u3")) == (403, "viewer_only")
    assert (await run.client.post(f"{save}?userId=u2")).json()["convertible"]
    assert await expire_idle(run.service.transactions, run.service.pool, 0) == 1
    assert convertible(await items(run))
    (draft,) = (await run.client.get("/v1/projects/p1/drafts?userId=u3")).json()["drafts"]
    assert draft["convertible"]

    assert problem(await convert(run, plan, userId="u3")) == (403, "viewer_only")
    assert problem(await run.chat("Hello", userId="u3")) == (403, "viewer_only")
    before = await run.account("u1")
    built = await convert(run, plan, userId="u2")
    assert built.status_code == 202
    _, request, *_ = await items(run)
    assert request["conversion"]["fromSessionId"] == plan["sessionId"]
    assert (await run.account("u2"))["reservedSeconds"] == 300
    assert await run.account("u1") == before
    (draft,) = (await run.client.get("/v1/projects/p1/drafts?userId=u3")).json()["drafts"]
    assert not draft["convertible"]
    cancel = f"/v1/builds/{built.json()['buildId']}/cancel"
    assert problem(await run.client.post(f"{cancel}?userId=u3")) == (403, "viewer_only")


async def test_without_a_plan_in_the_request_the_session_s_last_one_is_built(
    run: LiveService,
) -> None:
    plan = await planned(run)
    answer = await convert(run, plan, planData=None)
    found = await run.client.get(f"/v1/builds/{answer.json()['buildId']}", params={"userId": "u1"})
    assert found.json()["plan"] == plan["data"]
    assert found.json()["prompt"] == plan["data"]["buildPrompt"]


async def test_a_plan_that_its_reader_changed_is_built_as_changed(
    run: LiveService,
) -> None:
    plan = await planned(run)
    changed = plan["data"] | {"buildPrompt": "Build it in blue"}
    answer = await convert(run, plan, planData=changed)
    found = await run.client.get(f"/v1/builds/{answer.json()['buildId']}", params={"userId": "u1"})
    assert (found.json()["plan"], found.json()["prompt"]) == (changed, "Build it in blue")


async def test_a_refused_conversion_appends_nothing(run: LiveService) -> None:
    answered = await planned(run, "Hello there")
    before = await run.service.store.head()
    feature = {"planData": None}
    assert problem(await convert(run, answered, **feature)) == (409, "plan_missing")
    unknown = {"sessionId": "nobody's"}
    assert problem(await convert(run, answered, **feature, **unknown)) == (404, "session_not_found")
    stranger = {"userId": "u2"}
    assert problem(await convert(run, answered, **feature, **stranger)) == (
        404,
        "project_not_found",
    )
    assert await run.service.store.head() == before


@pytest.mark.parametrize(
    "plan",
    [
        {"summary": "no plan at all"},
        {"markdown": "prose"},
        {"rootCause": 1},
        {"summary": "\u0000"},
        {},
    ],
)
async def test_an_invalid_plan_is_refused_without_its_text(
    run: LiveService, plan: dict[str, Any]
) -> None:
    real = await planned(run)
    refused = await convert(run, real, planData=plan)
    assert refused.status_code in (400, 422), refused.text
    assert "no plan at all" not in refused.text


async def test_a_plan_with_a_nul_deep_inside_is_refused(run: LiveService) -> None:
    real = await planned(run)
    real["data"]["plan"]["risks"] = ["a\u0000b"]
    assert problem(await convert(run, real)) == (422, "invalid_request")


# the lock ----------------------------------------------------------------------------------------


async def test_a_project_accepts_no_message_and_no_other_build_during_a_build(
    run: LiveService,
) -> None:
    plan = await planned(run)
    (build_id,) = {(await convert(run, plan)).json()["buildId"]}
    assert (await page(run))["activeBuildId"] == build_id
    refused = await run.chat("Hello")
    assert problem(refused) == (409, "build_in_progress")
    assert refused.json()["variables"] == {"build_id": build_id}
    body = {"userId": "u1", "projectId": "p1", "message": "A shop"}
    assert problem(await run.client.post("/v1/builds", json=body)) == (409, "build_in_progress")


@pytest.mark.parametrize("end", [DEPLOYED, FAILED])
async def test_the_end_of_the_build_unlocks_the_project(
    run: LiveService, end: dict[str, Any]
) -> None:
    build_id = await begin(run)
    assert (await run.chat("Hello")).status_code == 409
    await report(run, build_id, end)
    assert "activeBuildId" not in await page(run)
    assert (await run.chat("Hello")).status_code == 200


async def test_a_silent_build_times_out_and_unlocks_the_project(url: str) -> None:
    async with running(url, build_silent_seconds=0.05) as run:
        await run.project()
        await run.credit()
        build_id = await begin(run)
        async with watching.opened(run, since=BEGINNING, userId="u1") as stream:
            locks = [await next_lock(stream), await next_lock(stream)]
        assert locks == [build_id, None]
        found = await run.client.get(f"/v1/builds/{build_id}", params={"userId": "u1"})
        assert (found.json()["status"], found.json()["code"]) == ("failed", "timed_out")
        assert (await run.chat("Hello")).status_code == 200
        late = await report(run, build_id, DEPLOYED)
        assert late.json() == {"accepted": 1, "status": "failed", "code": "timed_out"}


async def test_only_the_first_of_many_concurrent_conversions_locks_the_project(
    run: LiveService,
) -> None:
    await run.project("p2", "u1", "u2", "u3", "u4")
    users = ("u1", "u2", "u3", "u4")
    for user in users[1:]:
        await run.credit(user)
    plans = [
        (await run.chat("Add a login page", userId=user, projectId="p2")).json() for user in users
    ]
    answers = await asyncio.gather(
        *(
            convert(run, plan, userId=user, projectId="p2")
            for plan, user in zip(plans, users, strict=True)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]


async def test_while_the_database_was_away_no_build_was_silent(run: LiveService, url: str) -> None:
    """The database has been there for less time than a build may be silent."""
    await begin(run)
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute("update app.builds set heard_at = now() - interval '10 years'")
        found = await owner.execute("select extract(epoch from now() - pg_postmaster_start_time())")
        (up,) = await found.fetchone() or (0,)
    builds, pool = run.service.builds, run.service.pool
    assert await time_out_silent(builds, pool, float(up) + 600) == 0
    assert await time_out_silent(builds, pool, float(up)) == 1


@pytest.mark.usefixtures("url")
async def test_only_silent_builds_time_out(run: LiveService) -> None:
    build_id = await begin(run)
    service = run.service
    assert await time_out_silent(service.builds, service.pool, 60) == 0
    was_heard = await service.builds.time_out("t1", build_id, silent_seconds=60)
    assert not was_heard, "a worker reported after the search for silent builds"
    assert await time_out_silent(service.builds, service.pool, 0) == 1
    assert await time_out_silent(service.builds, service.pool, 0) == 0
    found = await run.client.get(f"/v1/builds/{build_id}", params={"userId": "u1"})
    assert found.json()["status"] == "failed"


# the bill ----------------------------------------------------------------------------------------


async def test_settings_say_what_a_build_reserves(url: str) -> None:
    async with running(url, main_build_seconds=77, update_build_seconds=55) as run:
        await run.project("p1", "u1")
        await run.project("p2", "u2")
        await run.credit("u1", 500)
        await run.credit("u2", 500)
        await begin(run)
        assert (await run.account("u1"))["reservedSeconds"] == 77
        plan = (await run.chat("Add a page", userId="u2", projectId="p2")).json()
        order = {"userId": "u2", "projectId": "p2", "sessionId": plan["sessionId"]}
        await run.client.post("/v1/chat-plan/convert-to-build", json=order)
        assert (await run.account("u2"))["reservedSeconds"] == 55


@pytest.mark.usefixtures("url")
async def test_a_build_reserves_its_estimate_and_settles_what_its_worker_reports(
    run: LiveService,
) -> None:
    await run.client.put("/v1/projects/p1/members/u2", json={"role": "editor"})
    await run.credit("u2", 700)
    asked = {"userId": "u2", "projectId": "p1", "message": "A shop"}
    build_id = (await run.client.post("/v1/builds", json=asked)).json()["buildId"]
    assert (await run.account("u2"))["reservedSeconds"] == 600, "the first build of the project"
    used = {"seconds": 41, "tokens": 9_000}
    ended = await asyncio.gather(*(report(run, build_id, DEPLOYED | used) for _ in range(5)))
    assert sum(each.json()["accepted"] for each in ended) == 1
    account = await run.account("u2")
    assert (account["consumedSeconds"], account["reservedSeconds"]) == (41, 0)
    log = [each async for some in run.service.store.replay() for each in some]
    end = next(each for each in log if each.type == "BuildSucceeded")
    bill = next(each for each in log if each.type == "TimeConsumed")
    assert bill.recorded_at == end.recorded_at, "in one append"

    ledger = await run.client.get("/v1/billing/accounts/u2/consumption")
    (entry,) = ledger.json()["items"]
    assert (entry["operationType"], entry["billedSeconds"]) == ("main_build", 41)
    assert (entry["buildId"], entry["outputTokens"], entry["model"]) == (build_id, 9_000, "worker")
    figures = (await run.client.get("/v1/projects/p1/analytics")).json()
    assert figures["builds"]["byOperation"]["main_build"] == {
        "billed": 1,
        "seconds": 41,
        "tokens": 9_000,
    }
    found = await run.client.get(f"/v1/builds/{build_id}", params={"userId": "u1"})
    assert found.json()["operation"] == "main_build"
    events = await run.client.get(f"/v1/builds/{build_id}/events", params={"userId": "u1"})
    assert used.items() <= events.json()["events"][0].items()

    update = (await run.client.post("/v1/builds", json=asked)).json()["buildId"]
    assert (await run.account("u2"))["reservedSeconds"] == 300, "there is a version now"
    await report(run, update, FAILED)
    words = asked | {"operation": "metadata_generation"}
    metadata = (await run.client.post("/v1/builds", json=words)).json()["buildId"]
    account = await run.account("u2")
    assert (account["consumedSeconds"], account["reservedSeconds"]) == (41, 60)
    assert await time_out_silent(run.service.builds, run.service.pool, 0) == 1
    assert (await run.account("u2"))["availableSeconds"] == 659
    found = await run.client.get(f"/v1/builds/{metadata}", params={"userId": "u1"})
    assert (found.json()["operation"], found.json()["code"]) == ("metadata_generation", "timed_out")


async def test_a_build_that_the_balance_does_not_cover_is_refused(run: LiveService) -> None:
    await run.client.put("/v1/projects/p1/members/u2", json={"role": "editor"})
    await run.credit("u2", 299)
    plan = await planned(run)
    before = await run.service.store.head()
    refused = await convert(run, plan, userId="u2")
    assert problem(refused) == (402, "insufficient_balance")
    assert refused.json()["variables"] == {"needed_seconds": 300, "available_seconds": 299}
    asked = {"userId": "u2", "projectId": "p1", "message": "A shop"}
    assert problem(await run.client.post("/v1/builds", json=asked)) == (402, "insufficient_balance")
    assert await run.service.store.head() == before


# cancel ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_claimed", [False, True])
async def test_a_cancelled_build_ends_at_once_and_its_worker_hears_of_it(
    run: LiveService, is_claimed: bool
) -> None:
    plan = await planned(run)
    before = await run.account()
    build_id = (await convert(run, plan)).json()["buildId"]
    if is_claimed:
        await run.client.post(f"/v1/builds/{build_id}/claim", json={"workerId": "w1"})
    cancel = f"/v1/builds/{build_id}/cancel?userId=u1"
    for _ in range(2):
        cancelled = await run.client.post(cancel)
        assert (cancelled.json()["status"], cancelled.json()["code"]) == ("failed", "cancelled")
    assert "activeBuildId" not in await page(run)
    assert await run.account() == before, "the seconds are free again"
    late = await report(run, build_id, DEPLOYED | {"seconds": 9})
    assert late.json() == {"accepted": 1, "status": "failed", "code": "cancelled"}
    assert await run.account() == before
    claim = await run.client.post(f"/v1/builds/{build_id}/claim", json={"workerId": "w2"})
    assert problem(claim) == (409, "build_ended")
    assert (await convert(run, plan)).json()["buildId"] != build_id, "it may be asked for again"


async def test_a_build_is_cancelled_by_members_alone(run: LiveService) -> None:
    build_id = await begin(run)
    cancel = f"/v1/builds/{build_id}/cancel"
    assert problem(await run.client.post(f"{cancel}?userId=u2")) == (404, "project_not_found")
    unknown = await run.client.post("/v1/builds/nobody's/cancel?userId=u1")
    assert problem(unknown) == (404, "build_not_found")
    assert (await run.client.post(cancel)).json()["code"] == "cancelled", "by the tenant itself"


# the first build ---------------------------------------------------------------------------------


async def test_an_idea_begins_a_build_with_a_greeting(run: LiveService) -> None:
    build_id = await begin(run, "A shop for tea. With a blog.")
    greeting, message = await items(run)
    assert message["chatMode"] == "initial"
    assert message["userMessage"]["text"] == "A shop for tea. With a blog."
    assert message["build"] == {"buildId": build_id, "userId": "u1", "status": "queued"}
    assert message["userId"] == "u1"
    assert greeting["kind"] == "system_message"
    assert greeting["aiResponse"]["data"] == {
        "type": "greeting",
        "template": "initial_build_greeting",
        "contractVersion": "1.0",
        "variables": {"business_idea_summary": "A shop for tea"},
    }
    assert {each["mode"] for each in (greeting, message)} == {"build"}
    await report(run, build_id, DEPLOYED)
    chat = (await run.chat("Hello")).json()
    assert chat["sessionId"] != message["sessionId"], "planning has a session of its own"
    assert chat["metadata"]["projectContext"]["versionId"] == "v7"
    assert chat["metadata"]["projectContext"]["buildId"] == build_id


async def test_a_build_that_makes_no_version_is_not_greeted_as_the_first_one(
    run: LiveService,
) -> None:
    asked = {"userId": "u1", "projectId": "p1", "message": "A shop"}
    words = asked | {"operation": "metadata_generation"}
    assert (await run.client.post("/v1/builds", json=words)).status_code == 202
    said = [each["aiResponse"]["data"] for each in await items(run) if "aiResponse" in each]
    assert "initial_build_greeting" not in {each["template"] for each in said}


# workers -----------------------------------------------------------------------------------------


async def test_only_the_first_of_fifty_workers_claims_the_build(run: LiveService) -> None:
    build_id = await begin(run)
    listed = (await run.client.get("/v1/builds", params={"status": "queued"})).json()["builds"]
    assert [each["buildId"] for each in listed] == [build_id]
    answers = await asyncio.gather(
        *(
            run.client.post(f"/v1/builds/{build_id}/claim", json={"workerId": f"w{n}"})
            for n in range(50)
        )
    )
    won = [answer for answer in answers if answer.status_code == 200]
    assert len(won) == 1
    assert {problem(answer) for answer in answers if answer not in won} == {(409, "build_claimed")}
    winner = won[0].json()["workerId"]
    again = await run.client.post(f"/v1/builds/{build_id}/claim", json={"workerId": winner})
    assert again.status_code == 200
    assert (await run.client.get("/v1/builds")).json()["builds"] == []
    mine = await run.client.get("/v1/builds", params={"status": "running", "workerId": winner})
    assert [each["buildId"] for each in mine.json()["builds"]] == [build_id]


POLL = {"status": "queued", "wait": "30"}


def holds_connections(pool: Pool) -> bool:
    stats = pool.get_stats()
    return (
        stats.get("pool_available", 0) < stats["pool_size"] or stats.get("requests_waiting", 0) > 0
    )


async def test_a_poll_waits_until_a_build_is_queued_on_any_server(url: str) -> None:
    async with running(url) as one, running(url) as two:
        await one.project()
        await one.credit()
        polling = asyncio.create_task(one.client.get("/v1/builds", params=POLL))
        other = asyncio.create_task(one.client.get("/v1/builds", params=POLL, auth=Signed("k2")))
        async with asyncio.timeout(10):
            while len(one.service.build_polls._waiting) < 2:  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0)
            while holds_connections(one.service.pool):  # noqa: ASYNC110 - a wait holds none
                await asyncio.sleep(0)
        build_id = await begin(two)
        (found,) = (await polling).json()["builds"]
        assert found["buildId"] == build_id
        assert not other.done(), "builds of another tenant do not end it"
        one.server.handle_exit(15, None)
        assert (await other).json() == {"builds": []}, "it ends when the server stops"


async def test_an_idle_poll_is_neither_audited_nor_logged(run: LiveService) -> None:
    with capture_logs() as lines:
        idle = await run.client.get("/v1/builds", params=POLL | {"wait": "1"})
        assert idle.json() == {"builds": []}
        await begin(run)
        busy = await run.client.get("/v1/builds", params=POLL)
        assert len(busy.json()["builds"]) == 1, "what waits already is answered at once"
    shown = [each for each in lines if each.get("operation") == "listBuilds"]
    assert [each["log_level"] for each in shown] == ["debug", "info"]
    await run.credit()  # the entry of a write is stored after those of earlier reads
    audited = (await run.client.get("/v1/audit")).json()["items"]
    asked = [each["requestId"] for each in audited if each["operation"] == "listBuilds"]
    assert asked == [busy.headers["X-Request-Id"]]


async def test_too_many_polls_of_a_tenant_are_refused(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "MOST_WAITING", 0)
    assert problem(await run.client.get("/v1/builds", params=POLL)) == (503, "overloaded")
    for wrong in ({"projectId": "p1", "wait": "1"}, {"status": "running", "wait": "1"}):
        assert problem(await run.client.get("/v1/builds", params=wrong)) == (422, "invalid_request")


async def test_repeated_and_unordered_reports_count_once(run: LiveService) -> None:
    build_id = await begin(run)
    many = [a_report(f"e{n}", "build", "progress") for n in range(498)]
    first = await report(run, build_id, DEPLOYED, *many, DEPLOYED)
    assert first.json() == {"accepted": 499, "status": "succeeded"}
    again = await report(run, build_id, *many, DEVELOPING, DEPLOYED)
    assert again.json() == {"accepted": 1, "status": "succeeded"}
    assert problem(await report(run, build_id, *many, *many[:3])) == (422, "invalid_request")
    path = f"/v1/builds/{build_id}/events"
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        asked = {"userId": "u1", "limit": "200", **after}
        answer = (await run.client.get(path, params=asked)).json()
        seen += [each["eventId"] for each in answer["events"]]
        if not answer["hasMore"]:
            break
        after = {"after": answer["after"]}
    assert len(seen) == len(set(seen)) == 500
    kinds = [each["kind"] for each in await items(run)]
    assert kinds.count("build_reference") == 1, "counted once, although it is late"


async def test_racing_reports_make_one_reference_and_one_end(run: LiveService, url: str) -> None:
    build_id = await begin(run)
    await asyncio.gather(
        *(
            report(run, build_id, a_report(f"d{n}", "development", "progress"), DEPLOYED)
            for n in range(20)
        )
    )
    for kind in ("BuildReferenced", "BuildSucceeded", "VersionDeployed", "ProjectUnlocked"):
        assert len(await law.logged(url, kind)) == 1, kind


async def test_reports_for_an_unknown_build_are_refused(run: LiveService) -> None:
    assert problem(await report(run, "nobody's", DEVELOPING)) == (404, "build_not_found")
    claim = await run.client.post("/v1/builds/nobody's/claim", json={"workerId": "w1"})
    assert problem(claim) == (404, "build_not_found")


@pytest.mark.parametrize(
    "wrong",
    [
        a_report("e", "deploy", "completed"),
        a_report("e", "cooking", "progress"),
        a_report("e", "build", "progress", previewUrl="javascript:alert(1)"),
        a_report("e", "build", "progress", at="yesterday"),
        a_report("e", "build", "progress", at="2026-01-01T00:00:00"),
        a_report("e", "build", "progress", at="0001-01-01T00:00:00+14:00"),
        a_report("", "build", "progress"),
        a_report("e", "build", "progress", extra=1),
        a_report("e", "build", "failed", seconds=-1),
        a_report("e", "build", "failed", tokens=1.5),
    ],
)
async def test_an_invalid_report_is_refused(run: LiveService, wrong: dict[str, Any]) -> None:
    build_id = await begin(run)
    assert problem(await report(run, build_id, DEVELOPING, wrong)) == (422, "invalid_request")
    found = await run.client.get(f"/v1/builds/{build_id}/events", params={"userId": "u1"})
    assert found.json()["events"] == [], "no report of the batch is stored"


async def test_users_see_only_the_visible_events_of_a_build(run: LiveService) -> None:
    build_id = await begin(run)
    await report(
        run, build_id, a_report("secret", "setup", "progress", userVisible=False), DEVELOPING
    )
    path = f"/v1/builds/{build_id}/events"
    shown = (await run.client.get(path, params={"userId": "u1"})).json()["events"]
    assert [each["eventId"] for each in shown] == ["dev"]
    asked = {"userId": "u1", "includeHidden": "true"}
    assert len((await run.client.get(path, params=asked)).json()["events"]) == 2
    stranger = await run.client.get(path, params={"userId": "u2"})
    assert problem(stranger) == (404, "project_not_found")


async def test_another_tenant_sees_no_build(run: LiveService) -> None:
    build_id = await begin(run)
    other = Signed("k2")
    for method, path, body in (
        ("GET", f"/v1/builds/{build_id}", None),
        ("GET", f"/v1/builds/{build_id}/events", None),
        ("POST", f"/v1/builds/{build_id}/claim", {"workerId": "w1"}),
        ("POST", f"/v1/builds/{build_id}/cancel", None),
        ("POST", f"/v1/builds/{build_id}/events", {"events": [DEVELOPING]}),
    ):
        answer = await run.client.request(method, path, json=body, auth=other)
        assert problem(answer) == (404, "build_not_found"), path
    listed = await run.client.get("/v1/builds", auth=other)
    assert listed.json()["builds"] == []


# items and pages ---------------------------------------------------------------------------------


async def test_the_items_of_a_build_show_its_version_once_it_is_deployed(run: LiveService) -> None:
    build_id = await begin(run)
    await report(run, build_id, DEVELOPING)
    reference = (await items(run))[0]
    assert (reference["kind"], reference["status"]) == ("build_reference", "in_progress")
    first = {"phase": "development", "type": "progress", "title": "development progress"}
    assert (reference["firstEvent"], reference["text"]) == (first, first["title"])
    assert reference["build"]["phase"] == "development"
    await report(run, build_id, DEPLOYED)
    said, deployment, *others = await items(run)
    assert (deployment["type"], deployment["id"]) == ("deployment", "v7")
    assert said["aiResponse"]["data"]["template"] == "version_deployed"
    for each in (said, deployment, *others):
        assert each["status"] == "deployed"
        assert each["build"]["versionId"] == "v7"
        assert each["build"]["previewUrl"] == "https://v7.example/preview"
        assert each["build"]["duration"] >= 0
    versions = await run.client.get("/v1/projects/p1/versions", params={"userId": "u1"})
    assert [each["versionId"] for each in versions.json()["versions"]] == ["v7"]


async def test_a_failed_build_says_why(run: LiveService) -> None:
    build_id = await begin(run)
    await report(run, build_id, FAILED)
    for each in (whole := await items(run)):
        assert (each["status"], each["build"]["error"]) == ("failed", "No space left")
    said = whole[0]["aiResponse"]["data"]
    assert (said["template"], said["variables"]) == ("build_failed", {"error": "No space left"})


async def test_a_later_idea_is_queued_without_a_greeting(run: LiveService) -> None:
    await report(run, await begin(run), a_report("end", "build", "failed"))
    build_id = await begin(run, "A better shop")
    said = (await items(run))[0]["aiResponse"]["data"]
    assert (said["template"], said["variables"]) == ("build_queued", {"build_id": build_id})


async def test_builds_have_pages_of_their_own(run: LiveService) -> None:
    plan = await planned(run)
    build_id = (await convert(run, plan)).json()["buildId"]
    await report(run, build_id, DEPLOYED)
    assert {each["mode"] for each in await items(run, mode="build")} == {"build"}
    assert {each["mode"] for each in await items(run, mode="plan")} == {"plan"}
    hidden = await items(run, includeHidden=True, limit=100)
    assert not {"lock", "build_status"} & {each["kind"] for each in hidden}
    other = await begin(run, "Another")
    asked = {"userId": "u1", "projectId": "p1", "limit": "1"}
    newest = (await run.client.get("/v1/builds", params=asked)).json()
    assert [each["buildId"] for each in newest["builds"]] == [other]
    older = await run.client.get("/v1/builds", params=asked | {"cursor": newest["cursor"]})
    assert [each["buildId"] for each in older.json()["builds"]] == [build_id]


async def test_the_live_stream_emits_the_lock_and_the_changed_item(run: LiveService) -> None:
    plan = await planned(run)
    head = (await page(run))["after"]
    async with watching.opened(run, since=head, userId="u1") as stream:
        build_id = (await convert(run, plan)).json()["buildId"]
        claim = await run.client.post(f"/v1/builds/{build_id}/claim", json={"workerId": "w1"})
        assert claim.status_code == 200
        await report(run, build_id, DEPLOYED)
        events = [await stream.next()]
        while (events[-1][0], events[-1][1].get("activeBuildId", "")) != ("lock", None):
            events.append(await stream.next())
    locks = [event["activeBuildId"] for name, event, _ in events if name == "lock"]
    assert locks == [build_id, None]
    requests = [event for name, event, _ in events if event.get("kind") == "user_message"]
    assert len(requests) == 3, "queued, claimed, deployed"
    assert len({event["id"] for event in requests}) == 1
    assert [event["id"] for _, event, _ in events if event.get("kind") == "deployment"] == ["v7"]
    assert requests[-1]["status"] == "deployed"
    chain = [head, *(at for _, _, at in events)]
    assert [event["prev"] for _, event, _ in events] == chain[:-1]
    async with watching.opened(run, since=chain[2], userId="u1") as stream:
        again = await stream.upto(chain[-1])
    assert [at for _, _, at in again] == chain[3:], "resumed without gap or repeat"


async def test_a_build_that_ends_on_another_server_unlocks_its_project(
    url: str,
) -> None:
    """The first server still remembers the project without its lock."""
    async with running(url) as one, running(url) as two:
        await one.project()
        await one.credit()
        build_id = await begin(two)
        ended = await report(one, build_id, a_report("end", "build", "failed"))
        assert ended.json()["status"] == "failed"
        assert "activeBuildId" not in await page(one)
        await begin(two)
