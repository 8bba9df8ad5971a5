"""The signing examples of docs/api.md, run unchanged against the service."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access import signatures
from tests.documents import DOCS, code
from tests.running import KEYS, LiveService, running
from tests.service.replies.test_clients import NODE

PAGE = DOCS / "api.md"
SECRET = KEYS["k1"].secret.get_secret_value()
BODY = '{"userId":"u1","seconds":60,"kind":"paid","reason":"naïve 👩‍💻 $HOME \'quoted\'"}'


@pytest.fixture
async def run(url: str) -> AsyncIterator[LiveService]:
    async with running(url) as started:
        await started.project()
        yield started


async def in_python(method: str, target: str, body: str) -> str:
    names: dict[str, Any] = {}
    exec(compile(code(PAGE, "py"), PAGE, "exec"), names)  # noqa: S102 - our own page
    return str(names["sign"](method, target, body.encode(), key_id="k1", secret=SECRET))


async def in_shell(method: str, target: str, body: str) -> str:
    script = f'{code(PAGE, "bash")}\nsign "$@"'
    environment = {"KEY_ID": "k1", "SECRET": SECRET, "PATH": "/usr/bin:/bin"}
    asked = (method, target, *(("--body", body) if body else ()))
    header = await output("bash", "-c", script, "sign", *asked, env=environment)
    return header.removeprefix("X-HMAC-Signature: ")


async def in_typescript(method: str, target: str, body: str, folder: Path) -> str:
    script = folder / "sign.ts"
    asked = ", ".join(json.dumps(each) for each in (method, target, body, "k1", SECRET))
    script.write_text(f"{code(PAGE, 'ts')}\nconsole.log(sign({asked}))\n")
    return await output(str(NODE), str(script))


async def output(*command: str, **how: Any) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **how
    )
    printed, wrong = await process.communicate()
    assert process.returncode == 0, wrong.decode()
    return printed.decode().strip()


@pytest.mark.parametrize("language", ["python", "shell", "typescript"])
@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", "/v1/billing/credits", BODY, 201),
        ("GET", "/v1/project/p1/timeline?userId=u1&limit=5", "", 200),
        ("GET", "/v1/billing/accounts/u1", "", 200),
        ("PUT", "/v1/projects/p1/members/ad%C3%A9%20c", '{"role":"viewer"}', 200),
    ],
)
async def test_a_request_that_is_signed_as_documented_is_accepted(
    shared: LiveService,
    tmp_path: Path,
    language: str,
    method: str,
    target: str,
    body: str,
    status: int,
) -> None:
    match language:
        case "python":
            header = await in_python(method, target, body)
        case "shell":
            header = await in_shell(method, target, body)
        case _:
            header = await in_typescript(method, target, body, tmp_path)
    base = str(shared.client.base_url).rstrip("/")
    async with httpx.AsyncClient() as client:
        headers = {signatures.HEADER: header, "Content-Type": "application/json"}
        answer = await client.request(
            method, base + target, content=body.encode() or None, headers=headers
        )
        assert answer.status_code == status, answer.text
        changed = {**headers, signatures.HEADER: header[:-1] + ("0" if header[-1] != "0" else "1")}
        refused = await client.request(
            method, base + target, content=body.encode() or None, headers=changed
        )
        assert refused.status_code == 401
