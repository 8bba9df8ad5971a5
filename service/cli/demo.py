"""The demo of a first run: a project, credit, a session and a build worker."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from domain import session
from domain.errors import ProjectExists
from projections.projects import project
from projections.sessions import active_session
from service.access.keys import KEY_ID, TENANT
from service.commands import accounts, projects
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import RequestContext, Transaction
from service.http.call import Service
from service.ids import new_id
from service.postgres.connections import tenant_transaction

PROJECT_ID: Final = "demo"
USER_ID: Final = "ada"
CREDIT_SECONDS: Final = 36_000
WORKER: Final = Path(__file__).parents[2] / "scripts" / "build_worker.py"
"""The worker of a clone. An installed service has none, so its demo has no builds."""

SOURCE: Final = {
    "README.md": "# Demo\n\nA page that greets whoever comes.\n",
    "app.py": """\
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


def greet(request: Request) -> PlainTextResponse:
    name = request.query_params.get("name", "stranger")
    return PlainTextResponse(f"Hello, {name}!")


app = Starlette(routes=[Route("/", greet)])
""",
}
_CONTEXT: Final = RequestContext(metadata={"actor": "demo"})


def write_source(folder: Path) -> None:
    """Write the demo project's code for the planner. Existing files stay."""
    root = folder / TENANT / PROJECT_ID
    root.mkdir(parents=True, exist_ok=True)
    for name, text in SOURCE.items():
        if not (root / name).exists():
            (root / name).write_text(text)


@asynccontextmanager
async def building(url: str, secret: str, *, with_worker: bool) -> AsyncGenerator[bool]:
    """Run a build worker; yields whether there is a worker to run."""
    if not with_worker or not WORKER.exists():
        yield False
        return
    command = [sys.executable, str(WORKER.with_name("demo_build.py"))]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(WORKER), "--url", url, "--key", KEY_ID),
        *("--worker", "demo", "--with-parent", "--", *command),
        env={**os.environ, "THROUGHLINE_WORKER_SECRET": secret},
        # The worker ends when this end of the pipe closes, however this process ends.
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield True
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@dataclass(frozen=True, slots=True)
class Ids:
    """The demo's project and session."""

    project_id: str
    session_id: str


async def prepare(service: Service) -> Ids:
    """Create the demo's project, credit and session where missing."""
    project_id = await _project(service)
    async with tenant_transaction(service.pool, TENANT) as connection:
        active = await active_session(
            connection,
            tenant_id=TENANT,
            project_id=project_id,
            user_id=USER_ID,
            idle_seconds=service.settings.idle_seconds,
        )
    return Ids(project_id, active or await _open_session(service, project_id))


async def _project(service: Service) -> str:
    """The id of the demo's project.

    The id of an erased project is used up. After an erasure of `demo` the project is `demo-2`.
    """
    project_id, number = PROJECT_ID, 1
    while not await _register(service, project_id):
        async with tenant_transaction(service.pool, TENANT) as connection:
            if await project(connection, tenant_id=TENANT, project_id=project_id, user_id=USER_ID):
                return project_id
        number += 1
        project_id = f"{PROJECT_ID}-{number}"
    if number == 1:
        await service.transactions.transact(TENANT, _credit, cause=_CONTEXT)
    return project_id


async def _register(service: Service, project_id: str) -> bool:
    """Register the project; returns False where the id is used already."""
    work = partial(
        projects.register,
        project_id=project_id,
        name="Demo",
        framework="starlette",
        source_root=PROJECT_ID,
        members={USER_ID: "owner"},
    )
    try:
        await service.transactions.transact(TENANT, work, cause=_CONTEXT)
    except ProjectExists:
        return False
    return True


_credit: Final = partial(
    accounts.credit,
    tenant_id=TENANT,
    user_id=USER_ID,
    credit_id="demo",
    seconds=CREDIT_SECONDS,
    kind="bonus",
    reason="to try it out",
)


async def _open_session(service: Service, project_id: str) -> str:
    session_id = new_id()
    stream = session_stream(session_id, project_id)
    opening = partial(
        session.open_session, session_id=session_id, project_id=project_id, user_id=USER_ID
    )

    async def begin(transaction: Transaction) -> None:
        transaction.begin(stream)
        await transaction.decide(stream, opening)

    await service.transactions.transact(TENANT, begin, cause=_CONTEXT)
    return session_id


def instructions(url: str, ids: Ids, sign: str, *, with_builds: bool) -> list[str]:
    """Shell lines that a user can paste, each below a line that says what it does."""
    whose = f'"userId":"{USER_ID}","projectId":"{ids.project_id}"'
    body = f'{{{whose},"message":"Add a login page"}}'
    timeline = f"/v1/project/{ids.project_id}/timeline?userId={USER_ID}"
    bill = f"/v1/chat-plan/session/{ids.session_id}?userId={USER_ID}"
    lines = [
        "Stream a reply:",
        f"  B='{body}'; curl -sN {url}/v1/chat-plan -H 'Accept: text/event-stream'"
        f" -H 'Content-Type: application/json'"
        f' -H "$({sign} POST /v1/chat-plan --body "$B")" -d "$B"',
        "Read the timeline:",
        f"  curl -s '{url}{timeline}' -H \"$({sign} GET '{timeline}')\"",
        "Read the session's bill:",
        f"  curl -s '{url}{bill}' -H \"$({sign} GET '{bill}')\"",
    ]
    if not with_builds:
        return lines
    order, convert = f'{{{whose},"sessionId":"{ids.session_id}"}}', "/v1/chat-plan/convert-to-build"
    return [
        *lines,
        "Turn the plan into a build; the timeline then tells how it comes along:",
        f"  B='{order}'; curl -s {url}{convert} -H 'Content-Type: application/json'"
        f' -H "$({sign} POST {convert} --body "$B")" -d "$B"',
    ]
