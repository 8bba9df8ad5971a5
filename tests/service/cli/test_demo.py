"""The demo of a first run: its projects, its session and its link."""

import asyncio
import time
from dataclasses import replace

import pytest

from service.access.keys import KEY_ID, TENANT
from service.access.overload import ADMITTED_AT_ONCE
from service.cli.calls import SignedCalls
from service.cli.demo import first_run
from service.postgres import connections
from tests.running import KEYS, PATIENT, LiveService, running
from tests.service.access.test_browser_sessions import redeem
from tests.service.http.test_true_errors import counted

DEMO = {KEY_ID: KEYS["k1"].model_copy(update={"tenant": TENANT})}


async def test_the_demo_is_the_same_at_each_start_until_its_project_is_erased(url: str) -> None:
    keys = {"k1": KEYS["k1"].model_copy(update={"tenant": TENANT})}
    async with running(url, hmac_keys=keys) as run:
        first = await first_run.prepare(run.service)
        assert first.project_id == "demo"
        assert await first_run.prepare(run.service) == first
        erased = await run.client.delete("/v1/projects/demo")
        assert erased.status_code < 300
        second = await first_run.prepare(run.service)
        assert second.project_id == "demo-2"
        assert await first_run.prepare(run.service) == second
        body = {"userId": first_run.USER_ID, "projectId": second.project_id, "message": "Hello"}
        answer = await run.client.post("/v1/chat-plan", json=body)
        assert answer.status_code == 200
        account = await run.account(first_run.USER_ID)
        assert account["creditedSeconds"] == first_run.CREDIT_SECONDS


async def fill(live: LiveService, *, is_offline: bool, patience: float = 0.0) -> None:
    """What a start does: prepare, then fill."""
    await first_run.prepare(live.service)
    calls = SignedCalls(str(live.client.base_url), KEY_ID, DEMO[KEY_ID], patience=patience)
    await asyncio.to_thread(first_run.fill, calls, is_offline=is_offline, with_workers=True)


async def test_the_first_start_makes_a_project_with_something_to_see(url: str) -> None:
    async with (
        running(url, hmac_keys=DEMO) as run,
        await connections.connect(url, as_service=False) as owner,
    ):
        await fill(run, is_offline=True)
        happened = await counted(owner)
        assert happened["ReplyCompleted"] == 3
        expected = ("BuildQueued", "RunQueued", "PromptCreated", "PromptVersionAdded")
        assert [happened[each] for each in expected] == [1, 1, 1, 2]
        await fill(run, is_offline=True)
        assert await counted(owner) == happened, "the second start makes nothing"


async def test_a_service_that_has_too_much_to_do_is_filled_later(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running(url, hmac_keys=DEMO, capacity=replace(PATIENT, seconds=0.01)) as run,
        await connections.connect(url, as_service=False) as owner,
    ):
        others, loop, pauses = run.service.overload, asyncio.get_running_loop(), list[float]()
        for n in range(ADMITTED_AT_ONCE):
            await others.admit(f"r{n}")

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            for n in range(ADMITTED_AT_ONCE):
                loop.call_soon_threadsafe(others.admitted, f"r{n}")

        monkeypatch.setattr(time, "sleep", pause)
        await fill(run, is_offline=True, patience=60.0)
        assert pauses[0] == others.retry_seconds
        assert (await counted(owner))["ReplyCompleted"] == 3


async def test_nothing_that_costs_money_is_made_without_being_asked(url: str) -> None:
    async with (
        running(url, hmac_keys=DEMO) as run,
        await connections.connect(url, as_service=False) as owner,
    ):
        await fill(run, is_offline=False)
        happened = await counted(owner)
        assert happened["PromptVersionAdded"] == 2, "the control"
        assert happened["ReplyStarted"] == happened["BuildQueued"] == 0
        assert not run.model.requests


async def test_the_link_signs_the_demo_s_user_in(url: str) -> None:
    async with running(url, hmac_keys=DEMO) as run:
        await first_run.prepare(run.service)
        link = await first_run.sign_in_url(run.service, str(run.client.base_url))
        answer = await redeem(run, link.partition("/?code=")[2])
        assert (answer.status_code, answer.json()["userId"]) == (201, first_run.USER_ID)
