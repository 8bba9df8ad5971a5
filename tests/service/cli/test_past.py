"""`throughline show` and `throughline diff`: what they print of a project's past."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from service.wire import position_of
from tests.running import running
from tests.service.cli.conftest import Command
from tests.service.watching import head_cursor

KEYS = {"k": {"secret": "s" * 16, "tenant": "t1", "scopes": ["read"]}}
Past = Callable[..., tuple[int, Any]]


@pytest.fixture
def life(url: str) -> dict[str, str]:
    """A project with a plan, and what happened later: the ids, and the cursors of the moments."""
    known: dict[str, str] = {}

    async def live() -> None:
        async with running(url) as run:
            await run.project("p1", "u1")
            await run.credit("u1", 600)
            known["before"] = await head_cursor(run)
            plan = (await run.chat("Add a login page")).json()
            known["session"] = plan["sessionId"]
            known["planned"] = await head_cursor(run)
            body = {"userId": "u1", "name": "Login"}
            await run.client.patch(f"/v1/sessions/{plan['sessionId']}", json=body)
            acting = {"userId": "u1", "projectId": "p1", "sessionId": plan["sessionId"]}
            built = await run.client.post("/v1/chat-plan/convert-to-build", json=acting)
            known["build"] = built.json()["buildId"]
            known["built"] = await head_cursor(run)

    anyio.run(live)
    return known


@pytest.fixture
def past(command: Command, url: str, capsys: pytest.CaptureFixture[str]) -> Past:
    """Run a command on the test's database; returns its exit code and its JSON, or its text."""

    def run(*arguments: str, **environment: str) -> tuple[int, Any]:
        settings = {"THROUGHLINE_DATABASE_URL": url, "THROUGHLINE_HMAC_KEYS": json.dumps(KEYS)}
        capsys.readouterr()  # what the service has logged
        code, written = command(*arguments, **settings | environment)
        return code, json.loads(written) if written.startswith("{") else written

    return run


def test_a_timeline_a_session_and_an_account_are_shown_as_they_were(
    past: Past, life: dict[str, str]
) -> None:
    code, then = past("show", "timeline", "p1", "--at", life["planned"])
    assert (code, then["items"][0]["kind"]) == (0, "reply")
    assert then["position"] == position_of(life["planned"])
    assert "activeBuildId" not in then
    code, now = past("show", "timeline", "p1")
    assert now["activeBuildId"] == life["build"]
    assert len(now["items"]) > len(then["items"])
    code, then = past("show", "session", life["session"], "--at", life["planned"])
    assert (then["session"]["isNamed"], then["session"]["status"]) == (False, "active")
    assert [each["kind"] for each in then["messages"]][-1] == "reply"
    code, now = past("show", "session", life["session"], "--at", life["built"])
    assert (now["session"]["name"], now["session"]["status"]) == ("Login", "converted")
    code, then = past("show", "account", "u1", "--at", life["before"])
    assert (then["account"]["availableSeconds"], then["items"]) == (600, [])
    code, now = past("show", "account", "u1", "--at", datetime.now(UTC).isoformat())
    assert (now["account"]["consumedSeconds"] > 0, len(now["items"])) == (True, 1)
    code, now = past("show", "account", "u1", "--at", "0s")
    assert (now["account"]["consumedSeconds"] > 0, len(now["items"])) == (True, 1)


def test_a_diff_says_what_changed_between_two_moments(past: Past, life: dict[str, str]) -> None:
    code, found = past("diff", "--project", "p1", "--from", life["planned"], "--to", life["built"])
    assert code == 0
    assert (found["from"], found["to"]) == (life["planned"], life["built"])
    (session,) = found["sessions"]["changed"]
    assert session["sessionId"] == life["session"]
    assert session["before"]["status"] == "active"
    assert session["after"]["status"] == "converted"
    assert session["after"]["name"] == "Login"
    assert "messageCount" in session["after"], "the message that asked for the build"
    assert "createdAt" not in session["after"]
    assert found["sessions"]["added"] == []
    assert {each["kind"] for each in found["items"]["added"]} == {"user_message", "system_message"}
    assert [each["buildId"] for each in found["builds"]["added"]] == [life["build"]]
    (balance,) = found["balances"]["changed"]
    assert balance["before"]["reservedSeconds"] == 0
    assert balance["after"]["reservedSeconds"] == 300
    assert (balance["userId"], "consumedSeconds" in balance["after"]) == ("u1", False)
    code, whole = past("diff", "--project", "p1", "--from", life["before"])
    assert [each["sessionId"] for each in whole["sessions"]["added"]] == [life["session"]]
    code, nothing = past("diff", "--project", "p1", "--from", life["built"])
    empty: dict[str, list[Any]] = {"added": [], "changed": []}
    assert nothing["sessions"] == nothing["builds"] == nothing["balances"] == empty
    assert nothing["items"] == {"added": []}


def test_a_terminal_gets_a_table(past: Past, life: dict[str, str]) -> None:
    terminal = {"FORCE_COLOR": "1"}
    code, table = past("show", "timeline", "p1", "--at", life["planned"], **terminal)
    assert (code, "user_messa" in table, "Add a login" in table) == (0, True, True)
    _, table = past("show", "account", "u1", **terminal)
    assert "creditedSeconds: 600" in table
    _, table = past("diff", "--project", "p1", "--from", life["planned"], **terminal)
    assert ("status" in table, "converted" in table) == (True, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "timeline", "none"), "there is no project none at this moment."),
        (("show", "session", "none"), "there is no session none."),
        (("show", "timeline", "p1", "--at", "2020-01-01T00:00:00Z"), "there is no project p1 at"),
        (("show", "account", "u1", "--at", "yesterday"), "This is no moment. Give the option a"),
        (("show", "account", "u1", "--at", "999999d"), "This is no moment. Give the option a"),
        (("show", "account", "u1", "--at", "20261120"), "The log has not come to this moment"),
        (("show", "timeline", "p1", "--at", "2d"), "there is no project p1 at"),
        (("show", "account", "u1", "--at", "9.0123abcd"), "The log does not have the event"),
        (
            ("diff", "--project", "p1", "--from", "9", "--to", "8"),
            "--from is after --to. Name the earlier moment first.",
        ),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(
    past: Past, life: dict[str, str], arguments: tuple[str, ...], said: str
) -> None:
    code, written = past(*arguments)
    assert code == 2
    assert said in written
    assert written.count("\n") == 1


def test_too_much_to_fold_and_an_unnamed_tenant_are_said(past: Past, life: dict[str, str]) -> None:
    code, written = past("show", "timeline", "p1", THROUGHLINE_PAST_EVENTS="3")
    assert code == 2
    assert "more than 3 events" in written
    both = json.dumps(KEYS | {"k2": KEYS["k"] | {"tenant": "t2"}})
    code, written = past("show", "timeline", "p1", THROUGHLINE_HMAC_KEYS=both)
    assert (code, "known are t1, t2" in written) == (2, True)
    code, _ = past("show", "timeline", "p1", "--tenant", "t1", THROUGHLINE_HMAC_KEYS=both)
    assert code == 0
    code, written = past("show", "timeline", "p1", "--tenant", "t2", THROUGHLINE_HMAC_KEYS=both)
    assert (code, "there is no project p1" in written) == (2, True)
