"""A request that was named: done once, and another one under its key is refused."""

from typing import Any

import pytest

from domain import request
from domain.errors import KeyReused
from domain.events import RequestCompleted
from domain.request import INITIAL

DONE = RequestCompleted(key="k", fingerprint="f", result={"id": "x"}, place=3)


def test_a_request_is_done_once() -> None:
    asked: dict[str, Any] = {"key": "k", "result": {"id": "x"}, "place": 3}
    assert request.finish(INITIAL, fingerprint="f", **asked) == (DONE,)
    state = request.fold([DONE])
    assert request.is_done(state, fingerprint="f")
    assert state.result == {"id": "x"}
    assert request.finish(state, fingerprint="f", **asked) == ()


def test_another_request_under_its_key_is_refused() -> None:
    assert not request.is_done(INITIAL, fingerprint="g")
    with pytest.raises(KeyReused):
        request.is_done(request.fold([DONE]), fingerprint="g")
    with pytest.raises(KeyReused):
        request.finish(request.fold([DONE]), key="k", fingerprint="g", result=None, place=0)
