"""The metrics count what happened in the process."""

from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.running import LiveService, problem, running
from tests.service.ops.metrics_page import COLLECTED, families


async def metrics(run: LiveService) -> Callable[..., float]:
    """Reads the metrics; returns a function that gives the value of one of them."""
    text = (await run.client.get("/metrics")).text
    families = list(text_string_to_metric_families(text))
    values: dict[Any, float] = {
        (each.name, frozenset(each.labels.items())): each.value
        for family in families
        for each in family.samples
    }

    def value(name: str, **labels: str) -> float:
        return values.get((f"throughline_{name}", frozenset(labels.items())), 0)

    return value


async def test_the_page_of_metrics_is_one_that_prometheus_reads(url: str) -> None:
    async with running(url) as run:
        answer = await run.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        found = families(answer.text)
    assert found.keys() == {each._name for each in COLLECTED}


async def test_replies_errors_tokens_limits_and_builds_are_counted(url: str) -> None:
    async with running(url, user_messages=5) as run:
        await run.project()
        await run.credit()
        before = await metrics(run)
        whole = await run.stream("Add a login page")
        await run.join(whole[-1][1]["messageId"], whole[2][2])
        await run.chat("Fix it [[offline: status code=529 times=1]]")
        await run.chat("راجع المشروع كله [[offline: wrong_language times=1]]", locale="ar")
        await run.chat("Fix it [[offline: refusal]]")
        await run.chat("Hello")
        assert problem(await run.chat("Hello")) == (429, "user_limit_reached")
        body = {"userId": "u1", "projectId": "p1", "message": "A shop"}
        build_id = (await run.client.post("/v1/builds", json=body)).json()["buildId"]
        end = {"eventId": "e", "phase": "build", "type": "failed", "title": "t"}
        end |= {"at": "2026-01-01T00:00:00Z"}
        await run.client.post(f"/v1/builds/{build_id}/events", json={"events": [end]})
        after = await metrics(run)
        for name, labels, expected in (
            ("reply_seconds_count", {"mode": "feature"}, 1),
            ("first_text_seconds_count", {}, 4),
            ("provider_errors_total", {"kind": "transient", "code": "provider_busy"}, 1),
            ("provider_errors_total", {"kind": "refused", "code": "refused"}, 1),
            ("retries_total", {}, 1),
            ("resets_total", {"reason": "language"}, 1),
            ("resumes_total", {"stream": "reply"}, 1),
            ("messages_limited_total", {"limit": "user"}, 1),
            ("builds_total", {"status": "queued"}, 1),
            ("builds_total", {"status": "failed"}, 1),
        ):
            assert after(name, **labels) - before(name, **labels) == expected, (name, labels)
        for kind in ("input", "output", "cache_read"):
            assert after("tokens_total", kind=kind) > before("tokens_total", kind=kind)
