"""The setup of every test of the running service."""

from collections.abc import AsyncIterator, Iterator

import pytest
from sse_starlette.sse import AppStatus

from service.chat import turn
from tests.running import LiveService, SharedService, running


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
def bare(request: pytest.FixtureRequest) -> LiveService:
    """The service for a tenant without a project.

    A test that asks for its database has a service and a database of its own, and acts as tenant
    t1. The other tests of a module share a service, and each of them has a tenant of its own.
    """
    is_alone = "new_database" in request.fixturenames
    live: LiveService = request.getfixturevalue("_alone" if is_alone else "_tenant")
    return live


@pytest.fixture
async def run(bare: LiveService) -> LiveService:
    """The service with the project p1, whose owner u1 has credit. Alone or shared, as `bare`."""
    await bare.project()
    await bare.credit()
    return bare


@pytest.fixture
async def _alone(url: str) -> AsyncIterator[LiveService]:
    async with running(url) as service:
        yield service


@pytest.fixture
async def _tenant(shared_service: SharedService) -> AsyncIterator[LiveService]:
    async with shared_service.tenant() as service:
        yield service
