"""What the owner of the database does: `throughline migrate`, `psql`, `backup` and `restore`."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from service.cli.console import err, out
from service.cli.database import as_owner_of, bring_up_to_date, database
from service.settings import Settings

_ROLES: Final = re.compile(r"^GRANT USAGE ON SCHEMA app TO (\w+)_service;", re.MULTILINE)
File = Annotated[Path, typer.Argument(help="The file of the backup.")]


def migrate() -> None:
    """Bring the database and its read models to this version."""
    with database(Settings()) as found:
        changed = asyncio.run(bring_up_to_date(found.direct_url))
    out.print(f"{found.described}: {'done' if changed else 'up to date'}")


def psql(
    context: typer.Context,
    url: Annotated[
        bool, typer.Option("--url", help="Print the URL, with the password, in place of psql.")
    ] = False,
) -> None:
    """Open psql as the owner of the database; arguments after `--` are psql's.

    Where psql is missing, print the URL. While no service runs, the embedded database runs for as
    long as this command does.
    """
    with database(Settings()) as found:
        program = shutil.which("psql") or _own("psql")
        if url or program is None:
            out.print(found.direct_url)
            return
        former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for psql
        try:
            ended = _run(found.direct_url, program, *context.args)
        finally:
            signal.signal(signal.SIGINT, former)
    raise typer.Exit(ended.returncode)


def backup(file: File) -> None:
    """Write the whole database to a file, while the service runs."""
    with database(Settings()) as found:
        # Row level security binds the owner, too. Its policies show the owner all rows.
        options = ("--format=custom", "--no-owner", "--enable-row-security", f"--file={file}")
        ended = _run(found.direct_url, _needed("pg_dump"), *options)
    if ended.returncode:
        raise typer.Exit(1)
    out.print(f"{file}: {file.stat().st_size} bytes")


def restore(file: File) -> None:
    """Fill an empty database from a backup, and bring it to this version.

    The database may be on another server, and may have another owner.
    """
    from service.postgres import roles

    if not file.is_file():
        err.print(f"throughline: there is no file {file}.")
        raise typer.Exit(2)
    program = _needed("pg_restore")
    with database(Settings()) as found:
        if asyncio.run(as_owner_of(found.direct_url, roles.is_in_use)):
            err.print(
                f"throughline: {found.described} is not empty. Name an empty database in"
                " THROUGHLINE_DATABASE_URL, or an empty folder in THROUGHLINE_DATA_DIR.",
            )
            raise typer.Exit(2)
        schema = subprocess.run(
            [program, "--schema-only", "--file=-", file],
            check=False,
            capture_output=True,
            text=True,
        )
        named = _ROLES.search(schema.stdout)
        if named is None:
            err.print(f"throughline: {file} is no backup of this service.")
            raise typer.Exit(2)
        create = partial(roles.create, name=named[1])
        asyncio.run(as_owner_of(found.direct_url, create))
        ended = _run(found.direct_url, program, "--no-owner", "--exit-on-error", str(file))
        if ended.returncode:
            raise typer.Exit(1)
        asyncio.run(bring_up_to_date(found.direct_url))
    out.print(f"{found.described}: restored")


def _own(name: str) -> str | None:
    from service.postgres.embedded import program

    found = program(name)
    return str(found) if found else None


def _needed(name: str) -> str:
    """A program that must not be older than the server: the newest is in the wheel."""
    found = _own(name) or shutil.which(name)
    if found is None:
        err.print(f"throughline: {name} is missing. Install PostgreSQL's client programs.")
        raise typer.Exit(1)
    return found


def _run(url: str, program: str, *arguments: str) -> "subprocess.CompletedProcess[Any]":
    """Run a program of PostgreSQL on a database. Everybody on the machine can read the arguments of
    a process, so the password is none of them."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    secret = {"PGPASSWORD": parts.pop("password")} if "password" in parts else {}
    where = make_conninfo("", **parts)
    return subprocess.run(
        [program, "--dbname", where, *arguments], env={**os.environ, **secret}, check=False
    )
