"""What a first run needs to be tried at once: a project, a user with credit, a session."""

from collections.abc import Callable
from typing import Any, Final

from domain import account, project, session
from domain.errors import ProjectExists
from projections.sessions import active_session
from service.app import Service
from service.ids import new_id
from service.keys import TENANT
from service.streams import (
    ACCOUNT,
    PROJECT,
    SESSION,
    Transaction,
    account_stream,
    project_stream,
    session_stream,
)

PROJECT_ID: Final = "demo"
USER_ID: Final = "ada"
CREDIT_SECONDS: Final = 36_000
_METADATA: Final[dict[str, Any]] = {"actor": "demo"}


async def prepare(service: Service) -> str:
    """Make the demo's project, credit and session where they are missing; the session's id."""
    try:
        await service.streams.transact(TENANT, _register, metadata=_METADATA)
        await service.streams.transact(TENANT, _credit, metadata=_METADATA)
    except ProjectExists:
        pass
    async with service.pool.connection() as connection:
        active = await active_session(
            connection,
            tenant_id=TENANT,
            project_id=PROJECT_ID,
            user_id=USER_ID,
            idle_seconds=service.settings.idle_seconds,
        )
    return active or await _open_session(service)


async def _register(transaction: Transaction) -> None:
    stream_id = project_stream(PROJECT_ID)
    registered = project.register(
        await transaction.load(PROJECT, stream_id),
        project_id=PROJECT_ID,
        name="Demo",
        framework="starlette",
        source_root=None,
        members={USER_ID: "owner"},
    )
    transaction.append(stream_id, registered, PROJECT_ID)


async def _credit(transaction: Transaction) -> None:
    stream_id = account_stream(TENANT, USER_ID)
    credited = account.credit(
        await transaction.load(ACCOUNT, stream_id),
        user_id=USER_ID,
        credit_id="demo",
        seconds=CREDIT_SECONDS,
        kind="bonus",
        reason="to try it out",
    )
    transaction.append(stream_id, credited, None)


async def _open_session(service: Service) -> str:
    session_id = new_id()
    stream_id = session_stream(session_id)

    async def begin(transaction: Transaction) -> None:
        opened = session.open_session(
            await transaction.load(SESSION, stream_id),
            session_id=session_id,
            project_id=PROJECT_ID,
            user_id=USER_ID,
        )
        transaction.append(stream_id, opened, PROJECT_ID)

    await service.streams.transact(TENANT, begin, metadata=_METADATA)
    return session_id


def instructions(url: str, session_id: str, sign: str, say: Callable[[str], None]) -> None:
    """Three shell lines that can be pasted as they are."""
    body = f'{{"userId":"{USER_ID}","projectId":"{PROJECT_ID}","message":"Add a login page"}}'
    timeline = f"/v1/project/{PROJECT_ID}/timeline?userId={USER_ID}"
    bill = f"/v1/chat-plan/session/{session_id}?userId={USER_ID}"
    say("Stream a reply:")
    say(
        f"  B='{body}'; curl -sN {url}/v1/chat-plan -H 'Accept: text/event-stream'"
        f" -H 'Content-Type: application/json'"
        f' -H "$({sign} POST /v1/chat-plan --body "$B")" -d "$B"'
    )
    say("Read the timeline:")
    say(f"  curl -s '{url}{timeline}' -H \"$({sign} GET '{timeline}')\"")
    say("Read the session's bill:")
    say(f"  curl -s '{url}{bill}' -H \"$({sign} GET '{bill}')\"")
