"""The example build worker runs a command for each build. A killed worker loses no build."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import scripts
from scripts import build_worker
from service.wire import BEGINNING
from tests.running import KEYS, LiveService, running
from tests.service import watching

WORKER = Path(scripts.__path__[0]) / "build_worker.py"
GOOD = """
import json, sys
build = json.load(sys.stdin)
print("writing " + build["prompt"])
print(json.dumps({"phase": "build", "title": "compiling", "userVisible": False}))
print(json.dumps({"phase": "deploy", "title": "out", "versionId": "v1", "seconds": 12}))
"""
NEVER = "import time; print('begun', flush=True); time.sleep(600)"

BAD = "print('half way'); print('No space left'); raise SystemExit(3)"


@asynccontextmanager
async def worker(run: LiveService, *command: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A worker process named w1, which is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(WORKER), "--url", str(run.client.base_url), "--key", "k1"),
        *("--worker", "w1", "--", *command),
        env=os.environ | {"THROUGHLINE_WORKER_SECRET": KEYS["k1"].secret.get_secret_value()},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def begin(run: LiveService) -> str:
    body = {"userId": "u1", "projectId": "p1", "message": "A shop for tea"}
    return str((await run.client.post("/v1/builds", json=body)).json()["buildId"])


async def ended(run: LiveService, build_id: str) -> dict[str, Any]:
    """The build, after its project was unlocked."""
    async with watching.opened(run, since=BEGINNING, userId="u1") as stream:
        while (event := await stream.next())[0] != "lock" or event[1]["activeBuildId"]:
            pass
    return dict((await run.client.get(f"/v1/builds/{build_id}", params={"userId": "u1"})).json())


async def test_the_worker_builds_waiting_builds_and_reports_the_command_s_output(url: str) -> None:
    async with running(url) as run:
        await run.project()
        await run.credit()
        build_id = await begin(run)
        async with worker(run, sys.executable, "-c", GOOD):
            build = await ended(run, build_id)
        assert (build["status"], build["versionId"], build["workerId"]) == ("succeeded", "v1", "w1")
        assert (await run.account())["consumedSeconds"] == 12
        answer = await run.client.get(f"/v1/builds/{build_id}/events", params={"userId": "u1"})
        output = [(each["phase"], each["type"], each["title"]) for each in answer.json()["events"]]
        assert output == [
            ("development", "progress", "writing A shop for tea"),
            ("deploy", "progress", "out"),
            ("deploy", "completed", "Deployed"),
        ]


async def test_a_cancelled_build_stops_its_silent_command(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker runs here, in a thread of its own, so that it may look often."""
    monkeypatch.setattr(build_worker, "INSPECT_SECONDS", 0.01)
    async with running(url) as run:
        await run.project()
        await run.credit()
        build_id = await begin(run)
        build = (await run.client.get(f"/v1/builds/{build_id}")).json()
        service = build_worker.Service(
            str(run.client.base_url), "k1", KEYS["k1"].secret.get_secret_value()
        )
        command = [sys.executable, "-c", NEVER]
        working = asyncio.create_task(
            asyncio.to_thread(build_worker.build_one, service, build, command)
        )
        async with watching.opened(run, since=BEGINNING, userId="u1") as stream:
            while (await stream.next())[1].get("kind") != "build_reference":
                pass
        cancelled = await run.client.post(f"/v1/builds/{build_id}/cancel")
        assert cancelled.json()["code"] == "cancelled"
        async with asyncio.timeout(20):
            await working
        assert build_worker._children == []


async def test_a_command_that_does_not_start_fails_its_build(url: str) -> None:
    async with running(url) as run:
        await run.project()
        await run.credit()
        build_id = await begin(run)
        build = (await run.client.get(f"/v1/builds/{build_id}")).json()
        service = build_worker.Service(
            str(run.client.base_url), "k1", KEYS["k1"].secret.get_secret_value()
        )
        await asyncio.to_thread(build_worker.build_one, service, build, ["/no/such/command"])
        failed = (await run.client.get(f"/v1/builds/{build_id}")).json()
        assert (failed["status"], failed["error"]) == (
            "failed",
            "The worker cannot start its command: No such file or directory.",
        )


def test_the_worker_does_not_begin_with_a_command_that_cannot_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script = tmp_path / "build.sh"
    script.write_text("#!/bin/sh\n")
    asked = ["build_worker", "--url", "http://127.0.0.1:1", "--key", "k1", "--", str(script)]
    monkeypatch.setattr(sys, "argv", asked)
    monkeypatch.setenv("THROUGHLINE_WORKER_SECRET", "a-secret-of-a-worker")
    with pytest.raises(SystemExit) as ended:
        build_worker.main()
    assert ended.value.code == 2
    assert f"{script} is not a program that can be run" in capsys.readouterr().err


async def test_a_failed_command_fails_its_build_with_its_last_line(url: str) -> None:
    async with running(url) as run:
        await run.project()
        await run.credit()
        build_id = await begin(run)
        async with worker(run, sys.executable, "-c", BAD):
            build = await ended(run, build_id)
        assert (build["status"], build["error"]) == ("failed", "No space left")


async def test_a_killed_worker_resumes_its_build(url: str, tmp_path: Path) -> None:
    """The first run of the command hangs; the worker is killed -9; the next worker finishes."""
    gate = tmp_path / "gate"
    command = (
        "import pathlib, sys, time\n"
        "print('begun', flush=True)\n"
        f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)\n"
        "print('done', flush=True)\n"
    )
    async with running(url) as run:
        await run.project()
        await run.credit()
        build_id = await begin(run)
        async with worker(run, sys.executable, "-c", command) as first:
            async with watching.opened(run, since=BEGINNING, userId="u1") as stream:
                while (await stream.next())[1].get("kind") != "build_reference":
                    pass
            first.kill()
            await first.wait()
        gate.touch()
        async with worker(run, sys.executable, "-c", command):
            build = await ended(run, build_id)
        assert (build["status"], build["versionId"]) == ("succeeded", build_id)
        answer = await run.client.get(f"/v1/builds/{build_id}/events", params={"userId": "u1"})
        titles = [each["title"] for each in answer.json()["events"]]
        assert titles == ["begun", "done", "Deployed"], "the first report is known by its id"


def test_a_silent_command_is_reported_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_worker, "INSPECT_SECONDS", 0.01)
    read, write = os.pipe()
    with os.fdopen(read) as stdout, os.fdopen(write, "w") as command:
        gathered = build_worker._gathered(stdout)
        assert next(gathered) == []
        command.write("a word\n")
        command.flush()
        while not (lines := next(gathered)):
            pass
        assert lines == ["a word"]
        command.close()
        assert [lines for lines in gathered if lines] == []
    alive = build_worker.Reporter(build_worker.Service("", "", ""), "b1").alive()
    assert not alive["userVisible"]
    assert alive["phase"] != "development", "the report makes no item"


async def test_the_worker_reconnects_when_the_service_is_back(url: str) -> None:
    async with running(url) as run:
        await run.project()
        await run.credit()
        address = str(run.client.base_url)
        port = int(address.rsplit(":", 1)[1])
        async with worker(run, sys.executable, "-c", GOOD) as process:
            await run.client.get("/healthz")
            await _stopped(run)
            async with running(url, port=port) as again:
                build_id = await begin(again)
                build = await ended(again, build_id)
            assert build["status"] == "succeeded"
            assert process.returncode is None


async def _stopped(run: LiveService) -> None:
    """Wait until the service has left its port."""
    run.server.handle_exit(15, None)
    async with asyncio.timeout(20):
        while True:
            try:
                await run.client.get("/healthz")
            except Exception:  # noqa: BLE001 - any error of a connection
                return


async def test_the_worker_names_the_secret_that_it_needs(url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(WORKER), "--url", "http://127.0.0.1:1", "--key", "k1", "--", "true"),
        env={key: value for key, value in os.environ.items() if not key.startswith("THROUGHLINE")},
        stderr=asyncio.subprocess.PIPE,
    )
    _, output = await process.communicate()
    assert process.returncode == 2
    assert b"THROUGHLINE_WORKER_SECRET" in output
