"""`throughline sign`."""

import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from service.access import signatures
from service.access.keys import known_keys
from service.cli.console import err, out
from service.settings import Settings


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
        err.print(f"throughline: there is no key {key_id}; known are {', '.join(keys)}.")
        raise typer.Exit(2)
    parts = urlsplit(target)
    value = signatures.header(
        keys[key_id].secret.get_secret_value(),
        method=method.upper(),
        path=parts.path.encode(),
        query=parts.query.encode(),
        key_id=key_id,
        body=sys.stdin.buffer.read() if body == "-" else body.encode(),
    )
    out.print(f"{signatures.HEADER}: {value}")
