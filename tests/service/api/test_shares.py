"""A shared plan: everyone with the link reads this plan, and nothing else, until the share ends."""

from typing import Any

import httpx
import pytest

from domain.errors import AddressLimitReached, ShareLimitReached
from service.access import share_links
from service.access.share_links import ShareReads, digest_of
from tests.projections.generated import owning
from tests.running import LiveService, problem


@pytest.fixture
async def run(bare: LiveService) -> LiveService:
    await bare.project("p1", "u1", "u2")
    await bare.credit()
    return bare


async def share(
    run: LiveService, plan: dict[str, Any], key: str | None = None, **more: Any
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    path = f"/v1/chat-plan/replies/{plan['messageId']}/share"
    return await run.client.post(path, json={"userId": "u1"} | more, headers=headers)


def anybody(run: LiveService) -> httpx.AsyncClient:
    """A client that signs nothing."""
    return httpx.AsyncClient(base_url=run.client.base_url, timeout=60)


async def test_a_link_shows_exactly_one_plan_until_it_is_revoked(run: LiveService) -> None:
    plan = (await run.chat("Add a login page")).json()
    await run.chat("Why is the zebra slow?", sessionId=plan["sessionId"])
    made = await share(run, plan, key="once")
    assert made.status_code == 201, made.text
    again = await share(run, plan, key="once")
    assert again.json() == made.json(), "the same request has the same link"
    link = made.json()["url"]
    token = link.rpartition("/")[2]
    async with anybody(run) as client:
        answer = await client.get(link)
        assert answer.status_code == 200, answer.text
        seen = answer.json()
        assert set(seen) == {"mode", "data", "timestamp", "sharedAt", "expiresAt"}
        assert (seen["mode"], seen["data"]) == (plan["mode"], plan["data"])
        assert answer.headers["X-Robots-Tag"] == "noindex, nofollow"
        assert answer.headers["Cache-Control"] == "no-store"
        for asked in ({"params": {"format": "markdown"}}, {"headers": {"Accept": "text/markdown"}}):
            text = await client.get(link, **asked)  # type: ignore[arg-type]
            assert text.headers["Content-Type"].startswith("text/markdown")
            assert plan["data"]["summary"] in text.text
            assert "zebra" not in text.text
        log = (await run.client.get("/v1/events")).text
        assert token not in log, "the log has the digest alone"
        assert digest_of(token) in log
        revoked = await run.client.delete(f"/v1/shares/{made.json()['shareId']}?userId=u2")
        assert revoked.status_code == 200, revoked.text
        gone = await client.get(link)
        assert problem(gone) == (404, "share_not_found")
        unknown = await client.get(f"/v1/shares/{'x' * 43}")
        assert gone.json() == unknown.json()
        assert gone.headers["Cache-Control"] == "no-store"
        assert (await client.get("/v1/shares/short")).json() == gone.json()
    twice = await run.client.delete(f"/v1/shares/{made.json()['shareId']}?userId=u1")
    assert problem(twice) == (404, "share_not_found")


async def test_a_share_ends_with_its_time_with_its_session_and_with_its_project(
    run: LiveService, url: str
) -> None:
    plan = (await run.chat("Add a login page")).json()
    old, kept = (await share(run, plan)).json(), (await share(run, plan)).json()
    assert old["url"] != kept["url"]
    async with owning(url) as owner:  # a week passes
        await owner.execute(
            "update app.shares set expires_at = now() where share_id = %s", (old["shareId"],)
        )
    async with anybody(run) as client:
        assert problem(await client.get(old["url"])) == (404, "share_not_found")
        assert (await client.get(kept["url"])).status_code == 200
        await run.client.delete(f"/v1/chat-plan/session/{plan['sessionId']}?userId=u1")
        assert problem(await client.get(kept["url"])) == (404, "share_not_found")
        plan = (await run.chat("Add a login page")).json()
        last = (await share(run, plan)).json()
        await run.client.delete("/v1/projects/p1")
        assert problem(await client.get(last["url"])) == (404, "share_not_found")


async def test_only_a_member_shares_and_only_a_whole_plan_for_at_most_90_days(
    run: LiveService,
) -> None:
    plan = (await run.chat("Add a login page")).json()
    (offered,) = (each for each in plan["availableActions"] if each["type"] == "share")
    assert offered["payload"] == {"messageId": plan["messageId"]}
    talk = (await run.chat("Hello")).json()
    assert problem(await share(run, talk)) == (404, "plan_not_found")
    assert problem(await share(run, plan, userId="u3")) == (404, "project_not_found")
    for seconds in (59, 90 * 86_400 + 1):
        refused = await share(run, plan, ttlSeconds=seconds)
        assert problem(refused) == (422, "invalid_request")
    made = (await share(run, plan)).json()
    path = f"/v1/shares/{made['shareId']}?userId=u3"
    assert problem(await run.client.delete(path)) == (404, "project_not_found")
    await run.client.put("/v1/projects/p1/members/u3", json={"role": "viewer"})
    assert problem(await share(run, plan, userId="u3")) == (403, "viewer_only")
    assert problem(await run.client.delete(path)) == (403, "viewer_only")


@pytest.mark.usefixtures("url")
async def test_a_link_and_an_address_are_read_so_often_and_no_more(
    run: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share_links, "MOST_OF_LINK", 2)
    monkeypatch.setattr(share_links, "MOST_OF_ADDRESS", 5)
    plan = (await run.chat("Add a login page")).json()
    links = [(await share(run, plan)).json()["url"] for _ in range(2)]
    unknown = f"/v1/shares/{'x' * 43}"
    async with anybody(run) as client:
        for link, expected in ((links[0], 200), (unknown, 404)):
            for _ in range(2):
                assert (await client.get(link)).status_code == expected
            over = await client.get(link)
            assert problem(over) == (429, "share_limit_reached")
            assert 0 < int(over.headers["Retry-After"]) <= 3_600
            assert over.headers["RateLimit-Policy"] == '"share";q=2;w=3600'
            assert over.headers["Cache-Control"] == "no-store"
        assert (await client.get(links[1])).status_code == 200, "another link has its own count"
        over = await client.get(links[1])
        assert problem(over) == (429, "address_limit_reached")


def test_the_reads_of_an_hour_are_counted_from_the_first_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(share_links, "MOST_OF_LINK", 2)
    monkeypatch.setattr(share_links, "MOST_OF_ADDRESS", 3)
    now = 100.0
    reads = ShareReads(clock=lambda: now)
    reads.count("link", "1.2.3.4")
    now = 3_000.5
    reads.count("link", "1.2.3.5")
    with pytest.raises(ShareLimitReached) as refused:
        reads.count("link", "1.2.3.6")
    assert refused.value.retry_after_seconds == 700
    for link in ("a", "b"):
        reads.count(link, "1.2.3.4")
    with pytest.raises(AddressLimitReached):
        reads.count("c", "1.2.3.4")
    now = 3_700.0
    reads.count("link", "1.2.3.4")
    reads.count("link", "1.2.3.4")
    with pytest.raises(ShareLimitReached):
        reads.count("link", "1.2.3.4")
