"""The web client in Node, over a bad network."""

from collections.abc import AsyncIterator, Callable

import pytest

from tests.running import LiveService
from tests.sizes import PROVE
from tests.web.faults import FAULTS, LARGE, Ground, grounds
from tests.web.network import BadNetwork
from tests.web.runtimes import node


@pytest.fixture(scope="module")
async def make(shared_url: str) -> AsyncIterator[Callable[[], tuple[LiveService, BadNetwork]]]:
    """A service for all faults."""
    async with grounds(shared_url) as made:
        yield made


@pytest.mark.parametrize("name", [*FAULTS, *(LARGE if PROVE else ())])
async def test_a_client_in_node_bears(
    name: str, make: Callable[[], tuple[LiveService, BadNetwork]], shared_url: str
) -> None:
    live, network = make()
    async with network.serving() as address, node(address) as js:
        ground = Ground(live, network, js, shared_url)
        await ground.begin()
        await (FAULTS | LARGE)[name](ground)
