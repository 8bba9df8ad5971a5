"""`throughline psql`."""

import os
import shutil
import signal
import subprocess
from typing import Annotated

import typer

from service.cli.console import out
from service.cli.database import database
from service.settings import Settings


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
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from service.postgres.embedded import program

    with database(Settings()) as found:
        client = shutil.which("psql") or program("psql")
        if url or client is None:
            out.print(found.direct_url)
            return
        parts = {name: str(value) for name, value in conninfo_to_dict(found.direct_url).items()}
        # Everybody on the machine can read the arguments of a process.
        secret = {"PGPASSWORD": parts.pop("password")} if "password" in parts else {}
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for psql
        ended = subprocess.run(
            [client, *context.args, "--dbname", make_conninfo("", **parts)],
            env={**os.environ, **secret},
            check=False,
        )
    raise typer.Exit(ended.returncode)
