"""The demo of a first run: its project and session are there at each start."""

from service.access.keys import TENANT
from service.cli import demo
from tests.running import KEYS, running


async def test_the_demo_is_the_same_at_each_start_until_its_project_is_erased(url: str) -> None:
    keys = {"k1": KEYS["k1"].model_copy(update={"tenant": TENANT})}
    async with running(url, hmac_keys=keys) as run:
        first = await demo.prepare(run.service)
        assert first.project_id == "demo"
        assert await demo.prepare(run.service) == first
        erased = await run.client.delete("/v1/projects/demo")
        assert erased.status_code < 300
        second = await demo.prepare(run.service)
        assert second.project_id == "demo-2"
        assert await demo.prepare(run.service) == second
        body = {"userId": demo.USER_ID, "projectId": second.project_id, "message": "Hello"}
        answer = await run.client.post("/v1/chat-plan", json=body)
        assert answer.status_code == 200
        account = await run.account(demo.USER_ID)
        assert account["creditedSeconds"] == demo.CREDIT_SECONDS
