"""Browser tokens: the requests that a token allows, its life time, and invalid tokens."""

import hmac
import json
import time
from base64 import urlsafe_b64encode
from typing import Any

import httpx
import jwt
import pytest

from service.access.browser_tokens import AUDIENCE, ISSUER
from service.app import OPERATIONS
from service.model.offline.app import OfflineModel
from service.wire import BEGINNING
from tests.running import KEYS, Event, LiveService, SharedService, events_of, problem, running
from tests.service import watching


def derived(key_id: str) -> bytes:
    """The secret of the tokens of a key."""
    secret = KEYS[key_id].secret.get_secret_value().encode()
    return hmac.digest(secret, b"throughline browser token v1", "sha256")


DERIVED = derived("k1")
ASK = {"userId": "u1", "projectId": "p1", "message": "Add a login page"}
TIMELINE = "/v1/project/p1/timeline"


@pytest.fixture
async def run(run: LiveService) -> LiveService:
    """The service with a second member of the project p1, and with a second project."""
    await run.client.put("/v1/projects/p1/members/u2", json={"role": "owner"})
    await run.project("p2", "u1")
    return run


async def mint(run: LiveService, user_id: str = "u1", project_id: str = "p1", **more: Any) -> str:
    body = {"userId": user_id, "projectId": project_id} | more
    answer = await run.client.post("/v1/tokens", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def browser(run: LiveService, token: str = "") -> httpx.AsyncClient:
    """A client that signs nothing."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    base = run.client.base_url
    return httpx.AsyncClient(base_url=base, headers=headers, timeout=60, verify=False)  # noqa: S501 - no TLS here


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u1", "prj": "p1", "iat": now, "exp": now + 60}
    return {name: value for name, value in (good | changed).items() if value is not None}


def part(value: Any) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed(
    secret: bytes = DERIVED, head: dict[str, Any] | None = None, kid: Any = "k1", **changed: Any
) -> str:
    """A token with any claims, signed by hand."""
    content = f"{part({'alg': 'HS256', 'kid': kid} | (head or {}))}.{part(claims(**changed))}"
    signature = hmac.digest(secret, content.encode(), "sha256")
    return f"{content}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


# requests that a token allows --------------------------------------------------------------------


async def test_a_browser_reads_and_chats_with_its_token(run: LiveService) -> None:
    async with browser(run, await mint(run)) as client:
        headers = {"Accept": "text/event-stream"}
        answer = await client.post("/v1/chat-plan", json=ASK, headers=headers)
        final = events_of(answer.text)[-1][1]
        assert final["subtype"] == "success"
        page = await client.get(TIMELINE)
        assert page.json()["items"][0]["id"] == final["messageId"], "without userId it is its own"
        session = await client.get(f"/v1/chat-plan/session/{final['sessionId']}")
        assert session.json()["userId"] == "u1"
        reply = await client.get(f"/v1/chat-plan/replies/{final['messageId']}")
        assert reply.json()["final"] == final


@pytest.mark.parametrize("way", ["ticket", "cookie"])
async def test_an_event_source_brings_its_token_as_a_ticket_or_a_cookie(
    run: LiveService, way: str
) -> None:
    token = await mint(run)
    await run.chat("Hello")
    params = {"ticket": token} if way == "ticket" else {}
    async with browser(run) as client:
        if way == "cookie":
            client.cookies.set("throughline", token)
        origin = {"Last-Event-ID": BEGINNING}
        path = f"{TIMELINE}/stream"
        async with client.stream("GET", path, params=params, headers=origin) as answer:
            assert answer.status_code == 200
            _, event = await watching.Stream(answer).read(2)
            assert event[1]["userMessage"]["text"] == "Hello", "after the greeting"


async def test_the_cookie_of_a_token_is_for_our_reads_alone(run: LiveService) -> None:
    body = {"userId": "u1", "projectId": "p1", "ttlSeconds": 60}
    answer = await run.client.post("/v1/tokens", json=body)
    cookie = answer.headers["set-cookie"]
    for word in ("throughline=", "Max-Age=60", "Path=/v1", "HttpOnly", "Secure", "SameSite=strict"):
        assert word in cookie
    async with browser(run) as client:
        client.cookies.set("throughline", answer.json()["token"])
        assert (await client.get(TIMELINE)).status_code == 200
        written = await client.post("/v1/chat-plan", json=ASK)
        assert problem(written) == (401, "not_authenticated"), "a cookie is sent by any page"
        ticket = {"ticket": answer.json()["token"]}
        written = await client.post("/v1/chat-plan", json=ASK, params=ticket)
        assert written.status_code == 401


# requests that a token does not allow ------------------------------------------------------------


async def test_a_token_is_for_one_user_and_one_project(run: LiveService) -> None:
    mine = (await run.chat("Hello", userId="u1")).json()
    other = (await run.chat("Hello", userId="u1", projectId="p2")).json()
    async with browser(run, await mint(run)) as client:
        for user in ({"userId": "u2"}, {"userId": "nobody"}):
            refused = await client.get(TIMELINE, params=user)
            assert problem(refused) == (403, "token_of_another_user")
            refused = await client.post("/v1/chat-plan", json=ASK | user)
            assert problem(refused) == (403, "token_of_another_user")
        for path in (
            "/v1/project/p2/timeline",
            "/v1/project/p2/timeline/stream",
            "/v1/projects/p2/drafts",
            "/v1/projects/p2/versions",
            "/v1/builds?projectId=p2",
            f"/v1/chat-plan/replies/{other['messageId']}",
            f"/v1/chat-plan/replies/{other['messageId']}/stream",
            f"/v1/chat-plan/replies/{other['messageId']}/export",
            f"/v1/chat-plan/session/{other['sessionId']}",
            f"/v1/sessions/{other['sessionId']}",
            "/v1/projects/p2/sessions",
            f"/v1/chat-plan/session/{other['sessionId']}/export",
        ):
            assert problem(await client.get(path)) == (404, "project_not_found"), path
        for path in ("/v1/chat-plan", "/v1/builds", "/v1/chat-plan/convert-to-build"):
            body = ASK | {"projectId": "p2"}
            if "convert" in path:
                body = {"userId": "u1", "projectId": "p2", "sessionId": other["sessionId"]}
            assert problem(await client.post(path, json=body)) == (404, "project_not_found"), path
        changed = await client.patch(f"/v1/sessions/{other['sessionId']}", json={"starred": True})
        assert problem(changed) == (404, "project_not_found")
        opened = {"userId": "u1", "projectId": "p2", "mode": "plan", "reuse": True}
        refused = await client.post("/v1/sessions", json=opened)
        assert problem(refused) == (404, "project_not_found")
        foreign = f"/v1/chat-plan/replies/{other['messageId']}/cancel"
        assert problem(await client.post(foreign)) == (404, "project_not_found")
        assert (await client.get(f"/v1/chat-plan/replies/{mine['messageId']}")).status_code == 200


async def test_a_token_without_a_project_is_for_all_projects_of_its_user(run: LiveService) -> None:
    await run.project("p3", "u2")
    await run.credit("u2")
    answer = await run.client.post("/v1/tokens", json={"userId": "u1"})
    theirs = (await run.chat("Hello", userId="u2", projectId="p3")).json()
    async with browser(run, answer.json()["token"]) as client:
        for project_id in ("p1", "p2"):
            opened = {"userId": "u1", "projectId": project_id, "mode": "plan"}
            assert (await client.post("/v1/sessions", json=opened)).status_code == 201
            page = await client.get(f"/v1/projects/{project_id}/sessions")
            assert page.json()["sessions"], project_id
        for path in (
            "/v1/project/p3/timeline",
            "/v1/project/p3/timeline/stream",
            "/v1/builds?projectId=p3",
            "/v1/projects/p3/sessions",
            f"/v1/sessions/{theirs['sessionId']}",
            f"/v1/chat-plan/replies/{theirs['messageId']}",
        ):
            assert problem(await client.get(path)) == (404, "project_not_found"), path
        refused = await client.get(TIMELINE, params={"userId": "u2"})
        assert problem(refused) == (403, "token_of_another_user")
        assert problem(await client.get("/v1/builds")) == (403, "scope_missing")
        await run.client.delete("/v1/projects/p2/members/u1")
        await run.client.put("/v1/projects/p2/members/u2", json={"role": "owner"})
        await run.client.delete("/v1/projects/p2/members/u1")
        refused = await client.get("/v1/project/p2/timeline")
        assert problem(refused) == (404, "project_not_found"), "no longer a member"


async def test_every_operation_that_is_not_for_browsers_refuses_a_token(run: LiveService) -> None:
    async with browser(run, await mint(run)) as client:
        closed = [each for each in OPERATIONS if not each.browsers and each.credential is None]
        assert {"creditAccount", "mintToken", "claimBuild", "reportBuild"} <= {
            each.name for each in closed
        }
        for each in closed:
            path = each.path.replace("{", "").replace("}", "")
            answer = await client.request(each.method, path, json={})
            assert problem(answer) == (401, "not_authenticated"), each.name


async def test_the_list_of_waiting_builds_is_not_for_browsers(run: LiveService) -> None:
    async with browser(run, await mint(run)) as client:
        assert problem(await client.get("/v1/builds")) == (403, "scope_missing")


def bad(key_id: str) -> dict[str, str]:
    """Invalid tokens of a key, by the reason why each is invalid."""
    now, secret = int(time.time()), derived(key_id)

    def own(head: dict[str, Any] | None = None, **changed: Any) -> str:
        return signed(secret, head, **{"kid": key_id, **changed})

    return {
        "empty": "",
        "no token at all": "x",
        "three parts of nothing": "a.b.c",
        "expired": own(exp=now - 1, iat=now - 300),
        "from the future": own(iat=now + 600, exp=now + 900),
        "never expiring": own(exp=None),
        "another audience": own(aud="someone-else"),
        "no audience": own(aud=None),
        "another issuer": own(iss="someone-else"),
        "no user": own(sub=None),
        "an empty user": own(sub=""),
        "an empty project": own(prj=""),
        "a number for a project": own(prj=7),
        "a list of users": own(sub=["u1"]),
        "another secret": signed(b"x" * 32, kid=key_id),
        "the key's own secret": signed(KEYS[key_id].secret.get_secret_value().encode(), kid=key_id),
        "another tenant's key": own(kid="k2"),
        "an unknown key": own(kid="k9"),
        "no algorithm": f"{part({'alg': 'none', 'kid': key_id})}.{part(claims())}.",
        "another algorithm": jwt.encode(
            claims(), secret * 2, algorithm="HS512", headers={"kid": key_id}
        ),
        "a key in the token": signed(b"mine", {"jwk": {"kty": "oct", "k": "bWluZQ"}}, key_id),
        "a key's address in the token": signed(
            b"mine", {"jku": "https://attacker.example/keys"}, key_id
        ),
        "a way out of a folder": signed(b"", kid="../../../../dev/null"),
        "a list for a key": own(kid=["k1"]),
        "something critical": own(head={"crit": ["exp"]}),
        "far too long": own(sub="u" * 4_000),
    }


async def test_a_token_may_come_from_a_server_whose_clock_is_ahead(run: LiveService) -> None:
    token = signed(derived(run.key_id), kid=run.key_id, iat=int(time.time()) + 60)
    async with browser(run, token) as client:
        assert (await client.get(TIMELINE)).status_code == 200


@pytest.mark.parametrize("way", ["bearer", "ticket", "cookie"])
async def test_all_invalid_tokens_get_the_same_refusal(run: LiveService, way: str) -> None:
    answers: set[str] = set()
    for name, token in bad(run.key_id).items():
        if way != "bearer" and not token:
            continue
        async with browser(run, token if way == "bearer" else "") as client:
            if way == "cookie":
                client.cookies.set("throughline", token)
            params = {"ticket": token} if way == "ticket" else {}
            answer = await client.get(TIMELINE, params=params)
            assert problem(answer) == (401, "not_authenticated"), name
            answers.add(answer.text)
    assert len(answers) == 1


async def test_a_changed_token_is_refused(run: LiveService) -> None:
    token = await mint(run)
    head, body, signature = token.split(".")
    other = part(claims(sub="u2"))
    async with browser(run) as client:
        for changed in (
            f"{head}.{other}.{signature}",
            f"{head}.{body}.{signature[:-2]}AA",
            f"{head}.{body}.",
            f"{head}.{body}",
        ):
            answer = await client.get(TIMELINE, headers={"Authorization": f"Bearer {changed}"})
            assert answer.status_code == 401


@pytest.mark.parametrize("seconds", [0, 9, 901, -1, 10**9, "60", 60.5])
async def test_a_token_is_valid_for_minutes(run: LiveService, seconds: Any) -> None:
    body = {"userId": "u1", "projectId": "p1", "ttlSeconds": seconds}
    assert problem(await run.client.post("/v1/tokens", json=body)) == (422, "invalid_request")


async def test_only_members_get_a_token(run: LiveService) -> None:
    for body in (
        {"userId": "stranger", "projectId": "p1"},
        {"userId": "u2", "projectId": "p2"},
        {"userId": "u1", "projectId": "nothing"},
    ):
        refused = await run.client.post("/v1/tokens", json=body)
        assert problem(refused) == (404, "project_not_found")


# the end of a token ------------------------------------------------------------------------------


async def test_a_removed_member_can_do_nothing_with_a_token(run: LiveService) -> None:
    async with browser(run, await mint(run, "u2")) as client:
        assert (await client.get(TIMELINE)).status_code == 200
        await run.client.delete("/v1/projects/p1/members/u2")
        assert problem(await client.get(TIMELINE)) == (404, "project_not_found")
        said = await client.post("/v1/chat-plan", json=ASK | {"userId": "u2"})
        assert problem(said) == (404, "project_not_found")


async def test_the_streams_of_a_removed_member_are_closed_on_every_server(url: str) -> None:
    """The streams of a reply and of the timeline. The reply continues, and others see its end."""
    model = OfflineModel(pace=0.05)
    async with running(url, model) as one, running(url, model) as two:
        await one.project("p1", "u1", "u2")
        await one.credit()
        headers = {"Accept": "text/event-stream"}
        async with one.client.stream("POST", "/v1/chat-plan", json=ASK, headers=headers) as first:
            own = watching.Stream(first)
            reply_id = (await own.next())[1]["messageId"]
            token = await mint(one, "u2")
            async with browser(two, token) as client:
                path = f"/v1/chat-plan/replies/{reply_id}/stream"
                async with (
                    client.stream("GET", path) as reply,
                    client.stream("GET", f"{TIMELINE}/stream") as timeline,
                ):
                    read, watched = watching.Stream(reply), watching.Stream(timeline)
                    assert (await read.next())[0] == "accepted"
                    await one.client.delete("/v1/projects/p1/members/u2")
                    for cut in (read, watched):
                        events = await cut.rest()
                        assert events[-1][:2] == ("goaway", {"reason": "removed"})
                        assert "final" not in [name for name, _, _ in events]
            assert (await own.rest())[-1][0] == "final"


async def test_a_stream_asks_for_a_new_token_and_ends_with_its_own(run: LiveService) -> None:
    token = run.service.browser_tokens.mint(run.key_id, user_id="u1", project_id="p1", seconds=2)[0]
    async with browser(run, token) as client, client.stream("GET", f"{TIMELINE}/stream") as answer:
        events: list[Event] = await watching.Stream(answer).rest()
    assert [name for name, _, _ in events] == ["renew", "goaway"]
    assert events[1][1] == {"reason": "expired"}
    assert isinstance(events[0][1]["expiresAt"], int)


async def test_a_reply_s_stream_that_is_cut_can_be_joined_with_the_next_token(
    shared_service: SharedService,
) -> None:
    async with shared_service.tenant(OfflineModel(pace=0.04)) as run:
        await run.project()
        await run.credit()
        short = run.service.browser_tokens.mint(
            run.key_id, user_id="u1", project_id="p1", seconds=2
        )[0]
        headers = {"Accept": "text/event-stream"}
        async with (
            browser(run, short) as client,
            client.stream("POST", "/v1/chat-plan", json=ASK, headers=headers) as answer,
        ):
            before = await watching.Stream(answer).rest()
        assert before[-1][:2] == ("goaway", {"reason": "expired"})
        seen = [event for event in before if event[2]]
        reply_id = seen[0][1]["messageId"]
        async with browser(run, await mint(run)) as client:
            path = f"/v1/chat-plan/replies/{reply_id}/stream"
            async with client.stream("GET", path, headers={"Last-Event-ID": seen[-1][2]}) as answer:
                after = await watching.Stream(answer).rest()
        assert [*seen, *after] == await run.join(reply_id)


async def test_no_member_is_watched_after_the_end_of_the_streams(run: LiveService) -> None:
    token = await mint(run)
    async with browser(run, token) as client:
        for _ in range(3):
            async with client.stream("GET", f"{TIMELINE}/stream") as answer:
                await watching.Stream(answer).comment()
    await watching.until(lambda: not run.service.stream_access._waiting)
    await watching.until(lambda: not run.service.merged_streams.open)


async def test_a_withdrawn_key_invalidates_its_tokens(url: str) -> None:
    async with running(url) as run:
        await run.project()
        token = await mint(run)
    keys = {"k2": KEYS["k2"]}
    async with running(url, hmac_keys=keys) as run, browser(run, token) as client:
        assert (await client.get(TIMELINE)).status_code == 401


async def test_both_secrets_are_valid_while_a_secret_rotates(url: str) -> None:
    old = KEYS["k1"]
    new = old.model_copy(update={"secret": KEYS["k2"].secret, "secrets": (old.secret,)})
    async with running(url) as run:
        await run.project()
        token = await mint(run)
    async with running(url, hmac_keys={"k1": new}) as run, browser(run, token) as client:
        assert (await client.get(TIMELINE)).status_code == 200
