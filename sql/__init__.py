"""The database's own code, as text: named statements, numbered migrations, and functions.

Statements are bytes, because psycopg takes bytes from anywhere as a query, but a `str` only where
the type checker can see that nobody composed it.
"""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

ROLES: Final = "throughline"
"""What the names of the roles begin with in the SQL of the project."""

_ROLE: Final = re.compile(rb"\bthroughline_(service|tenant|analyst)\b")
_SECTION: Final = re.compile(r"^-- (name|part): (\w+)\n", re.MULTILINE)
_USED: Final = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step that a database takes once. `digest` tells when it was edited later."""

    number: int
    name: str
    text: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Function:
    """The current text of the SQL function `app.<name>`, with the grants that belong to it."""

    name: str
    text: bytes
    digest: str


@cache
def statements(path: str) -> dict[str, bytes]:
    """The statements of a file by their names. The line `-- name: page` begins the statement
    `page`.

    `-- part: columns` begins a text that statements share. The sections below it write `{columns}`
    where they need this text.
    """
    _, *sections = _SECTION.split(_read(path))
    parts: dict[str, str] = {}
    found: dict[str, bytes] = {}
    for kind, name, text in zip(sections[::3], sections[1::3], sections[2::3], strict=True):
        whole = _USED.sub(lambda used: parts[used[1]], text.strip())
        if kind == "part":
            parts[name] = whole
        else:
            found[name] = whole.encode()
    return found


def named(text: bytes, prefix: str) -> bytes:
    """The text for a database whose roles have names with another beginning."""
    return text if prefix == ROLES else _ROLE.sub(prefix.encode() + rb"_\1", text)


def migrations() -> list[Migration]:
    """All migrations in order."""
    return [_migration(name) for name in _names("migrations")]


def functions() -> list[Function]:
    """All functions that no read model owns, by name."""
    return [_function(name) for name in _names("functions")]


def _migration(name: str) -> Migration:
    text = _read(f"migrations/{name}").encode()
    return Migration(int(name[:4]), name.removesuffix(".sql"), text, sha256(text).hexdigest())


def _function(name: str) -> Function:
    text = _read(f"functions/{name}").encode()
    return Function(name.removesuffix(".sql"), text, sha256(text).hexdigest())


def _names(folder: str) -> list[str]:
    """The SQL files of a folder, sorted."""
    entries = (files(__name__) / folder).iterdir()
    return sorted(entry.name for entry in entries if entry.name.endswith(".sql"))


def _read(path: str) -> str:
    return (files(__name__) / path).read_text(encoding="utf-8")
