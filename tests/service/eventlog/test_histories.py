"""Cursors over failovers, restores and copies: none is refused that can go on, and none goes on
that has missed something.

Everything that was ever acknowledged is kept. Each history is asked for each cursor. It must go on
exactly where it has the event of the cursor, and refuse the cursor everywhere else.
"""

import os
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from projections import PROJECTIONS
from projections.projection import install
from service.eventlog.store import Recorded
from service.postgres import connections, migrations
from service.postgres.embedded import Server, embedded, program
from service.postgres.supervisor import Account
from service.wire import BEGINNING
from tests.folders import in_memory
from tests.running import UNSAFE, running
from tests.service.eventlog.logs import everything, running_log
from tests.service.watching import refused, said

pytestmark = pytest.mark.slow

EVENTS: Final = "/v1/events"
STREAM: Final = "/v1/project/p1/timeline/stream"


class Histories:
    """All events that were ever acknowledged, in any history, by the cursors that clients got."""

    def __init__(self) -> None:
        self.told: dict[str, Recorded] = {}

    async def append(self, url: str, *texts: str) -> None:
        """Append events, each with an append of its own, and one append of two events."""
        async with running_log(url) as log:
            before = await log.store.head()
            for text in texts:
                await log.writer.append([said(text)])
            await log.writer.append([said(f"{texts[-1]}, first"), said(f"{texts[-1]}, second")])
            self.tell(await log.store.range(after=before))

    def tell(self, events: list[Recorded]) -> None:
        """Clients got these events. No other event may have had the same cursor."""
        for each in events:
            assert self.told.setdefault(each.cursor, each) == each, "two events have one name"

    async def are_exact(self, url: str) -> list[str]:
        """Ask a service on this database for all cursors. Returns the texts of those refused."""
        lost: list[str] = []
        async with running(url) as run:
            log = await everything(run.service.store)
            self.tell(log)
            for cursor, event in [(BEGINNING, None), *self.told.items()]:
                if event is None or event in log:
                    answer = await run.client.get(EVENTS, params={"after": cursor})
                    assert answer.status_code == 200, (cursor, answer.text)
                    after = 0 if event is None else event.position
                    page = answer.json()
                    assert [each["id"] for each in page["events"]] == [
                        each.cursor for each in log[after:]
                    ]
                    assert page["after"] == (log[-1].cursor if log else BEGINNING)
                else:
                    lost.append(event.state.decode())
                    for path, headers in ((EVENTS, {}), (STREAM, {"Accept": "text/event-stream"})):
                        asked = {"params": {"after": cursor}, "headers": headers}
                        refusal = await refused(run, path, **asked)
                        assert refusal == (409, "cursor_of_another_log")
        return lost


@pytest.fixture
def histories() -> Histories:
    return Histories()


# Servers -----------------------------------------------------------------------------------------


def account(server: Server) -> Account:
    """The user that PostgreSQL runs as."""
    owner = server.data_dir.stat()
    return Account(owner.st_uid, owner.st_gid)


def run_as(server: Server, *command: str) -> None:
    """Run a program as the user of PostgreSQL; its own programs come from where the server does."""
    pid = int((server.data_dir / "postmaster.pid").read_text().splitlines()[0])
    programs = Path(psutil.Process(pid).exe()).parent
    done = account(server).run(str(programs / command[0]), *command[1:])
    assert done.returncode == 0, done.stdout


@contextmanager
def folder_for(server: Server) -> Generator[Path]:
    """A folder for another server, with the password of this one."""
    with new_folder() as folder:
        owner, known = account(server), conninfo_to_dict(server.url)
        (folder / "password").write_text(str(known["password"]))
        os.chown(folder, owner.uid, owner.gid)
        yield folder


@contextmanager
def standby(server: Server, *, follows: bool) -> Generator[Server]:
    """A copy of the server, made by pg_basebackup and started as a standby.

    With `follows` the standby receives what the server writes from now on. Otherwise the standby
    has the events of the backup alone.
    """
    with folder_for(server) as folder:
        base = ("--checkpoint=fast", "--no-sync", "--wal-method=stream")
        more = ("--write-recovery-conf",) if follows else ()
        data = folder / "data"
        run_as(server, "pg_basebackup", f"--pgdata={data}", f"--dbname={server.url}", *base, *more)
        (data / "standby.signal").touch()
        with embedded(folder, settings=UNSAFE) as started:
            yield started


async def owner_of(server: Server, *statements: str) -> None:
    """Execute statements as the superuser."""
    async with await connections.connect(server.url, as_service=False) as owner:
        for each in statements:
            await owner.execute(each.encode())


@contextmanager
def new_folder() -> Generator[Path]:
    """A folder for a server. Every user may pass through it."""
    with tempfile.TemporaryDirectory(prefix="throughline-", dir=in_memory()) as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def fill(server: Server) -> None:
    """Make an empty log with its read models."""
    await migrations.migrate(server.url)
    async with await connections.connect(server.url, as_service=False) as owner:
        await install(owner, PROJECTIONS)


# Histories ---------------------------------------------------------------------------------------


async def test_a_failover_refuses_what_it_lost_and_nothing_else(histories: Histories) -> None:
    """First a standby that has everything is promoted, then a standby that has not."""
    with ExitStack() as stack:
        folder = stack.enter_context(new_folder())
        first = stack.enter_context(embedded(folder, settings=UNSAFE))
        await fill(first)
        await histories.append(first.url, "before the backup")
        second = stack.enter_context(standby(first, follows=True))
        # From now on a commit is acknowledged when the standby shows it.
        await owner_of(
            first,
            "alter system set synchronous_standby_names = '*'",
            "alter role current_user set synchronous_commit = remote_apply",
            "select pg_reload_conf()",
        )
        await histories.append(first.url, "on both")
        await owner_of(
            second, "alter system reset synchronous_standby_names", "select pg_promote()"
        )
        assert await histories.are_exact(second.url) == []

        third = stack.enter_context(standby(second, follows=False))
        await histories.append(second.url, "lost one", "lost two")
        await owner_of(third, "select pg_promote()")
        lost = await histories.are_exact(third.url)
        assert len(lost) == 4
        assert all("lost" in each for each in lost)
        await histories.append(third.url, "in place of one", "in place of two", "and more")
        assert await histories.are_exact(third.url) == lost


async def test_a_copied_data_folder_shares_what_it_had(histories: Histories) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(new_folder())
        with embedded(folder, settings=UNSAFE) as server:
            await fill(server)
            await histories.append(server.url, "before the copy")
            copied = stack.enter_context(folder_for(server))
        copy(server.data_dir, copied / "data")
        first = stack.enter_context(embedded(folder, settings=UNSAFE))
        second = stack.enter_context(embedded(copied, settings=UNSAFE))
        assert await histories.are_exact(second.url) == []
        await histories.append(first.url, "in the first")
        await histories.append(second.url, "in the second")
        for server, other in ((first, "second"), (second, "first")):
            lost = await histories.are_exact(server.url)
            assert len(lost) == 3
            assert all(other in each for each in lost)


async def test_a_restore_into_another_database_shares_what_it_had(
    histories: Histories, url: str, server: Server, tmp_path: Path
) -> None:
    await histories.append(url, "before the backup")
    dump(url, tmp_path / "dump")
    await histories.append(url, "after the backup")
    name = f"{conninfo_to_dict(url)['dbname']}_restored"
    other = urlsplit(server.url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
    try:
        restore(other, tmp_path / "dump")
        lost = await histories.are_exact(other)
        assert (len(lost), {"after" in each for each in lost}) == (3, {True})
        await histories.append(other, "in the other")
        assert await histories.are_exact(other) == lost
        assert len(await histories.are_exact(url)) == 3
    finally:
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute(f"drop database {name} with (force)".encode())


async def test_a_restore_in_place_refuses_what_it_lost(
    histories: Histories, url: str, tmp_path: Path
) -> None:
    await histories.append(url, "before the backup")
    dump(url, tmp_path / "dump")
    await histories.append(url, "after the backup")
    restore(url, tmp_path / "dump", "--clean", "--if-exists")
    lost = await histories.are_exact(url)
    assert (len(lost), {"after" in each for each in lost}) == (3, {True})
    await histories.append(url, "in their place", "and more")
    assert await histories.are_exact(url) == lost


def copy(data: Path, to: Path) -> None:
    """Copy the files of a server that is stopped."""
    subprocess.run(["cp", "--archive", data, to], check=True)


def dump(url: str, file: Path) -> None:
    """Write a backup as docs/operations.md says."""
    options = ("--format=custom", "--no-owner", "--enable-row-security", f"--file={file}")
    subprocess.run([str(program("pg_dump")), *options, url], check=True)


def restore(url: str, file: Path, *options: str) -> None:
    """Restore a backup as docs/operations.md says."""
    common = ("--no-owner", "--exit-on-error", f"--dbname={url}")
    subprocess.run([str(program("pg_restore")), *common, *options, str(file)], check=True)
