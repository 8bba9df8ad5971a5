"""Imports run downwards only: between the packages, and between the rooms of a package.

An import inside a function or below `TYPE_CHECKING` counts like any other.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import domain

ROOT = Path(domain.__path__[0]).parent
PACKAGES = ("sql", "domain", "projections", "service")
LARGEST_ROOM = 12
"""Modules in a room. A room of `api/` has two modules for each noun, and so twice as many."""

FLOORS: dict[str, set[str]] = {
    "sql": {"sql"},
    "domain": {"domain"},
    "projections": {"psycopg", "sql", "domain", "projections"},
}
"""What each package may import beyond the standard library. `service` may import any library."""

EXTRAS = {("domain/replies/contracts.py", "pydantic")}
"""A module, and a library that only this module of its package may import."""

ROOMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "domain": (
        ("errors", "events"),
        ("metering", "stored_events"),
        ("modes",),
        ("deciders", "replies"),
        ("texts",),
    ),
    "service": (
        ("ids", "settings", "wire", "ops", "concurrency"),
        ("postgres",),
        ("eventlog",),
        ("access", "model", "source", "texts", "recorder"),
        ("replies",),
        ("chat",),
        ("commands",),
        ("jobs", "timelines", "replay", "webhooks"),
        ("http",),
        ("api", "web"),
        ("app",),
        ("cli",),
    ),
}
"""The floors of a package with rooms, lowest first. Rooms of one floor do not import each other. A
module beside the rooms counts as a room."""

CONFINED: dict[str, set[str]] = {
    "anthropic": {"service/model/client.py", "service/app.py"},
    "eventsourcing": {"service/recorder"},
    "httpx2": {"service/cli/chat.py", "service/model/client.py", "service/replay/delivery.py"},
    "jwt": {"service/access/browser_tokens.py"},
    "nats": {"service/replay/jetstream.py"},
    "opentelemetry": {"service/ops/tracing.py"},
    "sse_starlette": {"service/http/sse_response.py"},
    "starlette": {
        "service/http",
        "service/api",
        "service/web",
        "service/app.py",
        "service/model/offline/app.py",
    },
    "uvicorn": {"service/http", "service/model/offline/app.py"},
}
"""A library, and the only modules or rooms that may import the library."""

MODULES = sorted(
    str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
)


def imports(source: str) -> Iterator[str]:
    """The dotted names that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imported(module: str) -> tuple[str, ...]:
    """The dotted names that a module of the source imports."""
    return tuple(imports((ROOT / module).read_text(encoding="utf-8")))


def library(name: str) -> str:
    return name.partition(".")[0]


def room(name: str) -> tuple[str, str] | None:
    """The package with rooms, and its room, that a dotted name or a path lies in."""
    package, *parts = name.removesuffix(".py").replace("/", ".").split(".")
    return (package, parts[0]) if package in ROOMS and parts and parts[0] != "__init__" else None


def floor(package: str, room: str) -> int:
    return next(number for number, rooms in enumerate(ROOMS[package]) if room in rooms)


def homes(name: str) -> set[str]:
    return CONFINED.get(library(name), {""})


def forbidden(module: str, names: Iterable[str]) -> list[str]:
    """The names that a module must not import."""
    return [name for name in names if not _may_import(module, name)]


def _may_import(module: str, name: str) -> bool:
    package, top = module.split("/")[0], library(name)
    if top in ("tests", "scripts"):
        return False
    if package in FLOORS:
        allowed = FLOORS[package] | sys.stdlib_module_names
        if top not in allowed and (module, top) not in EXTRAS:
            return False
    elif not any(module.startswith(home) for home in homes(name)):
        return False
    ours, theirs = room(module), room(name)
    if ours is None or theirs is None or ours[0] != theirs[0]:
        return True
    return ours == theirs or floor(*theirs) < floor(*ours)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_own_room_and_from_lower_floors(module: str) -> None:
    assert forbidden(module, imported(module)) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("sql/__init__.py", "import psycopg"),
        ("sql/__init__.py", "import domain.events"),
        ("domain/deciders/session.py", "import orjson"),
        ("domain/deciders/session.py", "from domain.texts import markdown"),
        ("domain/events.py", "from domain.metering import Usage"),
        ("domain/deciders/session.py", "from pydantic import BaseModel"),
        ("domain/replies/contracts.py", "import projections"),
        ("projections/timeline.py", "from service.eventlog.store import EventStore"),
        ("projections/timeline.py", "import orjson"),
        ("service/eventlog/writer.py", "from starlette.requests import Request"),
        ("service/eventlog/store.py", "from eventsourcing.persistence import StoredEvent"),
        ("service/postgres/connections.py", "from service.eventlog import store"),
        ("service/access/audit.py", "from service.replies.sse import frame"),
        ("service/access/audit.py", "from service.texts.templates import render"),
        ("service/replies/tail.py", "from service.api.replies_schemas import ReplyState"),
        ("service/chat/turns.py", "    import anthropic"),
        ("service/chat/turns.py", "from service.api import chat"),
        ("service/chat/turns.py", "from service import app"),
        ("service/api/chat.py", "from service.app import application"),
        ("service/app.py", "import httpx2"),
        ("service/app.py", "from service import cli"),
        ("service/app.py", "import tests.conftest"),
        ("domain/deciders/session.py", "from scripts import bench"),
    ],
)
def test_an_import_from_a_higher_floor_is_found(module: str, line: str) -> None:
    assert forbidden(module, imports(f"def hidden() -> None:\n    {line.strip()}\n"))


def test_no_two_modules_import_each_other() -> None:
    graph = {_dotted(module): set[str]() for module in MODULES}
    for module in MODULES:
        for name in imported(module):
            below = name if name in graph else name.rpartition(".")[0]
            if below in graph and below != _dotted(module):
                graph[_dotted(module)].add(below)
    while leaves := {module for module, below in graph.items() if not below & graph.keys()}:
        for module in leaves:
            del graph[module]
    assert graph == {}, "these modules import each other, or stand above modules that do"


def _dotted(module: str) -> str:
    return module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_a_room_has_at_most_twelve_modules() -> None:
    rooms: dict[str, int] = {}
    for module in MODULES:
        folder, _, name = module.rpartition("/")
        rooms[folder] = rooms.get(folder, 0) + (name != "__init__.py")
    api = rooms.pop("service/api")
    packages = {folder: size for folder, size in rooms.items() if folder.startswith(tuple(ROOMS))}
    assert {folder: size for folder, size in packages.items() if size > LARGEST_ROOM} == {}
    nouns = [module for module in MODULES if module.startswith("service/api/")]
    assert api <= 2 * len({module.removesuffix("_schemas.py") for module in nouns})


def test_every_allowance_is_used() -> None:
    found = {(module, library(name)) for module in MODULES for name in imported(module)}
    used = {
        (name, home)
        for name, allowed in CONFINED.items()
        for home in allowed
        if any(module.startswith(home) and (module, name) in found for module in MODULES)
    }
    assert used == {(name, home) for name, allowed in CONFINED.items() for home in allowed}
    assert found >= EXTRAS
    for package, allowed in FLOORS.items():
        tops = {top for module, top in found if module.startswith(f"{package}/")}
        assert allowed <= tops | {package}


def test_every_room_stands_on_a_floor() -> None:
    rooms = {room(module) for module in MODULES} - {None}
    assert rooms == {
        (package, name) for package in ROOMS for floor in ROOMS[package] for name in floor
    }
