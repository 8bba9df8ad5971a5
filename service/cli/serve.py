"""`throughline serve`."""

import asyncio
import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from service.access.keys import KEY_ID, known_keys
from service.cli.calls import SignedCalls
from service.cli.console import err, out
from service.cli.database import Database, bring_up_to_date, database
from service.settings import Settings, variable

if TYPE_CHECKING:
    from service.cli.workers.supervisor import Supervisor
    from service.http.server import Server

FILL_SECONDS: Final = 60.0
"""How long the demo waits for a service that has too much to do while the demo is filled."""


def serve(
    worker: Annotated[
        bool, typer.Option(help="Run the example worker and engine of the demo.")
    ] = True,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="How many processes serve the port (THROUGHLINE_WORKERS)."
        ),
    ] = None,
) -> None:
    """Start the service, with an embedded PostgreSQL unless THROUGHLINE_DATABASE_URL is set."""
    from service.cli.workers.worker import stop_gc

    stop_gc()

    import uvloop

    from service.http.server import bound_sockets
    from service.ops import logs, tracing

    settings = Settings()
    logs.configure(settings.log_level)
    tracing.require_installed(settings.otlp_endpoint)
    with_demo = not settings.hmac_keys
    chosen: dict[str, Any] = {"hmac_keys": known_keys(settings)}
    if workers is not None:
        chosen["workers"] = workers
    with ExitStack() as stack:
        sockets = bound_sockets(settings.host, settings.port)
        for each in sockets:
            stack.enter_context(each)
        found = stack.enter_context(database(settings))
        if with_demo and settings.source_dir is None:
            chosen["source_dir"] = _demo_source(settings)
        keyed = settings.model_copy(update=chosen)
        uvloop.run(run(keyed, found, sockets, with_demo=with_demo, with_worker=worker))


def _demo_source(settings: Settings) -> Path:
    from service.cli.demo import first_run

    folder = settings.data_dir / "sources"
    first_run.write_source(folder)
    return folder


async def _prepare(settings: Settings, found: Database) -> None:
    """Bring the database up to date. Exits with 1 where a crash of the database could lose commits,
    or where a role of the service would see too much. Raises addresses.AddressRefused."""
    from service.postgres.addresses import require_replica, require_same, require_session
    from service.postgres.migrations import unbound_roles, unsafe_settings

    direct = "database_direct_url" if settings.database_direct_url else "database_url"
    await require_session(found.direct_url, variable(direct))
    await require_same(found.url, found.direct_url)
    replica = settings.database_replica_url
    if replica and not await require_replica(replica.get_secret_value(), found.direct_url):
        err.print("throughline: the replica cannot be reached yet; the primary answers all reads.")
    if unsafe := await unsafe_settings(found.direct_url):
        err.print(f"throughline: the database has {', '.join(unsafe)} off; commits could be lost.")
        sys.exit(1)
    await bring_up_to_date(found.direct_url)
    if unbound := await unbound_roles(found.direct_url):
        err.print(f"throughline: {', '.join(unbound)} would see the rows of all tenants.")
        sys.exit(1)


async def run(
    settings: Settings,
    found: Database,
    sockets: list[socket],
    *,
    with_demo: bool,
    with_worker: bool,
) -> None:
    """Serve until a signal, in this process or in several worker processes."""
    from service.app import application, key_fault
    from service.cli.workers.supervisor import Supervisor
    from service.cli.workers.worker import freeze_gc
    from service.http.server import Server

    freeze_gc()
    await _prepare(settings, found)
    server: Server | Supervisor
    if settings.workers == 1:
        app = application(settings, database_url=found.url, direct_url=found.direct_url)
        server = Server(app, settings)
    else:
        server = Supervisor(settings, found, with_demo=with_demo)
    serving = asyncio.create_task(server.serve(sockets))
    asking = asyncio.create_task(key_fault(settings))
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        started = _started(server.url, settings, found, await asking)
        if with_demo:
            await _serve_demo(server, settings, serving, started, with_worker=with_worker)
        else:
            out.print("\n".join(started))
    for task in (ready, asking):
        task.cancel()
    await serving
    server.require_sound()


def _started(url: str, settings: Settings, found: Database, key_fault: str | None) -> list[str]:
    """The lines that tell what was started."""
    model = f"{settings.model}, by the key in ANTHROPIC_API_KEY"
    if settings.anthropic_api_key is None:
        model = "offline (no ANTHROPIC_API_KEY): replies are made up, and say so"
    lines = [
        f"\nThroughline listens on {url}",
        f"Database: {found.described}",
        f"Model:    {model}",
    ]
    return lines if key_fault is None else [*lines, f"          {key_fault}"]


async def _serve_demo(
    server: "Server | Supervisor",
    settings: Settings,
    serving: asyncio.Task[None],
    started: list[str],
    *,
    with_worker: bool,
) -> None:
    """Print how to call the service, and run the demo's worker and engine until the service ends.

    All lines are printed at once, after what is logged at the start.
    """
    from service.cli.demo import first_run
    from service.cli.workers.supervisor import Supervisor

    url = server.url
    if isinstance(server, Supervisor):  # a worker process has begun the demo
        begun = server.begun
        assert begun is not None
    else:
        begun = await first_run.begin(server.service, url)
    secret = settings.hmac_keys[KEY_ID].secret.get_secret_value()
    key = f"Demo key: {KEY_ID} / {secret} (tenant demo; kept in the data folder)\n"
    async with first_run.working(url, secret, with_worker=with_worker) as with_workers:
        command = _own_command()
        lines = first_run.instructions(url, begun.ids, f"{command} sign", with_workers=with_workers)
        first = [
            f"\nOpen {begun.link}",
            f"It signs you in as {first_run.USER_ID}, once. For another link: "
            f"{command} link --user {first_run.USER_ID}",
        ]
        end = "\nCtrl-C stops it; the data is kept."
        out.print("\n".join((*first, *started, key, *lines, end)))
        fill = partial(
            first_run.fill,
            SignedCalls(url, KEY_ID, settings.hmac_keys[KEY_ID], patience=FILL_SECONDS),
            is_offline=settings.anthropic_api_key is None,
            with_workers=with_workers,
        )
        filling = asyncio.create_task(asyncio.to_thread(fill))
        await asyncio.wait([serving])
        filling.cancel()


def _own_command() -> str:
    """The shell word that called this program, for the commands that it prints."""
    called = Path(sys.argv[0])
    path = os.path.relpath(called)
    return f"'{called if path.startswith('..') else path}'"
