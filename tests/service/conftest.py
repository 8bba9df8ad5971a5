"""The setup of every test of the running service."""

from collections.abc import AsyncIterator, Iterator

import pytest
from sse_starlette.sse import AppStatus

from service.chat import turn
from tests.running import LiveService, running


@pytest.fixture(autouse=True)
def _no_server_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget that earlier tests stopped their servers. The library keeps that for the process."""
    monkeypatch.setattr(AppStatus, "should_exit", False)


@pytest.fixture(autouse=True, scope="session")
def _no_model_is_slow() -> Iterator[None]:
    """On a busy machine the model may be silent for a moment. No reply depends on that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turn, "THINKING_SECONDS", 3_600.0)
        yield


@pytest.fixture
async def run(url: str) -> AsyncIterator[LiveService]:
    """The service with the project p1, whose owner u1 has credit."""
    async with running(url) as service:
        await service.project()
        await service.credit()
        yield service
