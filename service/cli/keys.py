"""`throughline keys`, `throughline sign` and `throughline link`."""

import sys
from typing import Annotated

import typer
from rich.table import Table

from service.access.keys import known_keys
from service.access.signatures import HEADER
from service.cli.calls import SignedCalls, chosen_key, local_url, signature
from service.cli.console import out
from service.settings import Settings

LINKS = "/v1/links"


def keys() -> None:
    """List the known keys, without their secrets."""
    table = Table("key", "tenant", "scopes")
    for key_id, key in known_keys(Settings()).items():
        table.add_row(key_id, key.tenant, " ".join(sorted(key.scopes)))
    out.print(table)


def sign(
    method: Annotated[str, typer.Argument(help="GET, POST ...")],
    target: Annotated[str, typer.Argument(help="The path with its query, or the whole URL.")],
    body: Annotated[str, typer.Option(help="The body, byte for byte; - reads it.")] = "",
    key: Annotated[str, typer.Option(help="The key's id. By default the first key.")] = "",
) -> None:
    """Print the signature header of a request, for curl's -H."""
    key_id, found = chosen_key(Settings(), key)
    sent = sys.stdin.buffer.read() if body == "-" else body.encode()
    out.print(f"{HEADER}: {signature(key_id, found, method.upper(), target, sent)}")


def link(
    user: Annotated[str, typer.Option(help="The user that the link signs in.")],
    project: Annotated[str, typer.Option(help="The one project to sign in to.")] = "",
    url: Annotated[str, typer.Option(help="The service's URL. By default from the settings.")] = "",
    key: Annotated[str, typer.Option(help="The key's id. By default the first key.")] = "",
) -> None:
    """Print a link that signs a user in to the web client, once and within ten minutes."""
    settings = Settings()
    calls = SignedCalls(url.rstrip("/") or local_url(settings), *chosen_key(settings, key))
    named = {"projectId": project} if project else {}
    out.print(calls.post(LINKS, {"userId": user, **named})["url"])
