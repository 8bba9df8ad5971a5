"""The setup of every test of the running service."""

import pytest
from sse_starlette.sse import AppStatus


@pytest.fixture(autouse=True)
def _no_server_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the stop of earlier servers: the library remembers a stop for the whole process."""
    monkeypatch.setattr(AppStatus, "should_exit", False)
