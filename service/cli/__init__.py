"""The command line: `throughline`. Heavy imports wait until a command needs them."""

import sys

import typer

from service.cli import analysts, events, projections
from service.cli.console import err
from service.cli.keys import keys
from service.cli.migrate import migrate
from service.cli.serve import serve
from service.cli.sign import sign

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Throughline, the timeline.")
for command in (serve, migrate, sign, keys):
    app.command()(command)
app.add_typer(projections.app, name="projections")
app.add_typer(events.app, name="events")
app.add_typer(analysts.app, name="analysts")


def main() -> None:
    """Run a command. Prints an expected failure in one line, without a traceback."""
    from service.postgres.functions import FunctionRefused
    from service.postgres.migrations import MigrationRefused
    from service.postgres.supervisor import PostgresFailed

    try:
        app()
    except (MigrationRefused, FunctionRefused, PostgresFailed) as error:
        err.print(f"throughline: {error}", markup=False)
        sys.exit(1)
