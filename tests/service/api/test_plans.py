"""The actions on a reply: build it, keep it as a draft, export it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.running import LiveService, SharedService, Signed, problem

REPLY = "/v1/chat-plan/replies"


@pytest.fixture
async def run(shared_service: SharedService) -> AsyncIterator[LiveService]:
    async with shared_service.tenant() as started:
        await started.project("p1", "u1", "u2")
        await started.credit()
        yield started


async def ask(run: LiveService, message: str, **members: Any) -> dict[str, Any]:
    return dict((await run.chat(message, **members)).json())


async def get(run: LiveService, path: str, **asked: str) -> httpx.Response:
    return await run.client.get(path, params={"userId": "u1"} | asked)


async def test_a_plan_offers_to_be_built_kept_and_exported(run: LiveService) -> None:
    plan = await ask(run, "Add a login page")
    actions = {each["type"]: each for each in plan["availableActions"]}
    assert list(actions) == ["convert_to_build", "save_plan", "share", "export"]
    assert actions["convert_to_build"]["payload"] == {
        "sessionId": plan["sessionId"],
        "planData": plan["data"],
    }
    assert actions["save_plan"]["payload"] == {"messageId": plan["messageId"]}
    body = {"userId": "u1", "projectId": "p1"} | actions["convert_to_build"]["payload"]
    built = await run.client.post("/v1/chat-plan/convert-to-build", json=body)
    assert built.status_code == 202


@pytest.mark.parametrize(
    ("message", "types"),
    [
        ("Why is the cart slow?", ["export"]),
        ("Review the project", ["export"]),
        ("Hello there", ["export"]),
        ("Fix the broken cart", ["convert_to_build", "save_plan", "share", "export"]),
        ("Add a page [[offline: cut after=20]]", ["export"]),
    ],
)
async def test_only_complete_plans_offer_to_be_built(
    run: LiveService, message: str, types: list[str]
) -> None:
    answer = await ask(run, message)
    assert [each["type"] for each in answer["availableActions"]] == types


async def test_a_failed_reply_offers_nothing(run: LiveService) -> None:
    answer = await ask(run, "Add a page [[offline: refusal]]")
    assert answer["subtype"] == "error"
    assert "availableActions" not in answer


async def test_labels_of_actions_are_in_the_message_s_language(run: LiveService) -> None:
    labels = {
        locale: (await ask(run, "Add a page", locale=locale))["availableActions"][0]["label"]
        for locale in ("en", "fr", "es", "ar")
    }
    assert len(set(labels.values())) == 4
    items = (await get(run, "/v1/project/p1/timeline", limit="100")).json()["items"]
    shown = [each["actions"][0]["label"] for each in items if "actions" in each]
    assert shown == list(labels.values())[::-1]


async def test_an_item_says_whether_its_plan_can_be_built_now(run: LiveService) -> None:
    plan = await ask(run, "Add a login page")

    async def convertible() -> bool:
        page = (await get(run, "/v1/project/p1/timeline", limit="100")).json()
        (item,) = (each for each in page["items"] if each["id"] == plan["messageId"])
        enabled = {each["type"]: each["enabled"] for each in item["actions"]}
        assert enabled["save_plan"]
        assert enabled["export"]
        return bool(enabled["convert_to_build"])

    assert await convertible()
    await run.credit("u2")
    body = {"userId": "u2", "projectId": "p1", "message": "A shop"}
    build_id = (await run.client.post("/v1/builds", json=body)).json()["buildId"]
    assert not await convertible(), "a build of the project runs"
    end = {"eventId": "e", "phase": "build", "type": "failed", "title": "t"}
    end |= {"at": "2026-01-01T00:00:00Z"}
    await run.client.post(f"/v1/builds/{build_id}/events", json={"events": [end]})
    assert await convertible()
    body = {"userId": "u1", "projectId": "p1", "sessionId": plan["sessionId"]}
    await run.client.post("/v1/chat-plan/convert-to-build", json=body)
    assert not await convertible(), "the plan was built"


async def test_a_plan_is_kept_as_a_draft_once(run: LiveService) -> None:
    plan = await ask(run, "Add a login page")
    path = f"{REPLY}/{plan['messageId']}/save?userId=u2"
    first = await run.client.post(path)
    assert first.status_code == 200, first.text
    assert first.json()["title"] == plan["data"]["summary"]
    assert first.json()["userId"] == "u2"
    head = await run.service.store.head()
    again = await run.client.post(path.replace("u2", "u1"))
    assert again.json() == first.json()
    assert await run.service.store.head() == head
    drafts = (await get(run, "/v1/projects/p1/drafts")).json()
    assert drafts["drafts"] == [first.json()]


async def test_the_event_of_a_kept_plan_names_its_actor(run: LiveService) -> None:
    plan = await ask(run, "Add a login page")
    await run.client.post(f"{REPLY}/{plan['messageId']}/save?userId=u1")
    events = (await run.client.get("/v1/events?types=PlanSaved")).json()["events"]
    assert [each["actor"] for each in events] == ["u1"]


async def test_drafts_come_in_pages_newest_first(run: LiveService) -> None:
    ids: list[str] = []
    for message in ("Add a login page", "Fix the cart", "Add a blog"):
        ids.append((await ask(run, message))["messageId"])
        await run.client.post(f"{REPLY}/{ids[-1]}/save?userId=u1")
    first = (await get(run, "/v1/projects/p1/drafts", limit="2")).json()
    rest = (await get(run, "/v1/projects/p1/drafts", before=first["before"])).json()
    found = [each["messageId"] for each in (*first["drafts"], *rest["drafts"])]
    assert found == ids[::-1]


async def test_only_a_plan_can_be_kept_as_a_draft(run: LiveService) -> None:
    answer = await ask(run, "Hello there")
    refused = await run.client.post(f"{REPLY}/{answer['messageId']}/save?userId=u1")
    assert problem(refused) == (404, "plan_not_found")
    refused = await run.client.post(f"{REPLY}/nobody/save?userId=u1")
    assert problem(refused) == (404, "reply_not_found")


async def test_a_reply_is_exported_as_a_document(run: LiveService) -> None:
    plan = await ask(run, "Add a login page")
    path = f"{REPLY}/{plan['messageId']}/export"
    text = await get(run, path)
    assert text.headers["content-type"] == "text/markdown; charset=utf-8"
    assert f"plan-{plan['messageId']}.md" in text.headers["content-disposition"]
    assert plan["data"]["summary"] in text.text
    assert plan["data"]["plan"]["steps"][0]["title"] in text.text
    as_json = (await get(run, path, format="json")).json()
    assert (as_json["mode"], as_json["data"]) == ("feature", plan["data"])
    assert problem(await get(run, path, format="pdf")) == (422, "invalid_request")


async def test_a_session_is_exported_with_all_its_messages(run: LiveService) -> None:
    first = await ask(run, "Why is the cart slow?")
    second = await ask(run, "Add a login page")
    path = f"/v1/chat-plan/session/{first['sessionId']}/export"
    text = (await get(run, path)).text
    places = [
        text.index(each)
        for each in (
            "Why is the cart slow?",
            first["data"]["answer"],
            "Add a login page",
            second["data"]["plan"]["overview"],
        )
    ]
    assert places == sorted(places)
    items = (await get(run, path, format="json")).json()["items"]
    assert items[0]["template"] == "plan_greeting"
    assert [each.get("text") or each["data"] for each in items[1:]] == [
        "Why is the cart slow?",
        first["data"],
        "Add a login page",
        second["data"],
    ]


async def test_a_greeting_is_exported_in_the_reader_s_language(run: LiveService) -> None:
    body = {"userId": "u1", "projectId": "p1", "message": "A shop for tea"}
    await run.client.post("/v1/builds", json=body)
    items = (await get(run, "/v1/project/p1/timeline")).json()["items"]
    path = f"/v1/chat-plan/session/{items[0]['sessionId']}/export"
    texts = {locale: (await get(run, path, locale=locale)).text for locale in ("en", "ar")}
    assert texts["en"] != texts["ar"]
    assert all("A shop for tea" in text for text in texts.values())


async def test_only_members_of_the_tenant_can_export(run: LiveService) -> None:
    plan = await ask(run, "Add a login page")
    paths = (
        f"{REPLY}/{plan['messageId']}/export",
        f"/v1/chat-plan/session/{plan['sessionId']}/export",
    )
    for path in paths:
        assert (await get(run, path, userId="u3")).status_code == 404
        foreign = await run.client.get(path, params={"userId": "u1"}, auth=Signed("k2"))
        assert foreign.status_code == 404
        assert plan["data"]["summary"] not in foreign.text
    missing = await get(run, "/v1/chat-plan/session/nobody/export")
    assert problem(missing) == (404, "session_not_found")


@pytest.mark.parametrize(
    ("locale", "language", "direction"),
    [("en-US", "en", "ltr"), ("ar-EG", "ar", "rtl"), ("fr", "fr", "ltr"), ("xx", "en", "ltr")],
)
async def test_the_message_bundles_are_served(
    run: LiveService, locale: str, language: str, direction: str
) -> None:
    answer = await run.client.get(f"/v1/messages/{locale}")
    assert answer.headers["content-language"] == language
    bundle = answer.json()
    assert (bundle["language"], bundle["direction"]) == (language, direction)
    assert "{business_idea_summary}" in bundle["templates"]["initial_build_greeting"]
