"""The type checkers refuse a handler that reads another type than its operation declares."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import service

pytestmark = pytest.mark.slow

ROOT = Path(service.__path__[0]).parent

MODULE = """
from types import NoneType

from starlette.responses import Response

from service.api.projects_schemas import ProjectRequest, RoleRequest
from service.api.schemas import ActingQuery, PageQuery
from service.http.call import Call
from service.http.operation import Operation


async def page(call: Call[None, PageQuery]) -> Response:
    return Response(repr(call.query.limit))


async def project(call: Call[ProjectRequest, None]) -> Response:
    return Response(call.body.name)


async def acting(call: Call[object, ActingQuery]) -> Response:
    return Response(call.query.user_id)


async def limit_of_acting(call: Call[None, ActingQuery]) -> Response:
    return Response(repr(call.query.limit))  # refused


OPERATIONS = (
"""

CASES = """
body=NoneType, query=PageQuery, handle=page
body=ProjectRequest, query=NoneType, handle=project
body=RoleRequest, query=ActingQuery, handle=acting
body=RoleRequest, query=PageQuery, handle=acting
body=NoneType, query=ActingQuery, handle=page  # refused
body=NoneType, query=NoneType, handle=page  # refused
body=ProjectRequest, query=PageQuery, handle=page  # refused
body=RoleRequest, query=NoneType, handle=project  # refused
body=NoneType, query=NoneType, handle=project  # refused
"""

CHECKERS = {
    "mypy": ("mypy", "--strict"),
    "pyright": ("pyright", "--pythonpath", sys.executable),
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_type_checkers_refuse_a_handler_that_reads_another_type(
    checker: str, tmp_path: Path
) -> None:
    made = 'Operation(method="GET", path="/", name="x", summary="", scopes=("read",), '
    lines = [*MODULE.strip().splitlines()]
    for case in CASES.strip().splitlines():
        arguments, _, mark = case.partition("  # ")
        lines.append(f"    {made}{arguments}),  # {mark}")
    module = tmp_path / "operations.py"
    module.write_text("\n".join([*lines, ")"]))
    command = [sys.executable, "-m", *CHECKERS[checker], str(module)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = re.findall(r"operations\.py:(\d+)(?::\d+)?(?: -|:) error", done.stdout)
    refused = [n for n, line in enumerate(lines, 1) if line.endswith("# refused")]
    assert sorted({int(n) for n in found}) == refused, done.stdout
