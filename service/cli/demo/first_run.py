"""The demo of a first run: projects, credit, a session, a build worker, an engine, and a link."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from domain.deciders import session
from domain.errors import ProjectExists
from projections.projects import project
from projections.sessions import active_session
from service.access.authentication import Caller
from service.access.keys import KEY_ID, TENANT
from service.cli.calls import CallFailed, SignedCalls
from service.commands import accounts, projects
from service.eventlog.stream_ids import session_stream
from service.eventlog.transactions import RequestContext, Transaction
from service.http.call import Service
from service.ids import new_id
from service.postgres.connections import tenant_transaction

PROJECT_ID: Final = "demo"
USER_ID: Final = "ada"
CREDIT_SECONDS: Final = 36_000
SCRIPTS: Final = Path(__file__).parents[3] / "scripts"
"""The programs of a clone. An installed service has none, so its demo has no builds and runs."""

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
EXAMPLE_ID: Final = "tea"
"""The id of the example project, which has sessions, prompts and builds from the start."""

EXAMPLE: Final = {
    "projectId": EXAMPLE_ID,
    "name": "Tea shop",
    "framework": "starlette",
    "sourceRoot": PROJECT_ID,
    "members": [{"userId": USER_ID, "role": "owner"}],
}
LINK_SECONDS: Final = 86_400

_log = structlog.stdlib.get_logger(__name__)
_CONTEXT: Final = RequestContext(metadata={"actor": "demo"})


def write_source(folder: Path) -> None:
    """Write the demo project's code for the planner. Existing files stay."""
    root = folder / TENANT / PROJECT_ID
    root.mkdir(parents=True, exist_ok=True)
    for name, text in SOURCE.items():
        if not (root / name).exists():
            (root / name).write_text(text)


@asynccontextmanager
async def working(url: str, secret: str, *, with_worker: bool) -> AsyncGenerator[bool]:
    """Run a build worker and an engine; yields whether there are such programs."""
    if not with_worker or not SCRIPTS.exists():
        yield False
        return
    build = ("--", sys.executable, str(SCRIPTS / "demo_build.py"))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_beside("build_worker.py", url, secret, *build))
        await stack.enter_async_context(_beside("run_engine.py", url, secret))
        yield True


@asynccontextmanager
async def _beside(script: str, url: str, secret: str, *arguments: str) -> AsyncGenerator[None]:
    """Run a program of a clone beside the service."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPTS / script), "--url", url, "--key", KEY_ID),
        *("--worker", "demo", "--with-parent", *arguments),
        env={**os.environ, "THROUGHLINE_WORKER_SECRET": secret},
        # The program ends when this end of the pipe closes, however this process ends.
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@dataclass(frozen=True, slots=True)
class Ids:
    """The demo's project and session."""

    project_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Begun:
    """What the user of the demo is shown: where things are, and a link that signs the user in."""

    ids: Ids
    link: str


async def begin(service: Service, url: str) -> Begun:
    """Create what is missing, and make a link to the service at this URL."""
    return Begun(await prepare(service), await sign_in_url(service, url))


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
    return project_id


async def _register(service: Service, project_id: str) -> bool:
    """Register the project, the first one with its user's credit; returns False where the id is
    used already."""

    async def work(transaction: Transaction) -> None:
        await projects.register(
            transaction,
            project_id=project_id,
            name="Demo",
            framework="starlette",
            source_root=PROJECT_ID,
            members={USER_ID: "owner"},
        )
        if project_id == PROJECT_ID:
            await _credit(transaction)

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


async def sign_in_url(service: Service, url: str) -> str:
    """A link that signs the demo's user in."""
    key = service.settings.hmac_keys[KEY_ID]
    caller = Caller(key_id=KEY_ID, tenant_id=TENANT, scopes=key.scopes)
    code, _ = await service.browser_sessions.add_link(
        caller, user_id=USER_ID, project_id=None, seconds=LINK_SECONDS
    )
    return f"{url}/?code={code}"


# Something to see --------------------------------------------------------------------------------


def fill(calls: SignedCalls, *, is_offline: bool, with_workers: bool) -> None:
    """Make a project with something to see, by the same calls that everybody makes.

    Only at the first start, when there is no such project. Without the offline model nothing is
    asked of the model, because that costs money.
    """
    try:
        calls.post("/v1/projects", EXAMPLE)
        _fill_prompts(calls, is_offline=is_offline)
        if is_offline:
            _fill_plans(calls, with_workers=with_workers)
    except CallFailed as failed:
        if failed.code != ProjectExists.code:
            _log.warning("demo_not_filled", reason=str(failed))


def _fill_prompts(calls: SignedCalls, *, is_offline: bool) -> None:
    """A prompt with two versions, and a saved run of it."""
    acting = {"userId": USER_ID, "projectId": EXAMPLE_ID}
    first = {"name": "Slogans", "text": "Write a slogan for {{product}}."}
    prompt = calls.post("/v1/prompts", acting | first)
    second = {"text": "Write a short slogan for {{product}} in {{language}}.", "note": "shorter"}
    path = f"/v1/prompts/{prompt['promptId']}/versions"
    version = calls.post(path, {"userId": USER_ID} | second)
    values = {"product": "green tea", "language": "French"}
    made_of = {"mode": "prompt", "promptVersionId": version["promptVersionId"], "values": values}
    saved = calls.post("/v1/sessions", acting | made_of)
    if is_offline:
        said = {"userId": USER_ID, "message": "Three of them, please."}
        calls.post(f"/v1/sessions/{saved['sessionId']}/messages", said)


def _fill_plans(calls: SignedCalls, *, with_workers: bool) -> None:
    """A question, and in another session a plan; with a worker and an engine a run and a build."""
    acting = {"userId": USER_ID, "projectId": EXAMPLE_ID}
    calls.post("/v1/chat-plan", acting | {"message": "Why is the list of teas slow?"})
    session_id = calls.post("/v1/sessions", acting | {"mode": "plan"})["sessionId"]
    said = {"userId": USER_ID, "message": "Add a page with the teas of today"}
    calls.post(f"/v1/sessions/{session_id}/messages", said)
    if with_workers:
        texts = ["Hello!", "Good morning, dear visitor", "Please come in!"]
        run = {"title": "Greet a visitor", "input": {"candidates": texts}}
        calls.post("/v1/runs", acting | run)
        calls.post("/v1/chat-plan/convert-to-build", acting | {"sessionId": session_id})


def instructions(url: str, ids: Ids, sign: str, *, with_workers: bool) -> list[str]:
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
    if not with_workers:
        return lines
    order, convert = f'{{{whose},"sessionId":"{ids.session_id}"}}', "/v1/chat-plan/convert-to-build"
    texts = '"Hello!","Good morning, dear visitor","Please come in!"'
    run = f'{{{whose},"title":"Greet a visitor","input":{{"candidates":[{texts}]}}}}'
    return [
        *lines,
        "Turn the plan into a build; the timeline then tells how it comes along:",
        *_post(url, sign, convert, order),
        "Ask for a run; the example engine compares the texts, and the timeline tells the end:",
        *_post(url, sign, "/v1/runs", run),
    ]


def _post(url: str, sign: str, path: str, body: str) -> list[str]:
    """The shell line of a call with a body."""
    return [
        f"  B='{body}'; curl -s {url}{path} -H 'Content-Type: application/json'"
        f' -H "$({sign} POST {path} --body "$B")" -d "$B"'
    ]
