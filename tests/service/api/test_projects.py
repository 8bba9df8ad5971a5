"""Projects and members as a client lists, reads and changes them."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.running import LiveService, problem


@pytest.fixture
def run(bare: LiveService) -> LiveService:
    return bare


async def get(client: httpx.AsyncClient, path: str, **asked: Any) -> dict[str, Any]:
    answer = await client.get(path, params=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def browser(run: LiveService, user_id: str, project_id: str) -> httpx.AsyncClient:
    """A client with a browser's token."""
    body = {"userId": user_id, "projectId": project_id}
    token = (await run.client.post("/v1/tokens", json=body)).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=run.client.base_url, headers=headers, timeout=60)


async def test_the_projects_of_a_user_come_in_pages_newest_first(run: LiveService) -> None:
    for n in range(5):
        await run.project(f"p{n}", "u1", *(("u2",) if n % 2 else ()))
    first = await get(run.client, "/v1/projects", userId="u1", limit=2)
    assert [each["projectId"] for each in first["projects"]] == ["p4", "p3"]
    assert first["hasMore"]
    rest = await get(run.client, "/v1/projects", userId="u1", before=first["before"])
    assert [each["projectId"] for each in rest["projects"]] == ["p2", "p1", "p0"]
    assert not rest["hasMore"]
    others = await get(run.client, "/v1/projects", userId="u2")
    assert [each["projectId"] for each in others["projects"]] == ["p3", "p1"]
    assert {each["role"] for each in others["projects"]} == {"owner"}
    whole = await get(run.client, "/v1/projects")
    assert len(whole["projects"]) == 5
    assert "role" not in whole["projects"][0]
    assert (await get(run.client, "/v1/projects", userId="nobody"))["projects"] == []
    await run.client.delete("/v1/projects/p3")
    left = await get(run.client, "/v1/projects", userId="u2")
    assert [each["projectId"] for each in left["projects"]] == ["p1"]


async def test_a_browser_reads_the_projects_members_and_bill_of_its_user_alone(
    run: LiveService,
) -> None:
    await run.project("p1", "u1", "u2")
    await run.project("p2", "u1")
    await run.project("p3", "u2")
    await run.credit()
    await run.chat("Hello")
    async with await browser(run, "u1", "p1") as client:
        mine = await get(client, "/v1/projects")
        assert [each["projectId"] for each in mine["projects"]] == ["p2", "p1"]
        assert problem(await client.get("/v1/projects?userId=u2")) == (403, "token_of_another_user")
        assert (await get(client, "/v1/projects/p1"))["role"] == "owner"
        assert problem(await client.get("/v1/projects/p2")) == (404, "project_not_found")
        members = await get(client, "/v1/projects/p1/members")
        assert [each["userId"] for each in members["members"]] == ["u1", "u2"]
        assert (await get(client, "/v1/billing/accounts/u1"))["consumedSeconds"] > 0
        assert len((await get(client, "/v1/billing/accounts/u1/consumption"))["items"]) == 1
        for path in ("/v1/billing/accounts/u2", "/v1/billing/accounts/u2/consumption"):
            assert problem(await client.get(path)) == (403, "token_of_another_user")
        assert (await get(client, "/v1/projects/p1/analytics"))["replies"]["replies"] == 1
        refused = await client.get("/v1/projects/p2/analytics")
        assert problem(refused) == (404, "project_not_found")


async def test_a_project_is_described_anew_unless_it_was_changed_meanwhile(
    run: LiveService,
) -> None:
    await run.project()
    first = await run.client.get("/v1/projects/p1?userId=u1")
    known = {"If-Match": first.headers["ETag"]}
    body = {"name": "Shop", "framework": "starlette"}
    changed = await run.client.patch("/v1/projects/p1", json=body, headers=known)
    assert changed.status_code == 200, changed.text
    assert {name: changed.json()[name] for name in body} == body
    assert changed.headers["ETag"] != first.headers["ETag"]
    stale = await run.client.patch("/v1/projects/p1", json={"name": "Late"}, headers=known)
    assert problem(stale) == (409, "project_changed")
    now = {"If-Match": f'"other", {changed.headers["ETag"]}'}
    cleared = await run.client.patch("/v1/projects/p1", json={"framework": None}, headers=now)
    assert cleared.json()["name"] == "Shop"
    assert "framework" not in cleared.json()
    head = await run.service.store.head()
    same = await run.client.patch("/v1/projects/p1", json={"name": "Shop"})
    assert same.headers["ETag"] == cleared.headers["ETag"]
    assert await run.service.store.head() == head, "the same description is no event"
    (listed,) = (await get(run.client, "/v1/projects", userId="u1"))["projects"]
    assert listed["name"] == "Shop"
    for bad in ({}, {"name": None}, {"name": ""}):
        refused = await run.client.patch("/v1/projects/p1", json=bad)
        assert problem(refused) == (422, "invalid_request"), bad
    unknown = await run.client.patch("/v1/projects/p9", json=body)
    assert problem(unknown) == (404, "project_not_found")


async def test_members_come_in_pages_with_their_roles(run: LiveService) -> None:
    await run.project("p1", "ann", "bob", "cid")
    await run.client.put("/v1/projects/p1/members/bob", json={"role": "viewer"})
    page = await get(run.client, "/v1/projects/p1/members", userId="ann", limit=2)
    assert [(each["userId"], each["role"]) for each in page["members"]] == [
        ("ann", "owner"),
        ("bob", "viewer"),
    ]
    rest = await get(run.client, "/v1/projects/p1/members", userId="ann", after=page["after"])
    assert [each["userId"] for each in rest["members"]] == ["cid"]
    assert page["hasMore"]
    assert not rest["hasMore"]
    stranger = await run.client.get("/v1/projects/p1/members?userId=dan")
    assert problem(stranger) == (404, "project_not_found")


ODD = ("a/b", "/", "a%2Fb", "%", "a b", "ü", "a+b@x.com", "a?b#c")


async def test_an_id_of_any_characters_is_found_by_its_path_and_in_queries(
    run: LiveService,
) -> None:
    for odd in ODD:
        await found_by_its_id(run, odd)


async def found_by_its_id(run: LiveService, odd: str) -> None:
    """Register, chat and read with the same odd id for the project and the user."""
    await run.project(odd, odd)
    await run.credit(odd)
    path, user = f"/v1/projects/{quote(odd, safe='')}", f"?userId={quote(odd, safe='')}"
    assert (await get(run.client, path + user))["projectId"] == odd
    (member,) = (await get(run.client, f"{path}/members{user}"))["members"]
    assert member["userId"] == odd
    said = await run.chat("Hello", userId=odd, projectId=odd)
    items = (await get(run.client, f"/v1/project/{quote(odd, safe='')}/timeline{user}"))["items"]
    assert said.json()["messageId"] in {each["id"] for each in items}
    account = await get(run.client, f"/v1/billing/accounts/{quote(odd, safe='')}")
    assert account["userId"] == odd
    role = {"role": "owner"}
    changed = await run.client.put(f"{path}/members/{quote(odd, safe='')}", json=role)
    assert changed.json()["userId"] == odd
