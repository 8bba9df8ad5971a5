"""The command line: `throughline`. Heavy imports wait until a command needs them."""

import sys

import typer

from service.cli import analysts, events, failures, projections
from service.cli.chat import chat
from service.cli.console import err
from service.cli.demo import fill
from service.cli.keys import keys, link, sign
from service.cli.owner import backup, migrate, psql, restore
from service.cli.past import show
from service.cli.past.diff import diff
from service.cli.relay import relay
from service.cli.serve import serve

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Throughline, the timeline.",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for command in (serve, migrate, backup, restore, sign, link, keys, chat, diff, relay):
    app.command()(command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(psql)
app.add_typer(projections.app, name="projections")
app.add_typer(events.app, name="events")
app.add_typer(analysts.app, name="analysts")
app.add_typer(show.app, name="show")
app.add_typer(fill.app, name="demo")


def main() -> None:
    """Run a command. Prints an expected failure in a line or two, without a traceback."""
    for line in failures.unknown_settings():
        err.print(f"throughline: {line}")
    try:
        app()
    except Exception as error:
        explained = failures.explained(error)
        if explained is None:
            raise
        lines, code = explained
        for line in lines:
            err.print(f"throughline: {line}")
        sys.exit(code)
