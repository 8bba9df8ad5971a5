"""Sessions as a client opens, lists, reads, changes and erases them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import product
from typing import Any
from uuid import uuid4

import httpx
import pytest

from domain.deciders import session
from domain.modes import MODES
from service.commands.runs import RunOrder, queue
from service.commands.sessions import expire
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import Transaction
from service.settings import Settings
from service.wire import position_of
from tests.running import LiveService, SharedService, Signed, problem, running, sharing
from tests.service.eventlog.logs import appends_blocked, until_an_append_is_blocked

SESSION = "/v1/chat-plan/session"
PLAN = {"userId": "u1", "projectId": "p1", "mode": "plan"}
Answer = dict[str, Any]


@pytest.fixture(scope="module")
async def shared_service(shared_url: str) -> AsyncIterator[SharedService]:
    async with sharing(shared_url, models=("large",)) as started:
        yield started


@pytest.fixture
async def run(shared_service: SharedService) -> AsyncIterator[LiveService]:
    async with shared_service.tenant() as started:
        await started.project("p1", "u1", "u2")
        await started.credit()
        yield started


async def opened(run: LiveService, **members: Any) -> Answer:
    """A session of mode plan, unless the members say otherwise."""
    answer = await run.client.post("/v1/sessions", json=PLAN | members)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def patch(
    run: LiveService, session_id: str, match: str | None = None, **members: Any
) -> httpx.Response:
    headers = {} if match is None else {"If-Match": match}
    body = {"userId": "u1"} | members
    return await run.client.patch(f"/v1/sessions/{session_id}", json=body, headers=headers)


async def get(run: LiveService, path: str, language: str = "", **asked: Any) -> Answer:
    headers = {"Accept-Language": language} if language else {}
    answer = await run.client.get(path, params={"userId": "u1"} | asked, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def said(run: LiveService, session_id: str, *texts: str, project_id: str = "p1") -> None:
    """Messages that a client appends, without replies."""

    async def work(transaction: Transaction) -> None:
        for text in texts:
            decision = partial(
                session.append_message,
                message_id=str(uuid4()),
                role="user",
                text=text,
                locale="en",
            )
            await transaction.decide(session_stream(session_id, project_id), decision)

    await run.service.transactions.transact(run.tenant_id, work)


async def expired(run: LiveService, session_id: str) -> None:
    work = partial(expire, project_id="p1", session_id=session_id)
    await run.service.transactions.transact(run.tenant_id, work)


async def browser(run: LiveService, user_id: str) -> httpx.AsyncClient:
    """A client with a browser's token for the project p1."""
    body = {"userId": user_id, "projectId": "p1"}
    token = (await run.client.post("/v1/tokens", json=body)).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=run.client.base_url, headers=headers, timeout=60)


async def a_run(run: LiveService, run_id: str) -> None:
    """A run of p1 with this id."""
    order = RunOrder(
        project_id="p1",
        user_id="u1",
        title="Compare",
        session_id=None,
        prompt_version_id=None,
        answers=None,
        settings=None,
        given=None,
    )
    work = partial(queue, run_id=run_id, order=order)
    await run.service.transactions.transact(run.tenant_id, work)


# opened or found ---------------------------------------------------------------------------------


async def test_an_opened_session_is_answered_whole(run: LiveService) -> None:
    await a_run(run, "r1")
    answer = await run.client.post(
        "/v1/sessions", json=PLAN | {"name": "Shop", "context": {"runId": "r1"}}
    )
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["Location"] == f"/v1/sessions/{made['sessionId']}"
    read = await run.client.get(f"{answer.headers['Location']}?userId=u1")
    assert read.json() == made
    assert read.headers["ETag"] == answer.headers["ETag"]
    expected = {
        "projectId": "p1",
        "userId": "u1",
        "name": "Shop",
        "isNamed": True,
        "description": "",
        "mode": "plan",
        "status": "active",
        "starred": False,
        "tags": [],
        "context": {"runId": "r1"},
        "messageCount": 0,
        "itemCount": 0,
        "preview": "",
        "isPrivate": False,
        "billing": {"aiSeconds": 0, "tokensUsed": 0, "costUsd": "0.000000"},
    }
    times = ("sessionId", "createdAt", "lastActive", "cursor")
    assert {name: value for name, value in made.items() if name not in times} == expected
    items = (await run.client.get("/v1/project/p1/timeline?userId=u1")).json()["items"]
    assert [each["kind"] for each in items] == ["system_message", "run"]
    assert items[0]["aiResponse"]["data"]["template"] == "plan_greeting"
    assert (await run.chat("Hello")).json()["sessionId"] == made["sessionId"], "as the default one"


async def test_fifty_racing_callers_on_two_servers_get_one_session(url: str) -> None:
    async with running(url) as one, running(url) as two:
        await one.project()
        for context in ({}, {"promptId": "x"}):
            body = PLAN | {"mode": "idea", "reuse": True, "context": context}
            answers = await asyncio.gather(
                *((one, two)[n % 2].client.post("/v1/sessions", json=body) for n in range(50))
            )
            assert sorted(each.status_code for each in answers) == [200] * 49 + [201]
            assert len({each.json()["sessionId"] for each in answers}) == 1
        listed = (await get(one, "/v1/projects/p1/sessions"))["sessions"]
        assert len(listed) == 2, "nothing of the others is stored"


@pytest.mark.parametrize("is_message_first", [True, False])
async def test_a_message_and_an_opening_that_race_on_two_servers_get_one_session(
    url: str, is_message_first: bool
) -> None:
    async with running(url) as one, running(url) as two:
        await one.project()
        await one.credit()
        asking = (
            partial(one.chat, "Hello"),
            partial(two.client.post, "/v1/sessions", json=PLAN | {"reuse": True}),
        )
        async with appends_blocked(url):
            racing: list[asyncio.Task[httpx.Response]] = []
            for ask in asking if is_message_first else asking[::-1]:
                racing.append(asyncio.create_task(ask()))
                await until_an_append_is_blocked(url, len(racing))
        answers = [await each for each in racing]
        assert {each.status_code for each in answers} <= {200, 201}
        assert len({each.json()["sessionId"] for each in answers}) == 1
        assert len((await get(one, "/v1/projects/p1/sessions"))["sessions"]) == 1
        again = await two.client.post("/v1/sessions", json=PLAN | {"reuse": True})
        assert again.json()["sessionId"] == answers[0].json()["sessionId"]


async def test_a_session_is_found_again_while_it_takes_messages(run: LiveService) -> None:
    async def reused(**members: Any) -> tuple[int, str]:
        answer = await run.client.post("/v1/sessions", json=PLAN | {"reuse": True} | members)
        return answer.status_code, answer.json()["sessionId"]

    await a_run(run, "r")
    status, first = await reused(mode="setup")
    assert status == 201
    assert await reused(mode="setup") == (200, first)
    for other in ({"mode": "analysis"}, {"mode": "setup", "context": {"runId": "r"}}):
        status, found = await reused(**other)
        assert (status, found != first) == (201, True)
        assert await reused(**other) == (200, found)
    await run.client.post(f"{SESSION}/{first}/archive?userId=u1")
    status, second = await reused(mode="setup")
    assert (status, second != first) == (201, True), "an archived session is not found"
    await run.client.delete(f"/v1/sessions/{second}?userId=u1")
    status, third = await reused(mode="setup")
    assert (status, third not in (first, second)) == (201, True), "nor is an erased one"
    await patch(run, third, mode="what_if")
    assert await reused(mode="what_if") == (200, third), "found by the mode that it has now"
    talk = (await run.chat("Hello")).json()["sessionId"]
    assert await reused() == (200, talk), "the session of plan chat"
    await expired(run, talk)
    assert await reused() == (200, talk), "an expired one takes messages again"
    await said(run, third, *("More" for _ in range(MODES["what_if"].most_messages)))
    status, fourth = await reused(mode="what_if")
    assert (status, fourth != third) == (201, True), "a full one takes none"
    key = {"Idempotency-Key": "open"}
    twice = [await run.client.post("/v1/sessions", json=PLAN, headers=key) for _ in range(2)]
    assert [each.status_code for each in twice] == [201, 201]
    assert twice[0].json() == twice[1].json()


@pytest.mark.parametrize(
    ("members", "refusal"),
    [
        ({"mode": "build"}, (422, "invalid_request")),
        ({"mode": "plan", "settings": {"model": "large"}}, (422, "invalid_request")),
        ({"mode": "prompt", "settings": {"model": "unknown"}}, (422, "model_not_allowed")),
        ({"mode": "prompt", "settings": {"maxTokens": 9_000}}, (422, "too_many_tokens")),
        ({"mode": "prompt", "settings": {"stop": ["x"]}}, (422, "invalid_request")),
        ({"mode": "prompt", "settings": {"a\0": 1}}, (422, "invalid_request")),
        ({"mode": "prompt", "settings": {"stop": None}}, (422, "invalid_request")),
        ({"mode": "prompt", "settings": {"temperature": 1e300}}, (422, "invalid_request")),
        ({"name": "two\nlines"}, (422, "invalid_request")),
        ({"name": ""}, (422, "invalid_request")),
        ({"name": "x" * 201}, (422, "invalid_request")),
        ({"context": {"versionId": "v9"}}, (404, "version_not_found")),
        ({"context": {"buildId": "b9"}}, (404, "build_not_found")),
        ({"projectId": "p9"}, (404, "project_not_found")),
        ({"userId": "u3"}, (403, "viewer_only")),
        ({"userId": "stranger"}, (404, "project_not_found")),
    ],
)
async def test_a_session_that_cannot_be_is_not_opened(
    run: LiveService, members: Answer, refusal: tuple[int, str]
) -> None:
    await run.client.put("/v1/projects/p1/members/u3", json={"role": "viewer"})
    head = await run.service.store.head()
    for reuse in (False, True):
        body = PLAN | members | {"reuse": reuse}
        assert problem(await run.client.post("/v1/sessions", json=body)) == refusal
    assert await run.service.store.head() == head


async def test_a_prompt_session_says_which_of_its_settings_are_not_sent(run: LiveService) -> None:
    settings = {"model": "large", "maxTokens": 500, "temperature": 0.5, "topP": 1, "note": "é"}
    made = await opened(run, mode="prompt", settings=settings)
    assert made["settings"] == settings
    assert made["notSent"] == ["note", "temperature", "topP"]
    assert made["isPrivate"]
    known = await run.service.transactions.current(run.tenant_id, session_stream(made["sessionId"]))
    assert (known.model, known.max_tokens) == ("large", 500)
    plain = await opened(run, mode="prompt", settings={"model": "offline"})
    assert plain["settings"] == {"model": "offline"}, "the service's own model is allowed"
    assert "notSent" not in plain


def test_the_models_that_a_session_may_name_are_a_list_with_commas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings().models == ()
    monkeypatch.setenv("THROUGHLINE_MODELS", " large, small ,,")
    assert Settings().models == ("large", "small")


# what a user changes -----------------------------------------------------------------------------


async def test_a_stale_change_is_refused_with_the_present_version(run: LiveService) -> None:
    made = await run.client.post("/v1/sessions", json=PLAN)
    session_id, first = made.json()["sessionId"], made.headers["ETag"]
    details = {
        "name": "“Shop” <b>& more</b> \u202eشراء 🛒 'or 1=1",
        "description": "Two\nlines",
        "mode": "analysis",
        "starred": True,
        "tags": ["a", "ü", "a"],
        "archived": True,
    }
    changed = await patch(run, session_id, first, **details)
    assert changed.status_code == 200, changed.text
    expected = details | {"tags": ["a", "ü"], "status": "archived"}
    del expected["archived"]
    assert {name: changed.json()[name] for name in expected} == expected
    stale = await patch(run, session_id, first, name="Late")
    assert problem(stale) == (409, "session_changed")
    assert stale.headers["ETag"] == changed.headers["ETag"] != first
    assert stale.json()["variables"] == {"revision": changed.headers["ETag"].strip('"')}
    head = await run.service.store.head()
    same = await patch(run, session_id, f'"other", W/{changed.headers["ETag"]}', starred=True)
    assert same.headers["ETag"] == changed.headers["ETag"]
    assert await run.service.store.head() == head, "the same details are no event"
    emptied = await patch(run, session_id, name=None, description=None, tags=None, archived=False)
    assert emptied.json()["status"] == "active"
    assert (emptied.json()["isNamed"], emptied.json()["tags"]) == (False, [])
    assert emptied.json()["mode"] == "analysis", "what is left out stays"


async def test_of_concurrent_changes_of_one_version_one_is_made(run: LiveService) -> None:
    made = await run.client.post("/v1/sessions", json=PLAN)
    session_id, match = made.json()["sessionId"], made.headers["ETag"]
    answers = await asyncio.gather(
        *(patch(run, session_id, match, name=f"Name {n}") for n in range(10))
    )
    assert sorted(each.status_code for each in answers) == [200] + [409] * 9
    (winner,) = (each.json()["name"] for each in answers if each.is_success)
    assert (await get(run, f"/v1/sessions/{session_id}"))["name"] == winner
    stars = await asyncio.gather(*(patch(run, session_id, tags=[f"{n}"]) for n in range(5)))
    assert {each.status_code for each in stars} == {200}, "without If-Match the last one wins"


async def test_only_its_user_changes_a_session(run: LiveService) -> None:
    session_id = (await opened(run))["sessionId"]
    for bad in (
        {},
        {"mode": None},
        {"tags": ["x"] * 21},
        {"tags": [""]},
        {"tags": ["x" * 51]},
        {"description": "x" * 2_001},
        {"starred": "yes"},
    ):
        assert problem(await patch(run, session_id, **bad)) == (422, "invalid_request"), bad
    assert problem(await patch(run, session_id, mode="idea")) == (409, "mode_fixed")
    for user_id, unknown in (("u2", session_id), ("u1", "none")):
        refused = await patch(run, unknown, userId=user_id, starred=True)
        assert problem(refused) == (404, "session_not_found")
    path = f"/v1/sessions/{session_id}"
    by_tenant = await run.client.patch(path, json={"name": "Ours"})
    assert by_tenant.json()["name"] == "Ours", "the tenant's own service may"
    async with await browser(run, "u1") as client:
        mine = await client.patch(path, json={"name": "Mine"})
        assert mine.json()["name"] == "Mine"
        assert (await client.get(path)).json()["name"] == "Mine"
    async with await browser(run, "u2") as client:
        assert problem(await client.patch(path, json={"name": "No"})) == (404, "session_not_found")
        assert problem(await client.delete(path)) == (404, "session_not_found")
        refused = await client.patch(path, json={"userId": "u1", "name": "No"})
        assert problem(refused) == (403, "token_of_another_user")
    assert (await run.client.delete(f"{path}?userId=u1")).json() == {"sessionId": session_id}
    assert problem(await run.client.get(f"{path}?userId=u1")) == (404, "session_not_found")


async def test_a_session_is_called_by_its_first_message_until_it_has_a_name(
    run: LiveService,
) -> None:
    session_id = (await opened(run))["sessionId"]
    path = f"/v1/sessions/{session_id}"
    names = {
        language: (await get(run, path, language))["name"] for language in ("en", "fr", "es", "ar")
    }
    assert names == {
        "en": "New plan",
        "fr": "Nouveau plan",
        "es": "Plan nuevo",
        "ar": "خطة جديدة",
    }
    assert (await get(run, path, "fr", locale="ar-EG"))["name"] == names["ar"]
    (listed,) = (await get(run, "/v1/projects/p1/sessions", locale="es"))["sessions"]
    assert (listed["name"], listed["isNamed"]) == (names["es"], False)
    words = "Why is the cart of the shop so slow whenever somebody adds an item?"
    await said(run, session_id, words, "And then?")
    derived = await get(run, path, "fr")
    assert (derived["name"], derived["isNamed"]) == (
        "Why is the cart of the shop so slow whenever…",
        False,
    )
    assert derived["preview"] == "And then?"
    await patch(run, session_id, name="Cart")
    await said(run, session_id, "Another one")
    assert (await get(run, path))["name"] == "Cart", "never over a given name"


# lists -------------------------------------------------------------------------------------------


SORTS: dict[str, Callable[[Answer], Any]] = {
    "recent": lambda each: -position(each),
    "oldest": lambda each: position(each),
    "name": lambda each: (called(each).lower(), -position(each)),
    "messages": lambda each: (-each["messageCount"], -position(each)),
}
FILTERS: dict[tuple[str, str], Callable[[Answer], bool]] = {
    ("limit", "3"): lambda _: True,
    ("status", "all"): lambda _: True,
    ("status", "archived"): lambda each: each["status"] == "archived",
    ("status", "expired"): lambda each: each["status"] == "expired",
    ("mode", "idea"): lambda each: each["mode"] == "idea",
    ("starred", "true"): lambda each: each["starred"],
    ("starred", "false"): lambda each: not each["starred"],
    ("tag", "ü & b"): lambda each: "ü & b" in each["tags"],
    ("runId", "r1"): lambda each: each["context"].get("runId") == "r1",
    ("promptId", "x"): lambda each: each["context"].get("promptId") == "x",
}


def position(each: Answer) -> int:
    return position_of(each["cursor"])


def called(each: Answer) -> str:
    """The name or first words; a session without both comes first."""
    return str(each["name"]) if each["isNamed"] or each["messageCount"] else ""


async def many(run: LiveService) -> list[Answer]:
    """Sessions of u1 with equal and different names, counts, modes, stars, tags and statuses."""
    await a_run(run, "r1")
    for n in range(14):
        context = [{}, {"runId": "r1"}, {"promptId": "x"}][n % 3]
        made = await opened(
            run,
            mode=("plan", "idea", "what_if")[n % 3] if n < 12 else "prompt",
            context={} if n in (10, 13) else context,
            projectId="p1" if n % 5 else "p2",
        )
        name = ["Shop", "shop", "Émile", "zebra", ""][n % 5]
        tags = ["ü & b", "c"] if n % 4 == 0 else []
        await patch(run, made["sessionId"], name=name, starred=n % 2 == 0, tags=tags)
        await said(run, made["sessionId"], *["Hello"] * (n % 4), project_id=made["projectId"])
        if n % 6 == 5:
            await patch(run, made["sessionId"], archived=True)
        if n == 7:
            await expired(run, made["sessionId"])
    return list((await get(run, "/v1/sessions", status="all", limit=200))["sessions"])


async def walked(run: LiveService, path: str, **asked: Any) -> list[Answer]:
    """All sessions of a list, page by page."""
    found: list[Answer] = []
    before: Answer = {}
    while True:
        page = await get(run, path, **({"limit": 3} | asked | before))
        found += page["sessions"]
        assert len(page["sessions"]) <= 3
        if not page["hasMore"]:
            return found
        before = {"before": page["before"]}


def orders() -> Iterator[tuple[str, str, str]]:
    """Every sort with every filter: the sort, and the name and value of the filter."""
    for sort, (name, value) in product(SORTS, FILTERS):
        yield sort, name, value


async def test_a_list_walked_by_pages_equals_the_oracle_in_every_order_and_filter(
    run: LiveService,
) -> None:
    await run.project("p2", "u1")
    sessions = await many(run)
    assert len(sessions) == 14
    for path, all_of in (
        ("/v1/sessions", sessions),
        ("/v1/projects/p1/sessions", [each for each in sessions if each["projectId"] == "p1"]),
    ):
        for sort, name, value in orders():
            found = await walked(run, path, sort=sort, **{name: value})
            kept = [
                each
                for each in all_of
                if FILTERS[name, value](each) and (name == "status" or each["status"] != "archived")
            ]
            expected = sorted(kept, key=SORTS[sort])
            assert found == expected, (path, sort, name, value)
        assert expected, "the control"


async def test_a_page_stays_where_it_was_while_sessions_come_and_move(run: LiveService) -> None:
    ids = [(await opened(run, mode="idea"))["sessionId"] for _ in range(4)]
    first = await get(run, "/v1/projects/p1/sessions", limit=2)
    assert [each["sessionId"] for each in first["sessions"]] == ids[:1:-1]
    await opened(run, mode="idea")
    await said(run, ids[3], "Hello")
    rest = await get(run, "/v1/projects/p1/sessions", limit=2, before=first["before"])
    assert [each["sessionId"] for each in rest["sessions"]] == ids[1::-1]
    moved = await get(run, "/v1/projects/p1/sessions", unreadSince=first["sessions"][0]["cursor"])
    assert [each["isUnread"] for each in moved["sessions"]] == [True, True, False, False, False]


async def test_a_cursor_is_for_its_list_alone(run: LiveService) -> None:
    await opened(run)
    await opened(run)
    path = "/v1/projects/p1/sessions"
    page = await get(run, path, sort="name", limit=1)
    for asked in (
        {"before": page["before"]},
        {"before": "x"},
        {"before": "é"},
        {"before": "W10"},
        {"before": page["before"][:-3], "sort": "name"},
        {"unreadSince": "x"},
    ):
        refused = await run.client.get(path, params={"userId": "u1"} | asked)
        assert problem(refused) == (422, "bad_cursor"), asked
    of_another = await run.client.get(path, params={"userId": "u1", "unreadSince": "00000000.1"})
    assert problem(of_another) == (409, "cursor_of_another_log")


async def test_a_private_session_is_listed_for_its_own_user_alone(run: LiveService) -> None:
    mine = (await opened(run, mode="prompt"))["sessionId"]
    shown = (await opened(run))["sessionId"]
    path = "/v1/projects/p1/sessions"

    async def listed(path: str, **asked: Any) -> set[str]:
        pages = [await walked(run, path, sort=sort, **asked) for sort in SORTS]
        assert all(len(page) == len(pages[0]) for page in pages)
        return {each["sessionId"] for each in pages[0]}

    assert await listed(path) == {mine, shown}
    assert await listed(path, userId="u2") == {shown}
    assert await listed("/v1/sessions") == {mine, shown}
    assert await listed("/v1/sessions", userId="u2") == set()
    for method in ("GET", "DELETE"):
        refused = await run.client.request(method, f"/v1/sessions/{mine}?userId=u2")
        assert problem(refused) == (404, "session_not_found")
    assert problem(await patch(run, mine, userId="u2", starred=True)) == (404, "session_not_found")
    async with await browser(run, "u2") as client:
        assert len((await client.get(path)).json()["sessions"]) == 1
        assert (await client.get("/v1/sessions")).json()["sessions"] == []
        refused = await client.get("/v1/sessions?userId=u1")
        assert problem(refused) == (403, "token_of_another_user")
    await run.client.delete("/v1/projects/p1/members/u2")
    assert problem(await run.client.get(f"{path}?userId=u2")) == (404, "project_not_found")


async def test_a_user_s_list_leaves_out_the_projects_that_the_user_has_left(
    run: LiveService,
) -> None:
    await opened(run, userId="u2")
    assert len(await walked(run, "/v1/sessions", userId="u2")) == 1
    await run.client.delete("/v1/projects/p1/members/u2")
    for sort in SORTS:
        assert await walked(run, "/v1/sessions", userId="u2", sort=sort) == []


# many at a time ----------------------------------------------------------------------------------


async def batch(run: LiveService, action: str, *ids: str, key: str = "", **more: Any) -> Answer:
    body = {"userId": "u1", "sessionIds": ids, "action": action} | more
    headers = {"Idempotency-Key": key} if key else {}
    answer = await run.client.post("/v1/sessions/batch", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_each_session_of_a_batch_has_its_own_result(run: LiveService) -> None:
    ids = [(await opened(run))["sessionId"] for _ in range(3)]
    foreign = (await opened(run, userId="u2"))["sessionId"]
    everything = (ids[0], "none", foreign, *ids[1:])
    for action in ("archive", "restore", "delete"):
        results = (await batch(run, action, *everything, key=action))["results"]
        assert [each["sessionId"] for each in results] == list(everything)
        codes = [each.get("code", each["status"]) for each in results]
        assert codes == ["done", "session_not_found", "session_not_found", "done", "done"]
        assert results[1]["detail"]
        head = await run.service.store.head()
        again = (await batch(run, action, *everything, key=action))["results"]
        assert again == results
        assert await run.service.store.head() == head, "the same request does nothing twice"
        statuses = {
            each["sessionId"]: each["status"]
            for each in await walked(run, "/v1/sessions", status="all")
        }
        expected = {"archive": "archived", "restore": "active"}.get(action)
        assert [statuses.get(each) for each in ids] == [expected] * 3
    other = {"userId": "u2", "sessionIds": [foreign], "action": "delete"}
    reused = await run.client.post(
        "/v1/sessions/batch", json=other, headers={"Idempotency-Key": "delete"}
    )
    assert problem(reused) == (422, "idempotency_key_reused")
    assert (await get(run, f"/v1/sessions/{foreign}"))["status"] == "active"
    for ids in ([], ["x"] * 101):
        body = {"userId": "u1", "sessionIds": ids, "action": "archive"}
        refused = await run.client.post("/v1/sessions/batch", json=body)
        assert problem(refused) == (422, "invalid_request")


async def test_a_browser_changes_its_user_s_sessions_in_its_project(run: LiveService) -> None:
    await run.project("p2", "u1")
    here, there = await opened(run), await opened(run, projectId="p2")
    body = {"sessionIds": [here["sessionId"], there["sessionId"]], "action": "archive"}
    async with await browser(run, "u1") as client:
        results = (await client.post("/v1/sessions/batch", json=body)).json()["results"]
        assert [each["status"] for each in results] == ["done", "refused"]
        listed = (await client.get("/v1/sessions?status=all")).json()["sessions"]
        assert len(listed) == 2, "the list is for all projects of the user"
    chat_only = httpx.AsyncClient(base_url=run.client.base_url, auth=Signed(), timeout=60)
    async with chat_only as client:
        assert (await client.post("/v1/sessions/batch", json=body)).status_code == 200, "as admin"


# the paths of plan chat --------------------------------------------------------------------------


async def test_an_archived_session_takes_no_message_until_it_is_restored(run: LiveService) -> None:
    first = (await run.chat("Hello")).json()["sessionId"]
    path = f"{SESSION}/{first}"
    for _ in range(2):
        archived = await run.client.post(f"{path}/archive?userId=u1")
        assert archived.json()["status"] == "archived", archived.text
    second = (await run.chat("Hello again")).json()["sessionId"]
    assert second != first, "an archived session is not the one that the server finds"
    items = (await run.client.get("/v1/project/p1/timeline?userId=u1")).json()["items"]
    assert {each["sessionId"] for each in items} == {first, second}, "its items stay"
    restored = await run.client.post(f"{path}/restore?userId=u1")
    assert restored.json()["status"] == "active", restored.text
    assert (await run.chat("And again")).json()["sessionId"] == first, "it is the newest one now"


async def test_only_its_user_archives_a_session(run: LiveService) -> None:
    session_id = (await run.chat("Hello")).json()["sessionId"]
    for path in (f"{SESSION}/{session_id}", f"{SESSION}/none"):
        refused = await run.client.post(f"{path}/archive?userId=u2")
        assert problem(refused) == (404, "session_not_found")
    answer = await run.client.post(f"{SESSION}/{session_id}/archive")
    assert answer.status_code == 200, "the tenant's own service may"
