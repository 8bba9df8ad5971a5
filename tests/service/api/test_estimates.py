"""Estimates: what a message may cost, before it is sent."""

from tests.running import LiveService, problem, running


async def test_an_estimate_rests_on_the_project_s_own_replies_and_stores_nothing(url: str) -> None:
    async with running(url) as run:
        await run.project("p1", "u1", "u2")
        await run.credit("u1", 1_000)
        await run.credit("u2", 60)
        for _ in range(5):
            await run.chat("Why is the cart slow?")
        bills = (await run.client.get("/v1/billing/accounts/u1/consumption")).json()["items"]
        head = await run.service.store.head()
        asked = {"projectId": "p1", "userId": "u2"}
        answer = await run.client.get("/v1/estimates", params=asked)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert await run.service.store.head() == head
        question, fix = found["byMode"]["question"], found["byMode"]["fix"]
        assert question["replies"] == 5
        assert question["seconds"] == sorted(each["billedSeconds"] for each in bills)[2]
        assert question["reservedSeconds"] == 30
        assert question["sufficient"]
        assert question["confidence"] in ("medium", "low")
        assert fix == {
            "seconds": 90,
            "reservedSeconds": 90,
            "confidence": "low",
            "replies": 0,
            "sufficient": False,
        }
        assert found["availableSeconds"] == 60
        refused = await run.client.get("/v1/estimates", params=asked | {"userId": "u3"})
        assert problem(refused) == (404, "project_not_found")
        assert await _asked(run) == 5, "the model was not asked"


async def _asked(run: LiveService) -> int:
    return len(run.model.requests)
