"""A request that passed every check, and the service that answers it."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from service.access.audit import Audit, Entry
from service.access.authentication import Authenticator, Caller
from service.access.browser_sessions import BrowserSessions
from service.access.browser_tokens import BrowserTokens
from service.access.overload import Overload
from service.access.share_links import ShareLinks, ShareReads
from service.access.stream_access import Permit, StreamAccess
from service.chat.admission import Admission
from service.chat.running import LANDING_SECONDS, RunningTurns
from service.chat.turns import Turns
from service.commands.builds import Builds
from service.commands.erasure import Erasure
from service.commands.polls import Polls
from service.eventlog.heavy_reads import HeavyReads
from service.eventlog.live import LiveLog
from service.eventlog.store import EventStore
from service.eventlog.transactions import IdempotencyKey, RequestContext, Transaction, Transactions
from service.http.merge import MergedStreams
from service.ops import tracing
from service.postgres.connections import Connection, Pool, past_transaction, tenant_transaction
from service.postgres.replica import Replica
from service.replies.directory import ReplyDirectory
from service.replies.project_replies import ProjectReplies
from service.settings import Settings
from service.texts.templates import preferred
from service.timelines.feed import Feeds
from service.webhooks.dispatch import Dispatcher
from service.webhooks.store import Webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The parts of the service that operations use. Made in the lifespan, owned by its loop."""

    settings: Settings
    pool: Pool
    store: EventStore
    heavy_reads: HeavyReads
    live_log: LiveLog
    feeds: Feeds
    merged_streams: MergedStreams
    transactions: Transactions
    directory: ReplyDirectory
    project_replies: ProjectReplies
    admission: Admission
    turns: Turns
    running_turns: RunningTurns
    builds: Builds
    build_polls: Polls
    run_polls: Polls
    erasure: Erasure
    authenticator: Authenticator
    browser_tokens: BrowserTokens
    browser_sessions: BrowserSessions
    share_links: ShareLinks
    share_reads: ShareReads
    stream_access: StreamAccess
    audit: Audit
    overload: Overload
    webhooks: Webhooks
    dispatcher: Dispatcher
    replica: Replica | None = None

    @property
    def reply_grace_seconds(self) -> float:
        """How long the stream of a reply may go on while the service stops."""
        return self.settings.grace_seconds + LANDING_SECONDS + 1


T = TypeVar("T")
BodyT = TypeVar("BodyT", covariant=True)
QueryT = TypeVar("QueryT", covariant=True)


@dataclass(slots=True)
class Past:
    """The moment that an answer shows: its position, or None for the present.

    Once `is_folded` is true, the connection reads the read models as they were at this moment.
    """

    position: int | None = None
    is_folded: bool = False


@dataclass(slots=True)
class Route:
    """Which server a read is answered by: the replica may be asked where there is one here, and
    `is_replica` once it has answered. Without a replica the primary answers."""

    replica: Replica | None = None
    is_replica: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[BodyT, QueryT]):
    """A request that passed every check: its caller, its body and query as the operation declares
    them (None where it declares none), and its entry in the audit."""

    service: Service
    caller: Caller
    entry: Entry
    path: dict[str, str]
    body: BodyT
    query: QueryT
    accept: str
    accept_language: str
    last_event_id: str | None
    if_match: str | None
    request_id: str
    address: str = ""
    """The scheme and the host in the client's request. An example: `https://timeline.example.com`."""
    named: IdempotencyKey | None = None
    reads: frozenset[str] = frozenset()
    """The names of the read models that the answer is made from."""
    streams: set[str] = field(default_factory=set[str])
    """The streams that the answer is about, as the read finds them; none for a project or more."""
    cursors: set[str] = field(default_factory=set[str])
    """The cursors that the client gave. The read looks for their events first."""
    incomplete: set[str] = field(default_factory=set[str])
    """The read models of `reads` that leave out something of what the answer is about."""
    past: Past = field(default_factory=Past)
    """The moment that the answer shows."""
    route: Route = field(default_factory=Route)
    """The server that the answer is read from."""

    @property
    def tenant_id(self) -> str:
        """The tenant that the caller's key is for."""
        return self.caller.tenant_id

    def reading(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction on the primary that sees the rows of the caller's tenant and no others."""
        return tenant_transaction(self.service.pool, self.tenant_id)

    def reading_again(self) -> AbstractAsyncContextManager[Connection]:
        """The same on the server that has answered so far. All of it is of one moment."""
        replica = self.route.replica
        pool = replica.pool if replica and self.route.is_replica else self.service.pool
        return tenant_transaction(pool, self.tenant_id, as_of_one_moment=True)

    def reading_past(self) -> AbstractAsyncContextManager[Connection]:
        """The same for the past, which the transaction makes anew and does not store."""
        return past_transaction(self.service.pool, self.tenant_id)

    def accepts(self, media_type: str) -> bool:
        """Whether the client asks for it by name."""
        return media_type in self.accept

    def locale(self, asked: str | None) -> str | None:
        """The reader's locale: the one asked for, else what Accept-Language prefers, else None."""
        return asked or preferred(self.accept_language)

    def permit(
        self, project_id: str, user_id: str | None, member_at: int | None = None
    ) -> Permit | None:
        """How long the caller may read a stream of the project; None is without a limit.

        `member_at` is the position of this request's own append, where it has one.
        """
        if user_id is None:
            return None
        member = (self.tenant_id, project_id, user_id)
        return self.service.stream_access.permit(member, self.caller.expires_at, member_at)

    @property
    def known_revisions(self) -> list[str] | None:
        """The revisions that the client knows, by If-Match; None where any will do."""
        if self.if_match is None or self.if_match.strip() == "*":
            return None
        tags = (each.strip().removeprefix("W/") for each in self.if_match.split(","))
        return [each.strip('"') for each in tags]

    @property
    def wants_stream(self) -> bool:
        """Whether the client asks for server-sent events."""
        return self.accepts("text/event-stream")

    def cause(self, user_id: str | None = None) -> RequestContext:
        """What is stored beside the events of this request, and the request's own name."""
        known = {
            "requestId": self.request_id,
            "keyId": self.caller.key_id,
            "actor": user_id or None,
            "traceparent": tracing.traceparent(),
        }
        metadata = {name: value for name, value in known.items() if value is not None}
        return RequestContext(metadata=metadata, named=self.named)

    async def transact(
        self, work: Callable[[Transaction], Awaitable[T]], *, user_id: str | None = None
    ) -> tuple[T, int]:
        """Decide for the caller's tenant, on behalf of a user where one acts.

        Returns the result of `work`, and the position of the log that has the decision.
        """
        result, appended = await self.service.transactions.transact(
            self.tenant_id, work, cause=self.cause(user_id)
        )
        return result, appended.last_position if appended else self.service.live_log.head


AnyCall: TypeAlias = Call[object, object]
"""A call of any operation."""
