"""What every test of the running service begins with."""

import pytest
from sse_starlette.sse import AppStatus


@pytest.fixture(autouse=True)
def _no_server_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library remembers one server's stop for the whole process; here many follow another."""
    monkeypatch.setattr(AppStatus, "should_exit", False)
