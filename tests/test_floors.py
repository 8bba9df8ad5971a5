"""Who may import whom: the house has floors, and nobody reaches up.

sql < domain < projections < service < service.api < the composition root
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import domain

ROOT = Path(domain.__path__[0]).parent
OURS = ("domain", "projections", "service", "sql", "scripts", "tests")

FLOORS: dict[str, set[str]] = {
    "sql": {"sql"},
    "domain": {"domain"},
    "projections": {"psycopg", "sql", "domain", "projections"},
}
"""What each package may import beyond the standard library. Anything else is the service's."""

EXTRAS = {"domain/reply_contracts.py": {"pydantic"}}

CONFINED: dict[str, set[str]] = {
    "starlette": {
        "service/app.py",
        "service/http/server.py",
        "service/http/sse_response.py",
        "service/http/problems.py",
        "service/access/authentication.py",
        "service/http/openapi.py",
        "service/model/offline/app.py",
        "service/api/*",
    },
    "sse_starlette": {"service/http/sse_response.py"},
    "anthropic": {"service/model/client.py", "service/app.py"},
    "httpx2": {"service/model/client.py"},
    "jwt": {"service/access/browser_tokens.py"},
    "eventsourcing": {"service/recorder/__init__.py", "service/recorder_tracking.py"},
    "service.api": {"service/app.py", "service/http/openapi.py", "service/api/*"},
    "service.app": {
        "service/http/server.py",
        "service/cli/__init__.py",
        "service/cli/demo.py",
        "service/http/operation.py",  # its type alone
    },
    "service.cli": set(),
}
"""Who alone may import what, in the service. The composition root makes the model's client."""

MODULES = sorted(
    str(path.relative_to(ROOT))
    for package in ("domain", "projections", "service", "sql")
    for path in (ROOT / package).rglob("*.py")
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


def is_of(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def faults(module: str, source: str) -> list[str]:
    """What the module imports and may not."""
    floor = module.split("/")[0]
    found = list(imports(source))
    wrong = [name for name in found if is_of(name, "tests") or is_of(name, "scripts")]
    if floor in FLOORS:
        allowed = FLOORS[floor] | EXTRAS.get(module, set()) | sys.stdlib_module_names
        wrong += [name for name in found if name.split(".")[0] not in allowed]
    for package, homes in CONFINED.items():
        home = {module, f"{Path(module).parent}/*"}
        if not homes & home:
            wrong += [name for name in found if is_of(name, package)]
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_own_floor_and_below(module: str) -> None:
    assert faults(module, (ROOT / module).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("sql/__init__.py", "import psycopg"),
        ("sql/__init__.py", "import domain.events"),
        ("domain/session.py", "import orjson"),
        ("domain/session.py", "from pydantic import BaseModel"),
        ("domain/reply_contracts.py", "import projections"),
        ("projections/timeline.py", "from service.store import EventStore"),
        ("projections/timeline.py", "import orjson"),
        ("service/eventlog/writer.py", "from starlette.requests import Request"),
        ("service/chat/turns.py", "    import anthropic"),
        ("service/app.py", "import httpx2"),
        ("service/eventlog/store.py", "from eventsourcing.persistence import StoredEvent"),
        ("service/chat/turns.py", "from service.api import chat"),
        ("service/api/chat.py", "from service.app import Service"),
        ("service/app.py", "from service import cli"),
        ("service/app.py", "import tests.conftest"),
        ("domain/session.py", "from scripts import bench"),
    ],
)
def test_a_reach_upwards_is_found(module: str, line: str) -> None:
    source = f"def hidden() -> None:\n    {line.strip()}\n"
    assert faults(module, source)


def test_there_are_modules_to_look_at() -> None:
    assert {module.split("/")[0] for module in MODULES} == {
        "domain",
        "projections",
        "service",
        "sql",
    }
