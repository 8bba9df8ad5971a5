"""Prompts and their versions over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.running import LiveService, SharedService, problem


@pytest.fixture
async def run(shared_service: SharedService) -> AsyncIterator[LiveService]:
    async with shared_service.tenant() as started:
        await started.project("p1", "u1", "u2")
        await started.project("p2", "u1")
        await started.credit()
        yield started


async def created(run: LiveService, text: str = "Sell {{what}} to {{who}}.", **asked: Any) -> Any:
    body = {"userId": "u1", "projectId": "p1", "name": "Selling", "text": text} | asked
    answer = await run.client.post("/v1/prompts", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def added(run: LiveService, prompt_id: str, text: str, **asked: Any) -> Any:
    path = f"/v1/prompts/{prompt_id}/versions"
    answer = await run.client.post(path, json={"userId": "u1", "text": text} | asked)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def got(run: LiveService, path: str, **params: Any) -> Any:
    answer = await run.client.get(path, params={"userId": "u1"} | params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def names(run: LiveService, **params: Any) -> list[str]:
    page = await got(run, "/v1/projects/p1/prompts", **params)
    return [each["name"] for each in page["prompts"]]


async def test_a_prompt_has_its_versions_in_order(run: LiveService) -> None:
    prompt = await created(run, note="first")
    path = f"/v1/prompts/{prompt['promptId']}"
    first = prompt["version"]
    assert first["placeholders"] == ["what", "who"]
    assert (first["number"], first["note"], first["usageCount"]) == (1, "first", 0)
    texts = [f"Sell {{{{what}}}}, take {n}" for n in range(4)]
    both = await asyncio.gather(
        *(added(run, prompt["promptId"], text, userId="u2") for text in texts)
    )
    assert sorted(each["number"] for each in both) == [2, 3, 4, 5], "each gets its own number"
    page = await got(run, f"{path}/versions", limit=3)
    assert [each["number"] for each in page["versions"]] == [5, 4, 3]
    assert (page["hasMore"], page["before"], "text" in page["versions"][0]) == (True, 3, False)
    rest = await got(run, f"{path}/versions", before=page["before"])
    assert [each["number"] for each in rest["versions"]] == [2, 1]
    for each in both:
        read = await got(run, f"{path}/versions/{each['number']}")
        assert read == each
        assert (read["userId"], read["text"] in texts) == ("u2", True)
    assert (await got(run, path))["version"]["number"] == 5
    for number in ("6", "0", "x", "99999999999"):
        refused = await run.client.get(f"{path}/versions/{number}", params={"userId": "u1"})
        assert problem(refused) == (404, "prompt_version_not_found")


async def test_two_versions_are_compared(run: LiveService) -> None:
    prompt = await created(run, "Sell {{what}}.\nBe polite.\n")
    await added(run, prompt["promptId"], "Sell {{what}} today.\nBe polite.\n")
    path = f"/v1/prompts/{prompt['promptId']}/versions/2/diff"
    diff = await got(run, path, against=1)
    assert diff["ops"] == [
        {"op": "equal", "text": "Sell "},
        {"op": "delete", "text": "{{what}}.\n"},
        {"op": "insert", "text": "{{what}} today.\n"},
        {"op": "equal", "text": "Be polite.\n"},
    ]
    assert diff["unified"].splitlines()[:4] == [
        "--- version 1",
        "+++ version 2",
        "@@ -1,3 +1,3 @@",
        "-Sell {{what}}.",
    ]
    assert problem(await run.client.get(path, params={"userId": "u1", "against": 9}))[0] == 404


async def test_a_prompt_is_renamed_archived_and_restored(run: LiveService) -> None:
    prompt = await created(run)
    path = f"/v1/prompts/{prompt['promptId']}"
    read = await run.client.get(path, params={"userId": "u2"})
    stale = {"If-Match": read.headers["ETag"]}
    body = {"userId": "u2", "name": "Selling well"}
    renamed = await run.client.patch(path, json=body, headers=stale)
    assert renamed.json()["name"] == "Selling well"
    refused = await run.client.patch(path, json={"userId": "u1", "archived": True}, headers=stale)
    assert problem(refused) == (409, "prompt_changed")
    assert refused.headers["ETag"] == renamed.headers["ETag"]
    archived = await run.client.patch(path, json={"userId": "u1", "archived": True})
    assert archived.json()["status"] == "archived"
    version = {"userId": "u1", "text": "Sell"}
    refused = await run.client.post(f"{path}/versions", json=version)
    assert problem(refused) == (409, "prompt_archived")
    assert (await names(run), await names(run, status="archived")) == ([], ["Selling well"])
    await run.client.patch(path, json={"userId": "u1", "archived": False})
    assert (await added(run, prompt["promptId"], "Sell"))["number"] == 2


async def test_prompts_are_listed_page_by_page(run: LiveService) -> None:
    for name in ("Bees", "ants", "Cats"):
        await created(run, name=name)
    assert await names(run) == ["Cats", "ants", "Bees"]
    assert await names(run, sort="oldest") == ["Bees", "ants", "Cats"]
    assert await names(run, sort="name") == ["ants", "Bees", "Cats"]
    assert await names(run, q="AT") == ["Cats"]
    assert await names(run, q="%") == []
    for sort in ("recent", "oldest", "name"):
        whole: list[str] = []
        before: dict[str, str] = {}
        while True:
            page = await got(run, "/v1/projects/p1/prompts", sort=sort, limit=1, **before)
            whole += [each["name"] for each in page["prompts"]]
            if not page["hasMore"]:
                break
            before = {"before": page["before"]}
        assert whole == await names(run, sort=sort)
    wrong = {"userId": "u1", "sort": "name", "before": "x"}
    refused = await run.client.get("/v1/projects/p1/prompts", params=wrong)
    assert problem(refused) == (422, "bad_cursor")


async def test_viewers_read_and_strangers_find_nothing(run: LiveService) -> None:
    prompt = await created(run)
    path = f"/v1/prompts/{prompt['promptId']}"
    await run.client.put("/v1/projects/p1/members/u3", json={"role": "viewer"})
    assert (await run.client.get(path, params={"userId": "u3"})).status_code == 200
    body = {"userId": "u3", "text": "Sell"}
    refused: list[httpx.Response] = [
        await run.client.post(f"{path}/versions", json=body),
        await run.client.patch(path, json={"userId": "u3", "name": "Mine"}),
        await run.client.delete(path, params={"userId": "u3"}),
        await run.client.post("/v1/prompts", json=body | {"projectId": "p1", "name": "Mine"}),
    ]
    assert {problem(each) for each in refused} == {(403, "viewer_only")}
    for each in (path, f"{path}/versions", f"{path}/versions/1"):
        stranger = await run.client.get(each, params={"userId": "u9"})
        assert problem(stranger) == (404, "project_not_found")


async def test_only_the_author_and_owners_erase_a_prompt(run: LiveService) -> None:
    prompt = await created(run)
    path = f"/v1/prompts/{prompt['promptId']}"
    await run.client.put("/v1/projects/p1/members/u3", json={"role": "editor"})
    refused = await run.client.delete(path, params={"userId": "u3"})
    assert problem(refused) == (403, "owner_only")
    own = await created(run, userId="u3", name="Own")
    answer = await run.client.delete(f"/v1/prompts/{own['promptId']}", params={"userId": "u3"})
    assert answer.status_code == 200, answer.text
    assert (await run.client.delete(path, params={"userId": "u2"})).status_code == 200
    for each in (path, f"{path}/versions", f"{path}/versions/1"):
        assert problem(await run.client.get(each, params={"userId": "u1"}))[0] == 404
    assert await names(run, status="all") == []
    log = (await run.client.get("/v1/events", params={"limit": 200})).text
    assert "Sell" not in log
    assert "PromptErased" in log


@pytest.mark.parametrize(
    "text", ["", "x" * 100_001, " ".join(f"{{{{a{n}}}}}" for n in range(51)), "\0"]
)
async def test_a_text_has_its_limits(run: LiveService, text: str) -> None:
    body = {"userId": "u1", "projectId": "p1", "name": "n", "text": text}
    assert problem(await run.client.post("/v1/prompts", json=body))[0] == 422


async def test_a_version_is_an_item_of_the_timeline(run: LiveService) -> None:
    prompt = await created(run, "Sell " * 100, note="loud")
    page = await got(run, "/v1/project/p1/timeline")
    (item,) = page["items"]
    assert item["kind"] == "prompt_version"
    assert item["id"] == prompt["version"]["promptVersionId"]
    assert item["event"] == {
        "promptId": prompt["promptId"],
        "number": 1,
        "name": "Selling",
        "note": "loud",
    }
    assert (item["userId"], item["text"]) == ("u1", ("Sell " * 100)[:200])
