"""One embedded PostgreSQL for the test run, and a database of its own for each test."""

import gc
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import psycopg
import pytest
import structlog
from psycopg.sql import SQL, Identifier, Literal

from projections import PROJECTIONS
from projections.projection import install
from service.postgres import connections, migrations
from service.postgres.embedded import Server, embedded
from tests import pooler, routes, sizes
from tests.folders import in_memory
from tests.running import UNSAFE, LiveService, SharedService, sharing

sizes.use_hypothesis_profile()
# By default this library writes tracebacks with all variables, which takes longer than many tests.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)
_numbers = count(1)
LONGEST = (
    "test_contributing.py",
    "test_embedded.py",
    "test_erasure.py",
    "test_frozen.py",
    "test_page.py",
    "test_prove.py",
    "test_recovery.py",
    "test_true_errors.py",
)

# Atheris exists only for some platforms: see pyproject.toml.
collect_ignore = [] if find_spec("atheris") else ["test_fuzz.py"]
# These drills wait for time-outs, and need both cores for themselves: they run only where a command
# names their files, as `make prove` does.
collect_ignore += [f"service/eventlog/{each}.py" for each in ("test_lost_events", "test_patroni")]
if pooler.PROGRAM is None:
    collect_ignore.append("service/postgres/test_pooler.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first: no worker is left alone with one of them in the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """Let the garbage collector skip what was imported."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a failure at once where the list of failures comes much later."""
    if sizes.PROVE and report.failed:
        sys.stdout.write(f"\nFAILED {report.nodeid}\n{report.longreprtext}\n")
        sys.stdout.flush()


def pytest_report_header() -> str:
    """The seed that repeats the random choices of `make prove`, and what else may differ."""
    way = ", ".join(sorted(routes.NAMES)) or "direct"
    missing = "" if pooler.PROGRAM else "; without pgbouncer its tests are left out"
    size = "prove" if sizes.PROVE else "test"
    return f"seed: {sizes.SEED}, sizes of make {size}, way to the database: {way}{missing}"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _no_settings_leak_in() -> None:
    for name in list(os.environ):
        ours = name.startswith(("THROUGHLINE_", "ANTHROPIC_"))
        if ours and name not in ("THROUGHLINE_PROVE", "THROUGHLINE_SEED", routes.VARIABLE):
            del os.environ[name]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The PostgreSQL of this test run. It never syncs, because no test kills this server. A test
    that kills a server starts a durable server of its own.

    Every user may pass through its folder, because root's PostgreSQL runs as another user. So that
    PostgreSQL stays in the folder and leaves no files elsewhere.
    """
    with tempfile.TemporaryDirectory(prefix="throughline-", dir=in_memory()) as folder:
        Path(folder).chmod(0o755)
        with embedded(Path(folder, "postgres"), settings=UNSAFE) as running:
            _log_in_quickly(running)
            with routes.prepared(running):
                yield running


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """The URL of a migrated database. The database of each test is a copy of it."""

    async def make() -> str:
        url = _create(server, "throughline_template")
        await migrations.migrate(url)
        async with await connections.connect(url, as_service=False) as owner:
            await install(owner, PROJECTIONS)
            # As after a first append, which takes longer than all others.
            await owner.execute("select app.project_inline(1, 0, '{}')")
        return url

    return anyio.run(make)


@pytest.fixture
def new_database(server: Server, template: str) -> Iterator[Callable[[], str]]:
    """Makes databases that are dropped after the test; each call returns the URL of a new one."""
    with _databases(server) as make:
        yield make


@contextmanager
def _databases(server: Server) -> Iterator[Callable[[], str]]:
    names: list[str] = []

    def make() -> str:
        names.append(f"test_{os.getpid()}_{next(_numbers)}")
        return _create(server, names[-1], template="throughline_template")

    yield make
    with suppress(psycopg.OperationalError), psycopg.connect(server.url, autocommit=True) as admin:
        for name in names:
            admin.execute(f"drop database if exists {name} with (force)".encode())


@pytest.fixture(scope="module")
def new_shared_database(server: Server, template: str) -> Iterator[Callable[[], str]]:
    """Makes databases that are dropped after the module; each call returns the URL of a new one."""
    with _databases(server) as make:
        yield make


@pytest.fixture(scope="module")
def shared_url(new_shared_database: Callable[[], str]) -> str:
    """One database for the tests of a module that do not mind what the others store."""
    return new_shared_database()


@pytest.fixture(scope="module")
async def shared_service(shared_url: str) -> AsyncIterator[SharedService]:
    """One service for the tests of a module: most of the time of a test is the start of one."""
    async with sharing(shared_url) as started:
        yield started


@pytest.fixture(scope="module")
async def shared(shared_service: SharedService) -> LiveService:
    """The module's service, with the project p1 of u1, who has AI seconds.

    It is for tests that are refused or that read. A test must not mind what the others store.
    """
    await shared_service.live.project()
    await shared_service.live.credit()
    return shared_service.live


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    """A migrated, empty database; the URL is its owner's."""
    return new_database()


@pytest.fixture
async def pool(url: str) -> AsyncIterator[connections.Pool]:
    """Connections for reads to the test's database."""
    async with connections.pool(url) as opened:
        yield opened


def _log_in_quickly(server: Server) -> None:
    """Have the password hashed once at each login, not 4,096 times as for a server with users."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("set scram_iterations = 1")
        role, password = Identifier(admin.info.user), Literal(admin.info.password)
        admin.execute(SQL("alter role {} password {}").format(role, password))


def _create(server: Server, name: str, template: str = "template0") -> str:
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"create database {name} template {template} strategy file_copy".encode())
    return urlsplit(server.url)._replace(path=f"/{name}").geturl()
