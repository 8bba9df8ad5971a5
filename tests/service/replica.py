"""The service in a process of its own, on the tests' database: `python -m tests.service.replica`.

The command line would refuse that database, which never syncs. And a process that died is
recognized sooner here than in life, so that a test need not wait for it.
"""

import asyncio

import uvloop

from service.app import application
from service.http.server import Server
from service.ops import logs
from service.settings import Settings
from tests.running import LEASE_TIMES


async def serve(settings: Settings, url: str) -> None:
    """Serve until a signal, and say where."""
    app = application(settings, database_url=url, direct_url=url, lease_times=LEASE_TIMES)
    server = Server(app, settings)
    serving = asyncio.create_task(server.serve())
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        print(f"listens on {server.url}", flush=True)  # noqa: T201 - the test reads it
    ready.cancel()
    await serving


def main() -> None:
    """Take all settings from the environment, as `throughline serve` does."""
    settings = Settings()
    assert settings.database_url is not None
    logs.configure(settings.log_level)
    uvloop.run(serve(settings, settings.database_url.get_secret_value()))


if __name__ == "__main__":
    main()
