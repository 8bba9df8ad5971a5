"""The peer of the streams: bare sse-starlette passes on the raw stream of the SDK, and no more.

Nothing is parsed, stored, billed or resumable. `python -m scripts.bench.bare URL` prints its own
URL and serves until it is stopped.
"""

import sys
from collections.abc import AsyncIterator
from socket import socket
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
    """The application, which asks the model at `model_url`."""
    client = anthropic.AsyncAnthropic(api_key="bench", base_url=model_url, max_retries=0)

    async def texts(message: str) -> AsyncIterator[dict[str, Any]]:
        turns: list[Any] = [{"role": "user", "content": message}]
        async with await client.messages.create(
            model="bench", max_tokens=1_000, messages=turns, stream=True
        ) as events:
            async for event in events:
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    data = orjson.dumps({"text": event.delta.text}).decode()
                    yield {"event": "chunk", "data": data}

    async def post(request: Request) -> Response:
        asked = orjson.loads(await request.body())
        return EventSourceResponse(texts(asked["message"]), sep="\n")

    return Starlette(routes=[Route("/v1/chat-plan", post, methods=["POST"])])


class _Server(uvicorn.Server):
    """A server that prints its address when it listens."""

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        print(f"listens on http://127.0.0.1:{port}", flush=True)


if __name__ == "__main__":
    _Server(
        uvicorn.Config(
            application(sys.argv[1]), port=0, loop="uvloop", http="httptools", log_level="critical"
        )
    ).run()
