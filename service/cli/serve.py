"""`throughline serve`."""

import asyncio
import gc
import os
import sys
from pathlib import Path
from typing import Any

from service.access.keys import KEY_ID, known_keys
from service.cli.console import err, out
from service.cli.database import bring_up_to_date, database
from service.settings import Settings


def serve() -> None:
    """Start the service, with an embedded PostgreSQL unless THROUGHLINE_DATABASE_URL is set."""
    import uvloop

    from service.ops import logs

    settings = Settings()
    logs.configure(settings.log_level)
    with database(settings) as (url, direct_url):
        with_demo = not settings.hmac_keys
        chosen: dict[str, Any] = {"hmac_keys": known_keys(settings)}
        if with_demo and settings.source_dir is None:
            chosen["source_dir"] = _demo_source(settings)
        keyed = settings.model_copy(update=chosen)
        uvloop.run(run(keyed, url, direct_url, with_demo=with_demo))


def _demo_source(settings: Settings) -> Path:
    from service.cli import demo

    folder = settings.data_dir / "sources"
    demo.write_source(folder)
    return folder


async def run(settings: Settings, url: str, direct_url: str, *, with_demo: bool) -> None:
    """Serve until a signal. Exits with 1 where a crash of the database could lose commits."""
    from service.app import application
    from service.http.server import Server
    from service.postgres.migrations import unbound_roles, unsafe_settings

    if unsafe := await unsafe_settings(direct_url):
        err.print(f"throughline: the database has {', '.join(unsafe)} off; commits could be lost.")
        sys.exit(1)
    await bring_up_to_date(direct_url)
    if unbound := await unbound_roles(direct_url):
        err.print(f"throughline: {', '.join(unbound)} would see the rows of all tenants.")
        sys.exit(1)
    _freeze_gc()
    server = Server(application(settings, database_url=url, direct_url=direct_url), settings)
    serving = asyncio.create_task(server.serve())
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        _announce(server, settings)
    if ready.done() and with_demo:
        await _serve_demo(server, settings, serving)
    ready.cancel()
    await serving


def _freeze_gc() -> None:
    """Let the garbage collector skip what was imported, and run less often.

    Modules live as long as the process, and a streamed frame leaves no cycles. This saves a fifth
    of the CPU time of a frame.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _announce(server: Any, settings: Settings) -> None:
    out.print(f"\nThroughline listens on {server.url}")
    if settings.database_url is None:
        out.print(f"Database: embedded PostgreSQL 18, kept in {settings.data_dir.resolve()}")
    if settings.anthropic_api_key is None:
        out.print("Model:    offline (no ANTHROPIC_API_KEY): replies are made up, and say so")


async def _serve_demo(server: Any, settings: Settings, serving: asyncio.Task[None]) -> None:
    """Print how to call the service, and run the demo's build worker until the service ends."""
    from service.cli import demo

    session_id = await demo.prepare(server.config.app.state.service)
    secret = settings.hmac_keys[KEY_ID].secret.get_secret_value()
    out.print(f"Demo key: {KEY_ID} / {secret} (tenant demo; kept in the data folder)\n")
    async with demo.building(server.url, secret) as with_builds:
        sign = _own_command() + " sign"
        demo.instructions(server.url, session_id, sign, out.print, with_builds=with_builds)
        out.print("\nCtrl-C stops it; the data is kept.")
        await asyncio.wait([serving])


def _own_command() -> str:
    """The shell word that called this program, for the commands that it prints."""
    called = Path(sys.argv[0])
    path = os.path.relpath(called)
    return f"'{called if path.startswith('..') else path}'"
