"""Commands run in this process: what they print, and how they tell what a user got wrong."""

import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import duckdb
import psycopg
import pytest

from projections import PROJECTIONS
from service.cli.owner import _needed
from service.postgres import connections
from service.postgres.embedded import Server, embedded
from tests.documents import DOCS
from tests.folders import in_memory
from tests.projections.generated import World, writing
from tests.running import UNSAFE
from tests.service.cli.conftest import Command

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "abc", "THROUGHLINE_PORT='abc' must be a whole number."),
        ("PORT", "70000", "THROUGHLINE_PORT='70000' must be at most 65535."),
        ("USER_MESSAGES", "-1", "THROUGHLINE_USER_MESSAGES='-1' must be at least 1."),
        ("GRACE_SECONDS", "abc", "THROUGHLINE_GRACE_SECONDS='abc' must be a number."),
        (
            "ORIGINS",
            "https://shop.example/,*",
            "THROUGHLINE_ORIGINS='https://shop.example/,*' must be origins without a path, such as"
            " https://shop.example.com.",
        ),
        ("GRACE_SECONDS", "0", "THROUGHLINE_GRACE_SECONDS='0' must be more than 0.0."),
        (
            "LOG_LEVEL",
            "loud",
            "THROUGHLINE_LOG_LEVEL='loud' must be 'debug', 'info', 'warning' or 'error'.",
        ),
        (
            "SOURCE_DIR",
            "/none",
            "THROUGHLINE_SOURCE_DIR='/none' is no folder; create it, or leave the setting out.",
        ),
        ("HMAC_KEYS", f"x {SECRET}", "THROUGHLINE_HMAC_KEYS is no JSON. See docs/operations.md."),
        (
            "HMAC_KEYS",
            f'{{"k": {{"secret": "{SECRET}", "scopes": []}}}}',
            "THROUGHLINE_HMAC_KEYS: tenant of key k is missing.",
        ),
        (
            "HMAC_KEYS",
            f'{{"k": {{"secret": "{SECRET}", "{SECRET}": 1, "tenant": "t", "scopes": []}}}}',
            "THROUGHLINE_HMAC_KEYS: a member of key k is not known.",
        ),
        (
            "HMAC_KEYS",
            '{"k": {"secret": "short", "tenant": "t", "scopes": []}}',
            "THROUGHLINE_HMAC_KEYS: secret of key k must have at least 16 characters.",
        ),
        (
            "HMAC_KEYS",
            f'{{"k": "{SECRET}"}}',
            "THROUGHLINE_HMAC_KEYS: key k must be a JSON object with"
            ' "secret", "tenant" and "scopes".',
        ),
        (
            "DATABASE_URL",
            f"mysql://u:{SECRET}@h/d",
            "THROUGHLINE_DATABASE_URL must begin with postgresql://.",
        ),
    ],
)
def test_a_wrong_setting_is_one_line(command: Command, name: str, value: str, said: str) -> None:
    code, written = command("keys", **{f"THROUGHLINE_{name}": value})
    assert (code, written) == (2, f"throughline: {said}\n")
    assert SECRET not in written


def test_every_wrong_setting_is_told_at_once(command: Command) -> None:
    code, written = command("keys", THROUGHLINE_PORT="x", THROUGHLINE_MAX_TOKENS="1")
    assert code == 2
    assert [line.split("=")[0] for line in written.splitlines()] == [
        "throughline: THROUGHLINE_PORT",
        "throughline: THROUGHLINE_MAX_TOKENS",
    ]


def test_an_unknown_setting_is_told_and_does_not_stop_the_command(command: Command) -> None:
    level = {"THROUGHLINE_LOG_LEVEL": "WARNING", "THROUGHLINE_DATABASE_URL": ""}
    code, written = command("sign", "GET", "/x", THROUGHLINE_LOG_LEVL="x", **level)
    assert code == 0
    assert "THROUGHLINE_LOG_LEVL is no setting" in written
    assert "Did you mean THROUGHLINE_LOG_LEVEL?" in written


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"postgresql://u:{SECRET}@127.0.0.1:1/d", "Connection refused. Is PostgreSQL there?"),
        (f"postgresql://u:{SECRET}@none.invalid/d", "failed to resolve host"),
        (f"postgresql://u:{SECRET}@se cret@h:x/d", "cannot be read. It has the form"),
        (f"host=127.0.0.1 password={SECRET} nonsense", "cannot be read. It has the form"),
    ],
)
def test_a_database_that_cannot_be_reached_is_one_line(
    command: Command, url: str, said: str
) -> None:
    code, written = command("serve", THROUGHLINE_DATABASE_URL=url, THROUGHLINE_PORT="0")
    assert code == 2
    assert written.startswith("throughline: THROUGHLINE_DATABASE_URL")
    assert said in written
    assert written.count("\n") == 1
    assert SECRET not in written


def test_a_text_is_printed_as_it_is(command: Command) -> None:
    key = f'{{"secret": "{SECRET}", "tenant": ":key:[/b]", "scopes": []}}'
    keys = {"THROUGHLINE_HMAC_KEYS": f'{{"k": {key}}}'}
    assert ":key:[/b]" in command("keys", **keys)[1]
    code, written = command("sign", "GET", "/v1/projects", "--key", "[/b]:key:", **keys)
    assert (code, written) == (2, "throughline: there is no key [/b]:key:; known are k.\n")


@pytest.fixture
def ordinary(server: Server) -> Iterator[str]:
    """The URL of an empty database whose owner may not create roles."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("create role ordinary login password 'hidden-here'")
        admin.execute("create database ordinary owner ordinary")
    parts = urlsplit(server.url)
    address = parts.netloc.rpartition("@")[2]
    yield parts._replace(netloc=f"ordinary:hidden-here@{address}", path="/ordinary").geturl()
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("drop database ordinary with (force)")
        admin.execute("drop role ordinary")


def test_an_owner_that_may_not_create_roles_is_one_line(command: Command, ordinary: str) -> None:
    code, written = command("migrate", THROUGHLINE_DATABASE_URL=ordinary)
    assert code == 2
    assert "CREATEROLE" in written
    assert written.count("\n") == 1
    wrong = ordinary.replace("hidden-here", "not-the-password")
    code, written = command("migrate", THROUGHLINE_DATABASE_URL=wrong)
    assert code == 2
    assert "password authentication failed" in written
    assert "not-the-password" not in written


def test_a_database_without_tables_names_the_command_that_makes_them(
    command: Command, ordinary: str
) -> None:
    for arguments in (("projections", "status"), ("events", "replay"), ("analysts", "list")):
        code, written = command(*arguments, THROUGHLINE_DATABASE_URL=ordinary)
        assert code == 2
        assert "run `throughline migrate`" in written
        assert written.count("\n") == 1


def test_a_port_in_use_is_one_line(command: Command, url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, written = command("serve", THROUGHLINE_DATABASE_URL=url, THROUGHLINE_PORT=port)
    assert code == 2
    assert f"Port {port} of 127.0.0.1 is in use." in written
    assert "THROUGHLINE_PORT" in written
    assert written.count("\n") == 1


def test_an_address_of_another_machine_is_one_line(command: Command) -> None:
    code, written = command("serve", THROUGHLINE_HOST="192.0.2.1")
    assert (code, written.count("\n")) == (2, 1)
    assert "THROUGHLINE_HOST" in written


def test_migrate_says_what_it_did(command: Command, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("drop table app.replies")
        owner.execute("delete from app.projection where name = 'replies'")
    code, written = command("migrate", THROUGHLINE_DATABASE_URL=url)
    assert code == 0
    assert "built replies\n" in written
    assert ": done\n" in written
    code, written = command("migrate", THROUGHLINE_DATABASE_URL=url)
    assert (code, written.count("\n")) == (0, 1)
    assert written.endswith(": up to date\n")
    assert str(urlsplit(url).password) not in written


def test_an_analyst_is_added_listed_given_a_new_password_and_removed(
    command: Command, url: str, server: Server
) -> None:
    here = {"THROUGHLINE_DATABASE_URL": url, "PGOPTIONS": "-c log_statement=all"}
    name = f"maria_{os.getpid()}"
    code, written = command("analysts", "add", name, "acme", **here)
    assert code == 2
    assert "acme" in written
    code, first = command("analysts", "add", name, "demo", **here)
    assert code == 0
    code, second = command("analysts", "password", name, **here)
    assert code == 0
    assert command("analysts", "password", "nobody", **here)[0] == 2
    code, listed = command("analysts", "list", **here)
    assert re.search(rf"{name}\W+demo", listed)
    former, current = (re.findall(r"^postgresql://.+$", text, re.M)[0] for text in (first, second))
    with psycopg.connect(current) as connection:
        connection.execute("table analytics.project_builds")
    code, lines = command("analysts", **here)
    assert code == 0
    password = str(urlsplit(current).password)
    secret = second.replace(f":{password}@", "@").replace(f" password={password}", "")
    assert lines == secret
    (attach,) = duckdb.extract_statements(second.splitlines()[3])
    assert attach.type == duckdb.StatementType.ATTACH
    exec("\n".join(second.splitlines()[5:]), {})  # noqa: S102 - it is what an analyst pastes
    with psycopg.connect(re.findall(r'^psql "(.+)"$', second, re.M)[0]):
        pass
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(former)
    log = (server.data_dir.parent / "postgres.log").read_text(errors="replace")
    assert f'alter role "{name}" password' in log, "the control"
    for each in (former, current):
        assert str(urlsplit(each).password) not in log
    assert command("analysts", "remove", name, **here)[0] == 0
    assert command("analysts", "remove", name, **here)[0] == 2


def test_files_of_the_views_are_of_a_known_tenant_in_a_new_folder(
    command: Command, url: str, tmp_path: Path
) -> None:
    here, folder = {"THROUGHLINE_DATABASE_URL": url}, tmp_path / "views"
    code, written = command("analysts", "export", "nobody", str(folder), **here)
    assert (code, written.count("\n")) == (2, 1)
    assert "nobody" in written
    assert list(tmp_path.iterdir()) == [], "nothing is left of it"
    code, written = command("analysts", "export", "nobody", str(tmp_path), **here)
    assert code == 2
    assert "Name another folder" in re.sub(r"\W+", " ", written)


def test_psql_opens_the_database_of_the_settings(command: Command, url: str) -> None:
    here = {"THROUGHLINE_DATABASE_URL": url}
    before = signal.getsignal(signal.SIGINT)
    assert command("psql", "--url", **here) == (0, f"{url}\n")
    assert command("psql", "--", "-c", "select count(*) from app.event", **here)[0] == 0
    assert command("psql", "--", "-v", "ON_ERROR_STOP=1", "-c", "select 1/0", **here)[0] == 1
    assert signal.getsignal(signal.SIGINT) is before, "Ctrl-C works again"


@pytest.fixture
def owner(server: Server, template: str) -> Iterator[Callable[[str], str]]:
    """Makes databases of ordinary owners on a server; returns their URLs."""
    made: list[str] = []

    def make(on: str) -> str:
        name = f"keeper_{os.getpid()}"
        with psycopg.connect(on, autocommit=True) as admin:
            admin.execute(f"create role {name} login createrole password 'hidden-here'".encode())
            admin.execute(f"create database {name} owner {name} template template0".encode())
        made.append(name)
        parts = urlsplit(on)
        address = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=f"{name}:hidden-here@{address}", path=f"/{name}").geturl()

    yield make
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"drop database {made[0]} with (force)".encode())
        for role in ("service", "tenant", "analyst"):
            admin.execute(f"drop role if exists throughline_{made[0]}_{role}".encode())
        admin.execute(f"drop role {made[0]}".encode())


@pytest.mark.slow
def test_a_backup_of_an_ordinary_owner_is_restored_on_another_server(
    command: Command,
    owner: Callable[[str], str],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the lines of the operations page."""
    before = {"THROUGHLINE_DATABASE_URL": owner(server.url)}
    assert command("migrate", **before)[0] == 0
    anyio.run(filled, before["THROUGHLINE_DATABASE_URL"])
    monkeypatch.chdir(tmp_path)
    backup, restore, by_hand = lines_of("Backup and restore")
    code, written = command(*backup, **before)
    assert code == 0, written
    contents = listed("throughline.dump")
    dumped_by_hand(by_hand, before["THROUGHLINE_DATABASE_URL"])
    assert listed("throughline.dump") == contents
    for line in lines_of("Sizing"):
        assert command(*line, **before)[0] == 0
    code, refused = command(*restore, **before)
    assert code == 2
    assert "is not empty" in refused
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        Path(folder).chmod(0o755)
        with embedded(Path(folder, "postgres"), settings=UNSAFE) as other:
            after = {"THROUGHLINE_DATABASE_URL": owner(other.url)}
            code, written = command(*restore, **after)
            assert code == 0, written
            assert written.endswith(": restored\n")
            assert "built" not in written, "the read models are in the backup"
            verified = command("projections", "verify", **after)[1]
            assert verified.count("agrees with the log") == len(PROJECTIONS)
            logs = [anyio.run(whole, url["THROUGHLINE_DATABASE_URL"]) for url in (before, after)]
            assert logs[0] == logs[1]
    assert command("restore", str(tmp_path / "none"), **before)[0] == 2


def lines_of(heading: str) -> list[list[str]]:
    """The words of each indented line of a section of the page, without `throughline`."""
    page = (DOCS / "operations.md").read_text()
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^    (\w+ .+)$", section, re.M)
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] if line[0] == "throughline" else line for line in words]


def listed(file: str) -> list[str]:
    """What a backup has, without the moment at which it was made."""
    done = subprocess.run(
        [_needed("pg_restore"), "--list", file], check=True, capture_output=True, text=True
    )
    return [line for line in done.stdout.splitlines() if not line.startswith(";")]


def dumped_by_hand(line: list[str], url: str) -> None:
    """Run the line that the page gives for a backup by hand."""
    program, *options, last = line
    assert last == "$URL"
    subprocess.run([_needed(program), *options, url], check=True)


async def filled(url: str) -> None:
    """Append a generated log of several tenants."""
    async with writing(url) as log:
        await log.append(World(7).appends(60))


async def whole(url: str) -> list[object]:
    """Every row of the log and of the timeline."""
    async with connections.pool(url) as pool, connections.service_transaction(pool) as reading:
        statements = (
            b"select * from app.event order by position",
            b"select * from app.timeline order by position",
        )
        return [await (await reading.execute(each)).fetchall() for each in statements]
