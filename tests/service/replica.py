"""The service in a process of its own, on the tests' database.

The command line would refuse that database, which never syncs. And the leases are shorter here than
in production, so that a test waits less for the end of a process.
"""

import asyncio
import gc
import os
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from typing import Any

import uvloop

from service.app import application
from service.http.server import Server
from service.ops import logs
from service.settings import Settings
from tests.running import LEASE_TIMES, PATIENT


class StandardError:
    """This process's standard error; pickled, a descriptor of that file in the other process."""

    def __reduce__(self) -> Any:
        """Pickle a copy of the descriptor, while a process is started."""
        return _descriptor, (DupFd(2),)


def _descriptor(copy: Any) -> int:
    return int(copy.detach())


def run(environment: dict[str, str], address: Connection, output: int) -> None:
    """Serve until a signal. Settings are read from `environment`; the URL is sent to `address`.

    `output` is the descriptor for standard output and standard error.
    """
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(environment)
    gc.enable()
    settings = Settings()
    logs.configure(settings.log_level)
    uvloop.run(_serve(settings, address))


async def _serve(settings: Settings, address: Connection) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    direct = settings.database_direct_url
    app = application(
        settings,
        database_url=url,
        direct_url=direct.get_secret_value() if direct else url,
        lease_times=LEASE_TIMES,
        capacity=PATIENT,
    )
    server = Server(app, settings)
    serving = asyncio.create_task(server.serve())
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        address.send(server.url)
    ready.cancel()
    await serving
    server.require_sound()
