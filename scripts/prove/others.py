"""The other clients: build workers, watchers of the log, and the last read of everything."""

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final, Literal

import httpx

from scripts.prove.calls import STREAM, Caller
from scripts.prove.observed import Feed, Link, Reported
from scripts.prove.observed import Final as ObservedFinal

SENT_AGAIN: Final = 0.2
USAGE_REPORTED: Final = 0.7
"""The share of builds whose worker reports what they used, sometimes more than was reserved."""


async def work(caller: Caller, worker_id: str, stop: asyncio.Event) -> None:
    """Build and run what waits, until `stop` is set and nothing waits."""
    while True:
        answer = await caller.call("listBuilds", "GET", "/v1/builds?status=queued&wait=1")
        builds = answer.json["builds"] if answer.status == 200 else []
        for build in builds:
            await _build(caller, worker_id, build["buildId"])
        answer = await caller.call("listOpenRuns", "GET", "/v1/runs?status=queued")
        runs = answer.json["runs"] if answer.status == 200 else []
        for run in runs:
            await _run(caller, worker_id, run["runId"])
        if not builds and not runs and stop.is_set():
            return


async def _run(caller: Caller, worker_id: str, run_id: str) -> None:
    path = f"/v1/runs/{run_id}"
    key = f"{worker_id}-{run_id}"
    claim = await caller.call("claimRun", "POST", f"{path}/claim", {"workerId": worker_id}, key=key)
    if claim.status != 200:
        return
    canary = caller.tenant.canary
    reports: list[dict[str, Any]] = [
        {"type": "step", "stepId": "s1", "prompt": canary, "output": canary},
        {"type": "candidate", "candidateId": "c1", "scores": {"overall": caller.random.random()}},
        {"type": "succeeded", "summary": canary, "findings": [canary]},
    ]
    caller.random.shuffle(reports)
    for number, each in enumerate(reports):
        event = {"eventId": f"{run_id}-{number}", "title": canary} | each
        event["at"] = datetime.now(UTC).isoformat()
        await _report(caller, "run", run_id, event)


async def _build(caller: Caller, worker_id: str, build_id: str) -> None:
    claim = await caller.call(
        "claimBuild",
        "POST",
        f"/v1/builds/{build_id}/claim",
        {"workerId": worker_id},
        key=f"{worker_id}-{build_id}",
    )
    if claim.status != 200:
        return
    is_good = caller.random.random() < 0.8
    end = ("deploy", "completed") if is_good else ("build", "failed")
    steps = (("setup", "started"), ("development", "progress"), end)
    for number, (phase, kind) in enumerate(steps):
        event: dict[str, Any] = {
            "eventId": f"{build_id}-{number}",
            "phase": phase,
            "type": kind,
            "title": f"{phase} for {caller.tenant.canary}",
            "at": datetime.now(UTC).isoformat(),
        }
        if (phase, kind) == ("deploy", "completed"):
            event["versionId"] = f"version-of-{build_id}"
        if (phase, kind) == end and caller.random.random() < USAGE_REPORTED:
            event |= {"seconds": caller.random.randint(0, 400), "tokens": 1_000}
        await _report(caller, "build", build_id, event)


async def _report(
    caller: Caller, work: Literal["build", "run"], work_id: str, event: dict[str, Any]
) -> None:
    """Send a report; sometimes twice, like a worker that was restarted."""
    path = f"/v1/{work}s/{work_id}/events"
    name = "reportBuild" if work == "build" else "reportRun"
    for again in range(2):
        key = f"report-{event['eventId']}-{again}"
        answer = await caller.call(name, "POST", path, {"events": [event]}, key=key)
        if answer.status == 200:
            reported = Reported(
                tenant=caller.tenant.name,
                work=work,
                work_id=work_id,
                event_id=event["eventId"],
            )
            caller.observed.reports.append(reported)
        if caller.random.random() > SENT_AGAIN:
            return


async def watch(caller: Caller, feed: Feed) -> None:
    """Follow a tenant's log from its start, for ever, over any number of connections."""
    while True:
        after = {"Last-Event-ID": feed.links[-1].cursor} if feed.links else {}
        try:
            async with caller.open(
                "readEvents", "GET", "/v1/events", None, STREAM | after
            ) as answer:
                if answer.status_code == 200:
                    await _follow(caller, answer, feed)
        except httpx.TransportError:
            pass
        await caller.again()


async def _follow(caller: Caller, answer: httpx.Response, feed: Feed) -> None:
    most = caller.random.randint(50, 500)
    async with aclosing(caller.events(answer)) as events:
        async for event in events:
            if event.name != "event":
                continue
            observed = event.data
            feed.links.append(Link(int(observed["position"]), observed["cursor"], observed["prev"]))
            if (most := most - 1) < 0:
                caller.observed.counts["cuts"] += 1
                return


async def read_states(caller: Caller, reply_ids: Iterable[str]) -> None:
    """Read the state of each reply."""
    for reply_id in reply_ids:
        answer = await caller.call("getReply", "GET", f"/v1/chat-plan/replies/{reply_id}")
        envelope = answer.json.get("final") if answer.status == 200 else None
        state = ObservedFinal(tenant=caller.tenant.name, reply_id=reply_id, envelope=envelope)
        caller.observed.states.append(state)


async def read_timelines(caller: Caller) -> None:
    """Read every item of every project, page by page."""
    for project_id in caller.tenant.projects:
        before = ""
        while True:
            path = f"/v1/project/{project_id}/timeline?limit=200{before}"
            items = (await caller.call("getTimeline", "GET", path)).json["items"]
            caller.observed.items += [(caller.tenant.name, item["id"]) for item in items]
            if not items:
                break
            before = f"&before={items[-1]['cursor']}"
