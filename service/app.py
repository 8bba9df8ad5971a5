"""The composition root: resources made once, tasks started and stopped in order, routes."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from typing import Any, Final

import anthropic
import orjson
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.events import BuildQueued, RunQueued
from domain.metering import BUILD_ESTIMATES
from service.access.audit import Audit
from service.access.authentication import Authenticator
from service.access.browser_sessions import BrowserSessions
from service.access.browser_tokens import BrowserTokens
from service.access.overload import CAPACITY, Capacity, Overload
from service.access.share_links import ShareLinks, ShareReads
from service.access.stream_access import StreamAccess
from service.api import (
    analytics,
    audit,
    billing,
    browser_sessions,
    builds,
    chat,
    estimates,
    events,
    exports,
    forks,
    health,
    improvements,
    instructions,
    messages,
    plans,
    projects,
    prompt_versions,
    prompts,
    replies,
    runs,
    search,
    sessions,
    shares,
    texts,
    timeline,
    tokens,
    webhooks,
)
from service.chat import leases
from service.chat.admission import Admission
from service.chat.leases import Lease
from service.chat.preparation import Preparation
from service.chat.recovery import Recovery
from service.chat.running import LANDING_SECONDS, RunningTurns
from service.chat.settlement import Settlement
from service.chat.turn import Responder
from service.chat.turns import Turns
from service.commands.builds import Builds
from service.commands.erasure import Erasure
from service.commands.polls import Polls
from service.concurrency.tasks import cancelled
from service.eventlog.heavy_reads import HeavyReads
from service.eventlog.live import LiveLog, pass_on
from service.eventlog.store import EventStore
from service.eventlog.transactions import Transactions
from service.eventlog.writer import Writer
from service.http import openapi, problems, security_headers
from service.http.call import Service
from service.http.edge import Edge
from service.http.merge import MergedStreams
from service.http.operation import AnyOperation
from service.http.reads import INCOMPLETE
from service.jobs.expiry import (
    expire_audit,
    expire_browser_sessions,
    expire_idle,
    keep_expiring,
    time_out_silent,
    time_out_silent_runs,
)
from service.jobs.projections import keep_projections
from service.jobs.vacuum import watch_vacuum
from service.model.client import TIMEOUT, ModelClient, refused_key, trusted_certificates
from service.model.offline.app import OfflineModel, serving
from service.ops import tracing
from service.postgres import connections
from service.postgres.connections import Connect, Pool
from service.postgres.replica import LAG_SECONDS, Replica
from service.replies.directory import ReplyDirectory
from service.replies.frame_store import FrameStore
from service.replies.project_replies import ProjectReplies
from service.replies.writer import Flusher
from service.settings import Settings
from service.source.jail import Sources
from service.timelines.feed import Feeds
from service.web import static
from service.webhooks.dispatch import Dispatcher, Source
from service.webhooks.store import Deliveries, Webhooks
from service.wire import LOG_POSITION

OPERATIONS: Final[tuple[AnyOperation, ...]] = (
    *chat.OPERATIONS,
    *messages.OPERATIONS,
    *replies.OPERATIONS,
    *sessions.OPERATIONS,
    *plans.OPERATIONS,
    *exports.OPERATIONS,
    *forks.OPERATIONS,
    *search.OPERATIONS,
    *instructions.OPERATIONS,
    *improvements.OPERATIONS,
    *prompts.OPERATIONS,
    *prompt_versions.OPERATIONS,
    *shares.OPERATIONS,
    *builds.OPERATIONS,
    *runs.OPERATIONS,
    *timeline.OPERATIONS,
    *events.OPERATIONS,
    *projects.OPERATIONS,
    *billing.OPERATIONS,
    *estimates.OPERATIONS,
    *analytics.OPERATIONS,
    *texts.OPERATIONS,
    *tokens.OPERATIONS,
    *browser_sessions.OPERATIONS,
    *audit.OPERATIONS,
    *webhooks.OPERATIONS,
)
CROSS_ORIGIN: Final[dict[str, Any]] = {
    "allow_methods": ("GET", "POST", "PATCH", "DELETE"),
    "allow_headers": (
        "Authorization",
        "Content-Type",
        "Idempotency-Key",
        "If-Match",
        "Last-Event-ID",
        "X-Min-Position",
    ),
    "expose_headers": (
        "Content-Disposition",
        "ETag",
        "Location",
        "RateLimit",
        "RateLimit-Policy",
        "Retry-After",
        INCOMPLETE,
        "X-Log-Cursor",
        LOG_POSITION,
        "X-Request-Id",
    ),
    "allow_credentials": False,
    "max_age": 600,
}
"""What the pages of other origins may send and read: tokens, and never cookies."""

OFFLINE_MODEL: Final = "offline"
OWN_CONNECTIONS: Final = 5
"""Connections for what keeps the service alive: lease, audit, recovery, jobs, live reads. Requests
have other connections, so that nothing of this waits behind requests."""

_log = structlog.stdlib.get_logger(__name__)


def application(
    settings: Settings,
    *,
    database_url: str,
    direct_url: str,
    lease_times: leases.LeaseTimes = leases.TIMES,
    capacity: Capacity = CAPACITY,
) -> Starlette:
    """The ASGI application. The database is migrated already."""
    routes = [
        *(Route(each.path, each, methods=[each.method], name=each.name) for each in OPERATIONS),
        Route("/healthz", health.liveness),
        Route("/readyz", health.readiness),
        Route("/metrics", health.metrics),
        Route("/openapi.json", _openapi),
        Route("/openapi-3.1.json", _openapi_3_1),
        Route("/v1/shares/{share}", shares.read_share),
        Route("/", static.page),
        Route("/client/{path:path}", static.part),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _not_routed, Exception: _fault},
        lifespan=partial(
            _lifespan,
            settings=settings,
            urls=(database_url, direct_url),
            lease_times=lease_times,
            capacity=capacity,
        ),
    )
    if settings.origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.origins, **CROSS_ORIGIN)
    # A path is one path, and no answer repeats what a client says of where it is.
    app.router.redirect_slashes = False
    app.add_middleware(Edge)
    return app


@asynccontextmanager
async def _lifespan(
    app: Starlette,
    *,
    settings: Settings,
    urls: tuple[str, str],
    lease_times: leases.LeaseTimes,
    capacity: Capacity,
) -> AsyncGenerator[None]:
    """Start from the bottom up, stop from the top down; nothing acknowledged is left unwritten."""
    pooled_url, direct_url = (connections.writable(url) for url in urls)
    connect: Connect = partial(connections.connect, direct_url)
    open_pool = partial(connections.pool, is_direct=pooled_url == direct_url)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            tracing.exporting(settings.otlp_endpoint, version("throughline"))
        )
        pool = await stack.enter_async_context(open_pool(pooled_url))
        own_pool = await stack.enter_async_context(open_pool(pooled_url, most=OWN_CONNECTIONS))
        client = await _model_client(settings, stack)
        store = EventStore(pool)
        live_log = LiveLog(EventStore(own_pool))
        replica = await _replica(settings, open_pool, live_log, stack)
        writer = Writer(connect, live_log)
        lease = await leases.acquire(own_pool, lease_times)
        frame_store = FrameStore(connect, pool, lease.lease_id)
        flusher = Flusher(frame_store)
        service, recovery = _service(
            settings,
            capacity,
            pool,
            own_pool,
            store,
            live_log,
            writer,
            frame_store,
            flusher,
            lease,
            client,
            replica,
        )
        app.state.service = service
        app.state.has_failed = False
        supervised = partial(_supervised, app)
        writing = [supervised(work) for work in (writer.run(), flusher.run(), service.audit.run())]
        others = [
            supervised(work)
            for work in (
                live_log.run(connect),
                service.overload.run(),
                service.feeds.run(),
                lease.run(),
                service.directory.run(),
                _pass_on_events(service),
                recovery.run(),
                frame_store.purge(settings.keep_seconds + settings.reply_seconds),
                *_expiring(service, own_pool),
                keep_projections(connect),
                watch_vacuum(own_pool),
                service.dispatcher.run(),
                *([replica.run()] if replica else []),
            )
        ]
        try:
            yield
        finally:
            service.merged_streams.stop()
            service.build_polls.stop()
            service.run_polls.stop()
            await service.running_turns.drain(settings.grace_seconds)
            flusher.close()
            writer.close()
            service.audit.close()
            await asyncio.wait(writing, timeout=LANDING_SECONDS)
            await cancelled(*writing, *others)
            await lease.release()  # nothing renews the lease any more


def _service(
    settings: Settings,
    capacity: Capacity,
    pool: Pool,
    own_pool: Pool,
    store: EventStore,
    live_log: LiveLog,
    writer: Writer,
    frame_store: FrameStore,
    flusher: Flusher,
    lease: Lease,
    client: anthropic.AsyncAnthropic,
    replica: Replica | None,
) -> tuple[Service, Recovery]:
    transactions = Transactions(store, writer)
    model = settings.model if settings.anthropic_api_key else OFFLINE_MODEL
    settlement = Settlement(transactions)
    directory = ReplyDirectory(pool, store, frame_store, flusher)
    model_client = ModelClient(
        client,
        model=model,
        max_tokens=settings.max_tokens,
        first_text_seconds=settings.first_text_seconds,
        next_text_seconds=settings.next_text_seconds,
    )
    preparation = Preparation(
        store,
        transactions,
        pool,
        Sources(settings.source_dir),
        directory,
        model_client,
        patience_seconds=settings.first_text_seconds,
        history_tokens=settings.history_tokens,
    )
    responder = Responder(preparation, directory, settlement, reply_seconds=settings.reply_seconds)
    running = RunningTurns(responder, directory, lease.lease_id)
    recovery = Recovery(
        store=store,
        transactions=transactions,
        pool=own_pool,
        frame_store=frame_store,
        directory=directory,
        settlement=settlement,
        running=running,
        lease=lease,
    )
    admission = Admission(
        transactions,
        model=model,
        lease_id=lease.lease_id,
        idle_seconds=settings.idle_seconds,
        user_messages=settings.user_messages,
        project_messages=settings.project_messages,
    )
    turns = Turns(
        admission=admission,
        running=running,
        recovery=recovery,
        directory=directory,
        transactions=transactions,
        pool=pool,
    )
    heavy_reads = HeavyReads()
    source = Source(
        pool=pool,
        live_log=live_log,
        heavy_reads=heavy_reads,
        private=settings.webhooks_private,
    )
    service = Service(
        settings=settings,
        pool=pool,
        store=store,
        heavy_reads=heavy_reads,
        live_log=live_log,
        feeds=Feeds(pool, store, live_log),
        merged_streams=MergedStreams(),
        transactions=transactions,
        directory=directory,
        project_replies=ProjectReplies(pool, directory),
        admission=admission,
        turns=turns,
        running_turns=running,
        builds=Builds(
            transactions,
            {
                **BUILD_ESTIMATES,
                "main_build": settings.main_build_seconds,
                "update": settings.update_build_seconds,
            },
        ),
        build_polls=Polls(BuildQueued),
        run_polls=Polls(RunQueued),
        erasure=Erasure(store, transactions, pool, turns),
        authenticator=Authenticator(settings.hmac_keys, pool),
        browser_tokens=BrowserTokens(settings.hmac_keys),
        browser_sessions=BrowserSessions(settings.hmac_keys, pool),
        share_links=ShareLinks(settings.hmac_keys, pool),
        share_reads=ShareReads(),
        stream_access=StreamAccess(pool),
        audit=Audit(own_pool),
        overload=Overload(capacity, pool, writer, flusher),
        webhooks=Webhooks(pool),
        dispatcher=Dispatcher(source, Deliveries(pool, lease)),
        replica=replica,
    )
    return service, recovery


async def _replica(
    settings: Settings, open_pool: Callable[..., Pool], live_log: LiveLog, stack: AsyncExitStack
) -> Replica | None:
    """The replica of the settings, which need not be there yet."""
    if settings.database_replica_url is None:
        return None
    url = settings.database_replica_url.get_secret_value()
    pool = await stack.enter_async_context(open_pool(url, seconds=LAG_SECONDS))
    own_pool = await stack.enter_async_context(open_pool(url, most=1, seconds=LAG_SECONDS))
    return Replica(pool, own_pool, lambda: live_log.known_head)


async def _model_client(settings: Settings, stack: AsyncExitStack) -> anthropic.AsyncAnthropic:
    """The provider's client; without a key, one for the offline model on a port of its own."""
    if settings.anthropic_api_key is not None:
        key, url = settings.anthropic_api_key.get_secret_value(), settings.anthropic_base_url
    else:
        key, url = "offline", await stack.enter_async_context(serving(OfflineModel(pace=0.02)))
    return await stack.enter_async_context(_provider(key, url))


def _provider(key: str, url: str | None) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(
        api_key=key,
        base_url=url,
        max_retries=0,
        open_telemetry=False,  # the model client has spans of its own
        # It reads a stream with less of the CPU than the SDK's default one: see `make bench`.
        http_client=anthropic.DefaultAioHttpClient(verify=trusted_certificates(), timeout=TIMEOUT),
    )


async def key_fault(settings: Settings) -> str | None:
    """What is wrong with the provider's key, asked by one cheap call; None where all is well.

    A provider that cannot be reached is one warning in the log, for it may be there later.
    """
    if settings.anthropic_api_key is None:
        return None
    key = settings.anthropic_api_key.get_secret_value()
    async with _provider(key, settings.anthropic_base_url) as client:
        return await refused_key(client)


def _supervised(app: Starlette, work: Awaitable[None]) -> asyncio.Task[None]:
    """A task without which the service cannot go on. If the task fails, the service stops, and
    `app.state.has_failed` says that nobody asked the service to stop."""

    async def supervise() -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 - the outermost place of a task
            _log.exception("task_failed")
            app.state.has_failed = True
            signal.raise_signal(signal.SIGTERM)

    return asyncio.create_task(supervise())


def _expiring(service: Service, pool: Pool) -> tuple[Awaitable[None], ...]:
    """The jobs that end idle sessions, silent builds and silent runs, finish interrupted erasures,
    and remove old entries of the audit and browser sessions that have expired."""
    idle, silent = service.settings.idle_seconds, service.settings.build_silent_seconds
    return (
        keep_expiring(partial(expire_idle, service.transactions, pool, idle), idle),
        # Before its first run a worker that waits for the service has the time to report.
        *(
            keep_expiring(time_out, silent, after=silent)
            for time_out in (
                partial(time_out_silent, service.builds, pool, silent),
                partial(time_out_silent_runs, service.transactions, pool, silent),
            )
        ),
        keep_expiring(service.erasure.finish, idle),
        keep_expiring(partial(expire_audit, pool, service.settings.audit_days), idle),
        keep_expiring(partial(expire_browser_sessions, pool), idle),
    )


async def _pass_on_events(service: Service) -> None:
    """Pass on what is committed, here or elsewhere, to everything that acts on it."""
    hooks = (
        service.transactions.on_events,
        service.running_turns.on_events,
        service.stream_access.on_events,
        service.erasure.late_openings.on_events,
        service.project_replies.on_events,
        service.build_polls.on_events,
        service.run_polls.on_events,
    )
    async for page in service.live_log.follow(await service.store.head()):
        for hook in hooks:
            pass_on(page, hook)


# Open to everyone --------------------------------------------------------------------------------


OPEN_PATHS: Final = (*health.OPEN_PATHS, *shares.OPEN_PATHS)
"""The open paths that the document describes."""


@cache
def _openapi_document(form: openapi.Version) -> tuple[bytes, str]:
    """The document and its entity tag, made once: to make it takes long."""
    described = openapi.document(OPERATIONS, OPEN_PATHS, version=version("throughline"), form=form)
    document = orjson.dumps(described)
    return document, f'"{sha256(document).hexdigest()[:32]}"'


async def _openapi(request: Request) -> Response:
    return _openapi_answer(request, "3.2.0")


async def _openapi_3_1(request: Request) -> Response:
    return _openapi_answer(request, "3.1.0")


def _openapi_answer(request: Request, form: openapi.Version) -> Response:
    document, tag = _openapi_document(form)
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(document, media_type="application/json", headers=headers)


async def _not_routed(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        detail = "This path does not take this method; see /openapi.json."
        return problems.answer(405, "method_not_allowed", detail, headers=error.headers)
    return problems.answer(404, "not_found", "There is nothing at this path; see /openapi.json.")


async def _fault(request: Request, error: Exception) -> Response:
    """What failed outside of an operation, and of the edge; the server logs it."""
    response = problems.problem(error)
    response.raw_headers += security_headers.missing(response.raw_headers)
    response.headers["X-Request-Id"] = request.state.request_id
    return response
