"""`throughline events`: the log, followed, replayed, exported, imported and verified."""

import logging

import typer

from service.cli.events.files import export_events, import_archive
from service.cli.events.replay import replay
from service.cli.events.tail import tail
from service.cli.events.verify import verify

app = typer.Typer(no_args_is_help=True, help="The log.")


@app.callback()
def begin() -> None:
    """The log."""
    # psycopg warns of every statement after the statement that failed.
    logging.getLogger("psycopg").setLevel(logging.ERROR)


app.command("tail")(tail)
app.command("replay")(replay)
app.command("export")(export_events)
app.command("import")(import_archive)
app.command("verify")(verify)
