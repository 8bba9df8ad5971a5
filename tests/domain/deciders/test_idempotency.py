"""A request that was named: done once, and another one under its key is refused."""

from typing import Any

import pytest

from domain.deciders import idempotency
from domain.deciders.idempotency import INITIAL
from domain.errors import KeyReused
from domain.events import RequestCompleted

DONE = RequestCompleted(key="k", fingerprint="f", result={"id": "x"}, offset=3)


def test_a_request_is_done_once() -> None:
    asked: dict[str, Any] = {"key": "k", "result": {"id": "x"}, "offset": 3}
    assert idempotency.finish(INITIAL, fingerprint="f", **asked) == (DONE,)
    state = idempotency.fold([DONE])
    assert idempotency.is_done(state, fingerprint="f")
    assert state.result == {"id": "x"}
    assert idempotency.finish(state, fingerprint="f", **asked) == ()


def test_another_request_under_its_key_is_refused() -> None:
    assert not idempotency.is_done(INITIAL, fingerprint="g")
    with pytest.raises(KeyReused):
        idempotency.is_done(idempotency.fold([DONE]), fingerprint="g")
    with pytest.raises(KeyReused):
        idempotency.finish(
            idempotency.fold([DONE]), key="k", fingerprint="g", result=None, offset=0
        )
