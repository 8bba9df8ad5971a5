"""The command line: `throughline`. Heavy imports wait until a command needs them."""

import asyncio
import gc
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from service.access import signatures
from service.access.keys import KEY_ID, known_keys
from service.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Throughline, the timeline.")
projections_app = typer.Typer(no_args_is_help=True, help="The read models.")
events_app = typer.Typer(no_args_is_help=True, help="The log.")
analysts_app = typer.Typer(no_args_is_help=True, help="Who reads a tenant's views by SQL.")
app.add_typer(projections_app, name="projections")
app.add_typer(events_app, name="events")
app.add_typer(analysts_app, name="analysts")

_out = Console(soft_wrap=True, highlight=False, markup=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)

if TYPE_CHECKING:
    from projections.projection import Connection, Projection

T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="A read model's name, or `all`.")]


def main() -> None:
    """Run a command; what it cannot do it says in one line, without a traceback."""
    from service.postgres.connections import MigrationRefused
    from service.postgres.functions import FunctionRefused
    from service.postgres.supervisor import PostgresFailed

    try:
        app()
    except (MigrationRefused, FunctionRefused, PostgresFailed) as error:
        _err.print(f"throughline: {error}", markup=False)
        sys.exit(1)


# Serving -----------------------------------------------------------------------------------------


@app.command()
def serve() -> None:
    """Start the service, with a PostgreSQL of its own unless THROUGHLINE_DATABASE_URL is set."""
    import uvloop

    from service.ops import logs

    settings = Settings()
    logs.configure(settings.log_level)
    with _database(settings) as (url, direct_url):
        with_demo = not settings.hmac_keys
        chosen: dict[str, Any] = {"hmac_keys": known_keys(settings)}
        if with_demo and settings.source_dir is None:
            chosen["source_dir"] = _demo_source(settings)
        keyed = settings.model_copy(update=chosen)
        uvloop.run(_serve(keyed, url, direct_url, with_demo=with_demo))


def _demo_source(settings: Settings) -> Path:
    from service.cli import demo

    folder = settings.data_dir / "sources"
    demo.write_source(folder)
    return folder


async def _serve(
    settings: Settings,
    url: str,
    direct_url: str,
    *,
    with_demo: bool,
    allow_unsafe_database: bool = False,
) -> None:
    """Serve until a signal. An unsafe database may lose commits in a crash: tests alone allow it,
    so there is no setting for that."""
    from service.app import application
    from service.http.server import Server
    from service.postgres.connections import unbound_roles, unsafe_settings

    unsafe = await unsafe_settings(direct_url)
    if unsafe and not allow_unsafe_database:
        _err.print(f"throughline: the database has {', '.join(unsafe)} off; commits could be lost.")
        sys.exit(1)
    await _migrated(direct_url)
    if unbound := await unbound_roles(direct_url):
        _err.print(f"throughline: {', '.join(unbound)} would see the rows of all tenants.")
        sys.exit(1)
    _leave_in_peace_what_stays()
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


def _leave_in_peace_what_stays() -> None:
    """What was imported lives as long as the process, and a streamed chunk leaves no cycles: the
    collector need not look at the one, nor so often for the other. A fifth less CPU a chunk."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _announce(server: Any, settings: Settings) -> None:
    _out.print(f"\nThroughline listens on {server.url}")
    if settings.database_url is None:
        _out.print(f"Database: embedded PostgreSQL 18, kept in {settings.data_dir.resolve()}")
    if settings.anthropic_api_key is None:
        _out.print("Model:    offline (no ANTHROPIC_API_KEY): replies are made up, and say so")


async def _serve_demo(server: Any, settings: Settings, serving: asyncio.Task[None]) -> None:
    """Say how to talk to it, and build what is asked for, until the service ends."""
    from service.cli import demo

    session_id = await demo.prepare(server.config.app.state.service)
    secret = settings.hmac_keys[KEY_ID].secret.get_secret_value()
    _out.print(f"Demo key: {KEY_ID} / {secret} (tenant demo; kept in the data folder)\n")
    async with demo.building(server.url, secret) as with_builds:
        sign = _own_command() + " sign"
        demo.instructions(server.url, session_id, sign, _out.print, with_builds=with_builds)
        _out.print("\nCtrl-C stops it; the data is kept.")
        await asyncio.wait([serving])


def _own_command() -> str:
    """How this program was called, for the shell lines that it prints."""
    called = Path(sys.argv[0])
    path = os.path.relpath(called)
    return f"'{called if path.startswith('..') else path}'"


@contextmanager
def _database(settings: Settings) -> Generator[tuple[str, str]]:
    """The database's URL and the one that goes around a pooler; embedded unless there is one."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        direct = settings.database_direct_url
        yield url, direct.get_secret_value() if direct else url
        return
    from service.postgres.embedded import embedded

    with embedded(settings.data_dir / "postgres") as server:
        yield server.url, server.url


async def _migrated(direct_url: str) -> None:
    from projections import PROJECTIONS
    from projections.projection import install
    from service.postgres import connections

    for name in await connections.migrate(direct_url):
        _err.print(f"migrated {name}", markup=False)
    async with await connections.connect(direct_url, as_service=False) as owner:
        for name in await install(owner, PROJECTIONS):
            _err.print(f"built {name}", markup=False)


@app.command()
def migrate() -> None:
    """Bring the database and its read models to this version."""
    with _database(Settings()) as (_, direct_url):
        asyncio.run(_migrated(direct_url))


# Keys and signatures -----------------------------------------------------------------------------


@app.command()
def sign(
    method: Annotated[str, typer.Argument(help="GET, POST ...")],
    target: Annotated[str, typer.Argument(help="The path with its query, or the whole URL.")],
    body: Annotated[str, typer.Option(help="The body, byte for byte; - reads it.")] = "",
    key: Annotated[str, typer.Option(help="The key's id; the only one if there is one.")] = "",
) -> None:
    """Print the signature header of a request, for curl's -H."""
    keys = known_keys(Settings())
    key_id = key or next(iter(keys))
    if key_id not in keys:
        _err.print(f"throughline: there is no key {key_id}; known are {', '.join(keys)}.")
        raise typer.Exit(2)
    parts = urlsplit(target)
    moment, nonce = int(time.time()), secrets.token_hex(16)
    value = signatures.sign(
        keys[key_id].secret.get_secret_value(),
        method=method.upper(),
        path=parts.path.encode(),
        query=parts.query.encode(),
        time=moment,
        nonce=nonce,
        key_id=key_id,
        body=sys.stdin.buffer.read() if body == "-" else body.encode(),
    )
    _out.print(f"{signatures.HEADER}: t={moment},kid={key_id},n={nonce},v1={value}")


@app.command()
def keys() -> None:
    """List the keys that may call, without their secrets."""
    table = Table("key", "tenant", "scopes")
    for key_id, key in known_keys(Settings()).items():
        table.add_row(key_id, key.tenant, " ".join(sorted(key.scopes)))
    _out.print(table)


# Read models -------------------------------------------------------------------------------------


@projections_app.command("status")
def projections_status() -> None:
    """Where each read model stands; exit code 1 when one has halted."""
    from projections.projection import status

    standings = _as_owner(status)
    table = Table("projection", "version", "position", "head", "state", "why")
    for each in standings:
        why = f"before {each.halted_before}: {each.halted_reason}" if each.halted_at else ""
        numbers = (str(each.version), str(each.position), str(each.head))
        table.add_row(each.name, *numbers, each.state, why)
    _out.print(table)
    if any(each.state == "halted" for each in standings):
        raise typer.Exit(1)


@projections_app.command("rebuild")
def projections_rebuild(name: Name) -> None:
    """Make a read model anew from the log, while everything goes on."""
    from projections.projection import rebuild

    for projection in _named(name):
        with _progress(projection.name) as progress:
            _as_owner(partial(rebuild, projection=projection, progress=progress))
        _out.print(f"{projection.name}: rebuilt")


@projections_app.command("verify")
def projections_verify(name: Name = "all") -> None:
    """Compare read models with the log; exit code 1 when one differs."""
    from projections.projection import verify

    differing = 0
    for projection in _named(name):
        with _progress(projection.name) as progress:
            rows = _as_owner(partial(verify, projection=projection, progress=progress))
        _out.print(f"{projection.name}: {rows} differing rows")
        differing += rows
    if differing:
        raise typer.Exit(1)


def _named(name: str) -> list["Projection"]:
    from projections import PROJECTIONS

    found = [each for each in PROJECTIONS if name in ("all", each.name)]
    if not found:
        known = ", ".join(each.name for each in PROJECTIONS)
        _err.print(f"throughline: there is no read model {name}; known are {known}.")
        raise typer.Exit(2)
    return found


def _as_owner(work: Callable[["Connection"], Awaitable[T]]) -> T:
    """Do work on a connection of the database's owner."""
    from service.postgres import connections

    async def connected(direct_url: str) -> T:
        async with await connections.connect(direct_url, as_service=False) as owner:
            return await work(owner)

    with _database(Settings()) as (_, direct_url):
        return asyncio.run(connected(direct_url))


@contextmanager
def _progress(name: str) -> Generator[Callable[[int, int], None]]:
    """A bar on a terminal, a line a step elsewhere."""
    if not _err.is_terminal:
        yield lambda at, head: _err.print(f"{name}: {at} of {head}")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=_err) as bar:
        task = bar.add_task(name, total=None)
        yield lambda at, head: bar.update(task, completed=at, total=head)


# Analysts ----------------------------------------------------------------------------------------


@analysts_app.command("add")
def analysts_add(
    name: Annotated[str, typer.Argument(help="The database role to be made.")],
    tenant: Annotated[str, typer.Argument(help="Whose rows it sees.")],
) -> None:
    """Make a database role that reads a tenant's views, and print how to connect as it."""
    import psycopg

    from service.postgres.analysts import BadName, add_analyst

    try:
        _out.print(_as_owner(partial(add_analyst, name=name, tenant_id=tenant)))
    except (BadName, psycopg.errors.DuplicateObject) as error:
        _err.print(f"throughline: {error}", markup=False)
        raise typer.Exit(2) from None


@analysts_app.command("remove")
def analysts_remove(
    name: Annotated[str, typer.Argument(help="The analyst's role.")],
) -> None:
    """Take an analyst's role away."""
    from service.postgres.analysts import remove_analyst

    if not _as_owner(partial(remove_analyst, name=name)):
        _err.print(f"throughline: there is no analyst {name}.", markup=False)
        raise typer.Exit(2)


# The log -----------------------------------------------------------------------------------------


@events_app.command("tail")
def events_tail(
    after: Annotated[int, typer.Option(help="Begin after this position; -1 is now.")] = -1,
) -> None:
    """Print events as they happen, one JSON object a line, until Ctrl-C."""

    async def tail(direct_url: str) -> None:
        from service.eventlog.live import LiveLog
        from service.postgres import connections

        async with _reading(direct_url) as store:
            live_log = LiveLog(store)
            listening = asyncio.create_task(live_log.run(partial(connections.connect, direct_url)))
            try:
                async for page in live_log.follow(await store.head() if after < 0 else after):
                    _print_events(page)
            finally:
                listening.cancel()

    with _database(Settings()) as (_, direct_url):
        asyncio.run(tail(direct_url))


@events_app.command("replay")
def events_replay(
    after: Annotated[int, typer.Option(help="Begin after this position.")] = 0,
    upto: Annotated[int, typer.Option(help="End with this position.")] = 2**63 - 1,
) -> None:
    """Print all events so far, in order, one JSON object a line."""

    async def replay(direct_url: str) -> None:
        async with _reading(direct_url) as store:
            async for page in store.replay(after=after, upto=upto):
                _print_events(page)

    with _database(Settings()) as (_, direct_url):
        asyncio.run(replay(direct_url))


@events_app.command("export")
def events_export(
    tenant: Annotated[str, typer.Argument(help="Whose events.")],
    after: Annotated[int, typer.Option(help="Begin after this position.")] = 0,
) -> None:
    """Print a tenant's events so far as CloudEvents, one a line."""

    async def export(direct_url: str) -> None:
        from service.eventlog.cloudevents import cloud_event
        from service.eventlog.store import EventStore
        from service.eventlog.tenant_feed import Selection, TenantFeed, chained
        from service.postgres import connections

        async with connections.pool(direct_url) as pool:
            store = EventStore(pool)
            log, log_epoch = (
                TenantFeed(pool, Selection(tenant_id=tenant)),
                await store.log_epoch(),
            )
            prev = await log.last(after)
            async for page in log.whole(after):
                for event, before in chained(page, prev):
                    sys.stdout.buffer.write(cloud_event(event, log_epoch, before) + b"\n")
                prev = page[-1].position if page else prev
        sys.stdout.buffer.flush()

    with _database(Settings()) as (_, direct_url):
        asyncio.run(export(direct_url))


@asynccontextmanager
async def _reading(direct_url: str) -> AsyncGenerator[Any]:
    from service.eventlog.store import EventStore
    from service.postgres import connections

    async with connections.pool(direct_url) as pool:
        yield EventStore(pool)


def _print_events(page: list[Any]) -> None:
    import orjson

    for event in page:
        line = {
            "position": event.position,
            "tenant": event.tenant_id,
            "stream": event.stream_id,
            "version": event.version,
            "type": event.type,
            "recordedAt": event.recorded_at,
            "projectId": event.project_id,
            "state": orjson.Fragment(event.state),
            "metadata": orjson.Fragment(event.metadata),
        }
        sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()
