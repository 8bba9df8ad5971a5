"""Search: names and messages in four languages, with highlights, behind every wall."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest

from domain.deciders import session
from projections import words
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import Transaction
from service.jobs import projections as jobs
from service.postgres.connections import tenant_transaction
from tests.running import LiveService, SharedService, Signed, problem
from tests.service.api.test_forks import appended, ask, opened


@pytest.fixture
async def run(shared_service: SharedService) -> AsyncIterator[LiveService]:
    async with shared_service.tenant() as started:
        await started.project("p1", "u1", "u2")
        await started.credit()
        yield started


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The background brings the read model up to the log sooner."""
    monkeypatch.setattr(jobs, "POLL", 0.02)


async def get(run: LiveService, q: str, project_id: str = "p1", **asked: Any) -> httpx.Response:
    head = await run.service.store.head()
    params: dict[str, Any] = {"q": q, "userId": "u1", "minPosition": head} | asked
    return await run.client.get(f"/v1/projects/{project_id}/search", params=params)


async def found(run: LiveService, q: str, **asked: Any) -> list[dict[str, Any]]:
    answer = await get(run, q, **asked)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def matches(result: dict[str, Any]) -> list[str]:
    return [each["text"] for each in result["highlights"] if each["isMatch"]]


async def named(run: LiveService, session_id: str, name: str) -> None:
    async def work(transaction: Transaction) -> None:
        stream = session_stream(session_id, "p1")
        state = await transaction.load(stream)
        details = session.Details(name=name, mode=state.mode)
        await transaction.decide(stream, partial(session.change, details=details, revisions=None))

    await run.service.transactions.transact(run.tenant_id, work)


@pytest.mark.parametrize(
    ("locale", "said", "asked", "match"),
    [
        ("en-GB", "The carts were running slowly", "cart run", ["carts", "running"]),
        ("fr", "Les chevaux mangeaient des pommes", "pomme", ["pommes"]),
        ("es-MX", "Las tiendas vendían zapatos", "tienda", ["tiendas"]),
        ("ar", "الكتب في المكتبة", "مكتبة", ["المكتبة"]),
        ("de", "Die Gärten sind grün", "gärten", ["Gärten"]),
    ],
)
async def test_words_are_found_by_their_stems_in_the_language_of_the_message(
    run: LiveService, locale: str, said: str, asked: str, match: list[str]
) -> None:
    await opened(run, "s1", "setup")
    await appended(run, "s1", "a1", role="user", text=said, locale=locale)
    (result,) = await found(run, asked)
    assert (result["sessionId"], result["messageId"]) == ("s1", "a1")
    assert (result["kind"], result["locale"]) == ("user_message", locale)
    assert matches(result) == match
    assert "".join(each["text"] for each in result["highlights"]).strip() in said
    assert await found(run, "zygomorph") == []


async def test_replies_are_found_with_all_their_texts(run: LiveService) -> None:
    plan = await ask(run, "Add a login page")
    step = plan["data"]["plan"]["steps"][0]["title"]
    kinds = {each["messageId"]: each["kind"] for each in await found(run, f'"{step}"')}
    assert kinds[plan["messageId"]] == "reply"


async def test_a_name_is_found_until_it_changes(run: LiveService) -> None:
    await opened(run, "s1", "setup")
    await appended(run, "s1", "a1", role="user", text="Hello")
    assert (await found(run, "hello"))[0]["sessionName"] == "Hello"
    await named(run, "s1", "Les pommes et les stores")
    for stem in ("pomme", "store"):
        (result,) = await found(run, stem)
        assert (result["kind"], result["sessionName"]) == ("session", "Les pommes et les stores")
        assert "messageId" not in result
        assert matches(result) == [f"{stem}s"]
    await named(run, "s1", "Other")
    assert await found(run, "pomme") == []
    assert [each["kind"] for each in await found(run, "other")] == ["session"]


async def test_a_result_without_a_match_in_its_text_has_no_marks(run: LiveService) -> None:
    """A name has stems in all languages, one language after the other. So a phrase can match the
    last stem of a language and the first stem of the next one."""
    await opened(run, "s1", "setup")
    await named(run, "s1", "shop tea")
    for result in await found(run, '"tea shop"'):
        assert result["highlights"] == [{"text": "shop tea", "isMatch": False}]


async def test_results_come_in_pages_newest_first(run: LiveService) -> None:
    await opened(run, "s1", "setup")
    for n in range(5):
        await appended(run, "s1", f"a{n}", role="user", text=f"Tea {n}")
    ids: list[str] = []
    before: dict[str, str] = {}
    while True:
        page = (await get(run, "tea", limit=2, **before)).json()
        ids += [each["messageId"] for each in page["results"]]
        if not page["hasMore"]:
            break
        before = {"before": page["before"]}
    assert ids == ["a4", "a3", "a2", "a1", "a0"]


async def test_a_search_can_be_of_one_mode(run: LiveService) -> None:
    for mode in ("setup", "idea"):
        await opened(run, mode, mode)
        await appended(run, mode, f"in {mode}", role="user", text="Tea")
    assert [each["sessionId"] for each in await found(run, "tea", mode="idea")] == ["idea"]
    assert len(await found(run, "tea")) == 2
    assert problem(await get(run, "tea", mode="other")) == (422, "invalid_request")


async def test_a_private_session_is_found_by_its_user_alone(run: LiveService) -> None:
    await opened(run, "private-s1", "prompt")
    await named(run, "private-s1", "Quillwort")
    await appended(run, "private-s1", "a1", role="user", text="Tell me of quillworts")
    assert {each["sessionId"] for each in await found(run, "quillwort")} == {"private-s1"}
    assert await found(run, "quillwort", userId="u2") == []
    unnamed = await run.client.get("/v1/projects/p1/search", params={"q": "quillwort"})
    assert unnamed.json()["results"] == [], "also not by the tenant's own service"


async def test_what_was_erased_is_not_found_any_more(run: LiveService) -> None:
    await opened(run, "s1", "setup")
    await named(run, "s1", "Quillwort")
    await appended(run, "s1", "a1", role="user", text="Tell me of quillworts")
    assert len(await found(run, "quillwort")) == 2
    await run.client.delete("/v1/chat-plan/session/s1?userId=u1")
    assert await found(run, "quillwort") == []
    async with tenant_transaction(run.service.pool, run.tenant_id) as connection:
        left = await (await connection.execute("select from app.words")).fetchall()
    assert left == []


async def test_nothing_of_another_project_or_tenant_is_found(run: LiveService) -> None:
    await run.project("p2", "u1")
    await opened(run, "s1", "setup")
    await appended(run, "s1", "a1", role="user", text="Quillwort")
    assert await found(run, "quillwort", project_id="p2") == []
    assert problem(await get(run, "quillwort", userId="u3")) == (404, "project_not_found")
    params = {"q": "quillwort", "userId": "u1"}
    path = "/v1/projects/p1/search"
    foreign = await run.client.get(path, params=params, auth=Signed("k2"))
    assert problem(foreign) == (404, "project_not_found")


async def test_the_statement_returns_nothing_of_another_tenant_whatever_it_is_asked(
    run: LiveService,
) -> None:
    await opened(run, "s1", "setup")
    await appended(run, "s1", "a1", role="user", text="Quillwort")
    assert await found(run, "quillwort"), "the words are in the read model"
    asked: dict[str, Any] = {"query": "quillwort", "mode": None, "before": 2**62, "limit": 50}
    own = run.tenant_id
    for role, tenant_id, project_id, count in (
        (own, own, "p1", 1),
        ("t2", own, "p1", 0),
        (own, "t2", "p1", 0),
        (own, own, "p2", 0),
        ("", own, "p1", 0),
    ):
        async with tenant_transaction(run.service.pool, role) as connection:
            rows = await words.search(
                connection, tenant_id=tenant_id, project_id=project_id, user_id="u1", **asked
            )
            assert len(rows) == count, (role, tenant_id, project_id)


@pytest.mark.parametrize(
    "q",
    ["'", "!!!", "a & | b", "(((", "<->", "a:*", "\\", "%", "the", '"', "-", "' or 1=1 --", "🐢"],
)
async def test_any_text_is_a_query(run: LiveService, q: str) -> None:
    await opened(run, "s1", "setup")
    await appended(run, "s1", "a1", role="user", text=f"{q} b <b>bold</b> \x01 \x02")
    assert (await get(run, q)).status_code == 200
    for result in await found(run, "bold"):
        assert matches(result) == ["bold"]


async def test_a_query_has_a_size_and_no_nul(run: LiveService) -> None:
    for q in ("", "\0", "a" * 501, "é" * 1_000):
        assert problem(await get(run, q)) == (422, "invalid_request")
    assert problem(await get(run, "a " * 5_000)) == (414, "uri_too_long")


async def test_a_message_of_any_size_is_found_by_its_beginning(run: LiveService) -> None:
    await opened(run, "s1", "setup")
    text = "quillwort " + " ".join(chr(0x10000 + n) for n in range(60_000))
    await appended(run, "s1", "a1", role="user", text=text)
    assert len(await found(run, "quillwort")) == 1
