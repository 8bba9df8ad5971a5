"""`throughline keys`."""

from rich.table import Table

from service.access.keys import known_keys
from service.cli.console import out
from service.settings import Settings


def keys() -> None:
    """List the known keys, without their secrets."""
    table = Table("key", "tenant", "scopes")
    for key_id, key in known_keys(Settings()).items():
        table.add_row(key_id, key.tenant, " ".join(sorted(key.scopes)))
    out.print(table)
