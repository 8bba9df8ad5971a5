"""The demo of a first run: a project, credit, a session and a build worker."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from domain import session
from domain.errors import ProjectExists
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
async def building(url: str, secret: str) -> AsyncGenerator[bool]:
    """Run a build worker; yields whether there is a worker to run."""
    if not WORKER.exists():
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


async def prepare(service: Service) -> str:
    """Create the demo's project, credit and session where missing; returns the session's id."""
    try:
        await service.transactions.transact(TENANT, _register, cause=_CONTEXT)
        await service.transactions.transact(TENANT, _credit, cause=_CONTEXT)
    except ProjectExists:
        pass
    async with tenant_transaction(service.pool, TENANT) as connection:
        active = await active_session(
            connection,
            tenant_id=TENANT,
            project_id=PROJECT_ID,
            user_id=USER_ID,
            idle_seconds=service.settings.idle_seconds,
        )
    return active or await _open_session(service)


_register: Final = partial(
    projects.register,
    project_id=PROJECT_ID,
    name="Demo",
    framework="starlette",
    source_root=PROJECT_ID,
    members={USER_ID: "owner"},
)
_credit: Final = partial(
    accounts.credit,
    tenant_id=TENANT,
    user_id=USER_ID,
    credit_id="demo",
    seconds=CREDIT_SECONDS,
    kind="bonus",
    reason="to try it out",
)


async def _open_session(service: Service) -> str:
    session_id = new_id()
    stream = session_stream(session_id, PROJECT_ID)
    opening = partial(
        session.open_session, session_id=session_id, project_id=PROJECT_ID, user_id=USER_ID
    )

    async def begin(transaction: Transaction) -> None:
        transaction.begin(stream)
        await transaction.decide(stream, opening)

    await service.transactions.transact(TENANT, begin, cause=_CONTEXT)
    return session_id


def instructions(
    url: str, session_id: str, sign: str, say: Callable[[str], None], *, with_builds: bool
) -> None:
    """Print shell lines that a user can paste."""
    body = f'{{"userId":"{USER_ID}","projectId":"{PROJECT_ID}","message":"Add a login page"}}'
    timeline = f"/v1/project/{PROJECT_ID}/timeline?userId={USER_ID}"
    bill = f"/v1/chat-plan/session/{session_id}?userId={USER_ID}"
    say("Stream a reply:")
    say(
        f"  B='{body}'; curl -sN {url}/v1/chat-plan -H 'Accept: text/event-stream'"
        f" -H 'Content-Type: application/json'"
        f' -H "$({sign} POST /v1/chat-plan --body "$B")" -d "$B"'
    )
    order = f'{{"userId":"{USER_ID}","projectId":"{PROJECT_ID}","sessionId":"{session_id}"}}'
    convert = "/v1/chat-plan/convert-to-build"
    say("Read the timeline:")
    say(f"  curl -s '{url}{timeline}' -H \"$({sign} GET '{timeline}')\"")
    say("Read the session's bill:")
    say(f"  curl -s '{url}{bill}' -H \"$({sign} GET '{bill}')\"")
    if not with_builds:
        return
    say("Turn the plan into a build; the timeline then tells how it comes along:")
    say(
        f"  B='{order}'; curl -s {url}{convert} -H 'Content-Type: application/json'"
        f' -H "$({sign} POST {convert} --body "$B")" -d "$B"'
    )
