"""The setup of every test of the running service."""

from collections.abc import AsyncIterator

import pytest
from sse_starlette.sse import AppStatus

from tests.running import LiveService, running


@pytest.fixture(autouse=True)
def _no_server_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget that earlier tests stopped their servers. The library keeps that for the process."""
    monkeypatch.setattr(AppStatus, "should_exit", False)


@pytest.fixture
async def run(url: str) -> AsyncIterator[LiveService]:
    """The service with the project p1, whose owner u1 has credit."""
    async with running(url) as service:
        await service.project()
        await service.credit()
        yield service
