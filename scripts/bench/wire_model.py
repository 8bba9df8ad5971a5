"""A model for measuring: the Messages API's stream on a raw socket, with the time in each delta.

This model uses almost no CPU, so the figures are about the service. All replies have the intent
`general`; the text of each delta is `<nanoseconds> `, by the monotonic clock.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import monotonic_ns

LARGEST_BODY = 1024 * 1024
"""A body up to this size is read without a pause."""

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close\r\n\r\n"
)
_START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message",'
    b'"role":"assistant","model":"bench","content":[],"stop_reason":null,"stop_sequence":null,'
    b'"usage":{"input_tokens":10,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
)
_END = (
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn",'
    b'"stop_sequence":null},"usage":{"output_tokens":20}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
_NO_MODELS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b'Content-Length: 28\r\n\r\n{"data":[],"has_more":false}'
)
_OPENING = rb"{\"intent\":\"general\",\"response\":{\"markdown\":\""
_CLOSING = rb"\"}}"
_BREAK = rb"\\n\\n"


class StampingModel:
    """Sends `deltas` stamps in each reply, one every `pace` seconds, `paragraph` in a paragraph."""

    def __init__(self, *, deltas: int, pace: float, paragraph: int | None = None) -> None:
        self.deltas, self.pace, self.paragraph = deltas, pace, paragraph

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[str]:
        """Listen; yields the URL."""
        server = await asyncio.start_server(
            self._answer, "127.0.0.1", 0, backlog=2_048, limit=LARGEST_BODY
        )
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET "):  # the service checks its key by a list of the models
                writer.write(_NO_MODELS)
                return
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(size)
            writer.write(_HEAD + _chunked(_START))
            await self._talk(writer)
            writer.write(_chunked(_delta(_CLOSING)) + _chunked(_END) + b"0\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _talk(self, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for n in range(self.deltas):
            await asyncio.sleep(began + n * self.pace - loop.time())
            stamp = b"<%d> " % monotonic_ns()
            if self.paragraph and n % self.paragraph == self.paragraph - 1:
                stamp += _BREAK
            writer.write(_chunked(_delta(stamp if n else _OPENING + stamp)))


def _delta(text: bytes) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"' + text + b'"}}\n\n'
    )


def _chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)
