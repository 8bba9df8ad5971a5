"""The peer of the streams: the SDK's raw stream handed on by a bare sse-starlette, and no more.

Nothing is parsed, stored, billed or resumable. `python -m scripts.bench.bare URL` prints its own
URL and serves until it is stopped.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import orjson
import uvicorn
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def application(model_url: str) -> Starlette:
    """The application; it asks the model at `model_url`."""
    client = anthropic.AsyncAnthropic(api_key="bench", base_url=model_url, max_retries=0)

    async def texts(message: str) -> AsyncIterator[dict[str, Any]]:
        turns: list[Any] = [{"role": "user", "content": message}]
        async with await client.messages.create(
            model="bench", max_tokens=1_000, messages=turns, stream=True
        ) as events:
            async for event in events:
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    yield {"event": "chunk", "data": orjson.dumps({"text": event.delta.text}).decode()}

    async def post(request: Request) -> Response:
        asked = orjson.loads(await request.body())
        return EventSourceResponse(texts(asked["message"]), sep="\n")

    return Starlette(routes=[Route("/v1/chat-plan", post, methods=["POST"])])


async def _serve(model_url: str) -> None:
    server = uvicorn.Server(
        uvicorn.Config(
            application(model_url), port=0, loop="uvloop", http="httptools", log_level="critical"
        )
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print("listens on", f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", flush=True)
    await serving


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(sys.argv[1]))
