"""A provider whose stream a test chooses delta by delta: what the offline model never sends."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.model.offline.app import OfflineModel

TEXT: Final[Mapping[str, Any]] = {"type": "text", "text": ""}
TOOL: Final[Mapping[str, Any]] = {"type": "tool_use", "id": "t1", "name": "read_file", "input": {}}


class Exact(OfflineModel):
    """A server that streams one block in exactly these deltas. It escapes half a surrogate pair by
    itself, as JSON allows.

    The first answer has the first one of `stop_reasons`, and so on; the last one repeats.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        block: Mapping[str, Any] = TEXT,
        stop_reasons: Sequence[str] = ("end_turn",),
    ) -> None:
        super().__init__()
        self._pieces, self._block, self._stop_reasons = pieces, block, stop_reasons

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer every request with the same deltas."""
        stop_reason = self._stop_reasons[min(self.calls, len(self._stop_reasons) - 1)]
        self.calls += 1
        body = "".join(
            f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            for event in self._events(stop_reason)
        )
        await Response(body, media_type="text/event-stream")(scope, receive, send)

    def _events(self, stop_reason: str) -> list[Mapping[str, Any]]:
        is_text = self._block is TEXT
        kind, member = ("text_delta", "text") if is_text else ("input_json_delta", "partial_json")
        usage = {"input_tokens": 1, "output_tokens": 1}
        message: dict[str, Any] = {"id": "m", "type": "message", "role": "assistant"}
        message |= {"model": "offline"}
        message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": self._block},
            *(
                {"type": "content_block_delta", "index": 0, "delta": {"type": kind, member: piece}}
                for piece in self._pieces
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": stop_reason},
                "usage": usage,
            },
            {"type": "message_stop"},
        ]
