"""The views of builds for analysts: they join several read models, each rebuilt alone."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from projections import PROJECTIONS
from projections.projection import Projection, rebuild
from service.postgres.analysts import add_analyst, remove_analyst
from tests.projections.generated import owning
from tests.running import LiveService, running

AT = "2026-01-01T00:00:00+00:00"


async def story(run: LiveService) -> str:
    """Build and deploy a plan; returns the build's id."""
    await run.project()
    await run.credit()
    plan = (await run.chat("Add a login page")).json()
    body = {"userId": "u1", "projectId": "p1", "sessionId": plan["sessionId"]}
    built = await run.client.post("/v1/chat-plan/convert-to-build", json=body)
    build_id = str(built.json()["buildId"])
    reports: list[dict[str, Any]] = [
        {"eventId": "1", "phase": "setup", "type": "progress", "userVisible": False},
        {"eventId": "2", "phase": "development", "type": "progress"},
        {"eventId": "3", "phase": "deploy", "type": "completed", "versionId": "v1"},
    ]
    events = [each | {"title": f"No. {each['eventId']}", "at": AT} for each in reports]
    answer = await run.client.post(f"/v1/builds/{build_id}/events", json={"events": events})
    assert answer.json()["status"] == "succeeded"
    return build_id


async def rows(url: str, view: str) -> list[dict[str, Any]]:
    """The rows of a view, as an analyst reads them."""
    name = f"analyst_{uuid4().hex}"
    async with owning(url) as owner:
        dsn = (await add_analyst(owner, name, "t1", known=["t1"])).conninfo
        async with (
            await psycopg.AsyncConnection.connect(dsn) as analyst,
            analyst.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(f"table analytics.{view}".encode())
            read = await cursor.fetchall()
        await remove_analyst(owner, name)
    return read


async def test_the_views_show_the_history_of_a_build(url: str) -> None:
    async with running(url) as run:
        build_id = await story(run)
    (build,) = await rows(url, "project_builds")
    assert (build["status"], build["version_id"]) == ("succeeded", "v1")
    assert build["duration_ms"] >= 0
    (version,) = await rows(url, "project_versions")
    assert (version["version_id"], version["build_id"]) == ("v1", build_id)
    assert len(await rows(url, "project_build_events")) == 3
    (session,) = await rows(url, "project_chat_plan_sessions")
    assert (session["status"], session["build_id"]) == ("converted", build_id)

    timeline = sorted(await rows(url, "project_timeline"), key=lambda row: row["position"])
    shown = [(row["kind"], row["timeline_status"], row["build_status"]) for row in timeline]
    assert shown == [
        ("system_message", "planning", None),
        ("user_message", "planning", None),
        ("reply", "planning", None),
        ("user_message", "deployed", "succeeded"),
        ("system_message", "planning", "succeeded"),
        ("build_reference", "deployed", "succeeded"),
        ("deployment", "deployed", "succeeded"),
        ("system_message", "deployed", "succeeded"),
    ]
    reply = timeline[2]
    assert (reply["in_reply_to"], reply["billed_seconds"]) == (timeline[1]["item_id"], 1)
    assert (reply["locale"], reply["language"]) == ("en", "en")
    assert timeline[3]["converted_from_session_id"] == session["session_id"]
    chat = {row["kind"]: row for row in await rows(url, "project_chat_with_builds")}
    events = chat["build_reference"]["build_events"]
    assert [event["event_id"] for event in events] == ["2", "3"], "the events that users may see"
    assert chat["deployment"]["build_events"] is None


@pytest.fixture(scope="module")
async def built(shared_url: str) -> str:
    """A database with the history of a build. The tests rebuild its read models, and write nothing
    else."""
    async with running(shared_url) as run:
        await story(run)
    return shared_url


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
async def test_a_read_model_can_be_rebuilt_alone_without_a_change_of_its_views(
    built: str, projection: Projection
) -> None:
    before = await rows(built, "project_chat_with_builds")
    assert len(before) == 8
    async with owning(built) as owner:
        await rebuild(owner, projection)
    assert await rows(built, "project_chat_with_builds") == before
