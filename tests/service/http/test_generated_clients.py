"""Clients that others' generators make from the OpenAPI document call the service."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from service.app import _openapi_document
from tests.documents import DOCS, ROOT
from tests.running import Signed, running
from tests.sizes import PROVE
from tests.web.runtimes import NODE

TYPESCRIPT: Final = (
    "node_modules/openapi-typescript/bin/cli.js",
    "3.1.0.json",
    "--default-non-nullable=false",
    *("-o", "api.ts"),
)
PYTHON: Final = (
    "uv tool run openapi-python-client@0.29.1 generate --path 3.1.0.json --output-path client"
    " --config generator.yml --fail-on-warning"
)
PYTHON_CONFIG: Final = "content_type_overrides: {application/x-ndjson: text/plain}"
WEB: Final = ROOT / "tests" / "web"
VALIDATE: Final = """
import { Validator } from '@seriousme/openapi-schema-validator'
import { readFileSync } from 'node:fs'
for (const path of process.argv.slice(1)) {
  const validator = new Validator()
  const { valid, errors } = await validator.validate(JSON.parse(readFileSync(path, 'utf8')))
  console.log(JSON.stringify({ version: validator.version, valid, errors: errors ?? [] }))
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the documents, where Node finds the packages of the tests."""
    (tmp_path / "node_modules").symlink_to(WEB / "node_modules")
    for form in ("3.1.0", "3.2.0"):
        (tmp_path / f"{form}.json").write_bytes(_openapi_document(form)[0])
    return tmp_path


async def node(folder: Path, *arguments: str) -> str:
    """What a program of Node prints. Fails where the program fails."""
    command = (str(NODE), *arguments)
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=PIPE, stderr=STDOUT)
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    return printed.decode()


def test_the_api_page_names_the_same_generators_with_the_same_options() -> None:
    page = (DOCS / "api.md").read_text()
    package = json.loads((WEB / "package.json").read_text())["devDependencies"]
    assert f"openapi-typescript@{package['openapi-typescript']}" in page
    assert " ".join(TYPESCRIPT[2:]) in page
    assert f"uvx {PYTHON.split()[3]} generate" in page
    assert PYTHON_CONFIG in page


async def test_another_validator_finds_both_documents_valid(folder: Path) -> None:
    broken = json.loads((folder / "3.2.0.json").read_bytes())
    broken["paths"]["/v1/chat-plan"]["post"]["responses"] = "none"
    (folder / "broken.json").write_text(json.dumps(broken))
    program = ("--input-type=module", "--eval", VALIDATE, "--")
    printed = await node(folder, *program, "3.1.0.json", "3.2.0.json", "broken.json")
    *found, refused = map(json.loads, printed.splitlines())
    assert found == [
        {"version": "3.1", "valid": True, "errors": []},
        {"version": "3.2", "valid": True, "errors": []},
    ]
    assert not refused["valid"]


@pytest.mark.slow
async def test_a_client_in_typescript_is_generated_checked_and_calls_the_service(
    folder: Path, url: str
) -> None:
    for name in ("client.ts", "tsconfig.json"):
        (folder / name).write_bytes((WEB / "generated" / name).read_bytes())
    await node(folder, *TYPESCRIPT)
    await node(folder, "node_modules/typescript/bin/tsc", "-p", ".")
    async with running(url) as run:
        await run.project()
        await run.credit()
        body = {"userId": "u1", "projectId": "p1"}
        token = (await run.client.post("/v1/tokens", json=body)).json()["token"]
        printed = await node(folder, "client.ts", str(run.client.base_url), token)
    called = json.loads(printed)
    assert called["names"] == ["A project"]
    assert (called["subtype"], called["code"]) == ("success", "session_not_found")
    assert called["steps"] > 0
    assert {"user_message", "reply"} <= set(called["kinds"])


if PROVE:  # they need the registries of their packages

    async def test_a_client_in_python_is_generated_and_calls_the_service(
        folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "generator.yml").write_text(PYTHON_CONFIG)
        await run_of_registry(folder, PYTHON)
        monkeypatch.syspath_prepend(folder / "client")
        made: Any = import_module("throughline_client")
        calls = "throughline_client.api.default."
        names = ("post_chat_plan", "get_timeline", "export_sessions", "read_session")
        post, timeline, export, read = (import_module(calls + name) for name in names)
        models: Any = import_module("throughline_client.models")
        async with running(url) as run:
            await run.project()
            await run.credit()
            base_url = str(run.client.base_url)
            async with made.Client(base_url, httpx_args={"auth": Signed()}) as client:
                asked = models.ChatPlanRequest(
                    user_id="u1", project_id="p1", message="Add a login page"
                )
                reply = await post.asyncio(client=client, body=asked)
                assert isinstance(reply.data, models.FeaturePlanResponse)
                page = await timeline.asyncio("p1", client=client, user_id="u1")
                assert page.items[0].kind == "reply"
                wanted = models.ExportRequest(user_id="u1", session_ids=[reply.session_id])
                lines = await export.asyncio(client=client, body=wanted)
                assert "Add a login page" in lines
                problem = await read.asyncio("none", client=client, user_id="u1")
                assert problem.code == "session_not_found"

    async def test_another_generator_for_typescript_takes_the_document(folder: Path) -> None:
        await run_of_registry(folder, "npx --yes @hey-api/openapi-ts@0.80.0 -i 3.1.0.json -o hey")
        texts = [each.read_text() for each in (folder / "hey").rglob("*.ts")]
        assert any("FeaturePlanResponse = {" in text for text in texts)

    async def run_of_registry(folder: Path, command: str) -> None:
        """Run a program that the registry of its packages has."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        process = await asyncio.create_subprocess_exec(
            *command.split(),
            cwd=folder,
            env=os.environ | {"PATH": path},
            stdout=PIPE,
            stderr=STDOUT,
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0, printed.decode()
