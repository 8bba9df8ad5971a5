"""The provider pauses the model's turn (`pause_turn`): prose may lack its second half."""

import pytest

from tests.running import running
from tests.service import law
from tests.service.chat.test_faults import ends_with, notices
from tests.service.model.exact import Exact

JSON = '{"intent":"general","response":{"markdown":"Hello"}}'


@pytest.mark.parametrize(
    ("piece", "stop_reasons", "calls", "end"),
    [
        ("Hello", ["pause_turn", "end_turn"], 2, None),
        ("Hello", ["pause_turn"], 2, "broken_contract"),
        ("Hello", ["a_reason_of_next_year"], 2, "broken_contract"),
        (JSON, ["pause_turn"], 1, None),
    ],
    ids=["once", "always", "unknown", "whole JSON"],
)
async def test_prose_of_a_paused_turn_is_asked_for_once_more(
    url: str, piece: str, stop_reasons: list[str], calls: int, end: str | None
) -> None:
    async with running(url, Exact([piece], stop_reasons=stop_reasons)) as live:
        await live.project()
        await live.credit()
        events = await live.stream("Good morning")
        final = law.lawful(events)
        assert (ends_with(final), live.model.calls) == (end, calls)
        assert notices(events) == ("schema",) * (calls - 1)
        assert final["data"] == {"markdown": "Hello"}
        await law.ended_as_shown(live, url, final)
