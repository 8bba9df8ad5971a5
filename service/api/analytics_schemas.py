"""JSON on the wire of a project's figures."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import AwareDatetime, Field

from domain.events import BuildOperation
from domain.metering import BUILD_ESTIMATES, CACHE_READ_PRICE, CACHE_WRITE_PRICE, OPERATIONS
from projections.analytics import Analytics, Consumed, Prompts, Runs, SavedRuns
from service.api.schemas import ActingQuery
from service.wire import Wire, usd

SPAN = timedelta(days=30)
"""The span of the figures unless one is given."""


class AnalyticsQuery(ActingQuery):
    """From `since` until right before `until`: the last 30 days unless they are given."""

    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class ModeFigures(Wire):
    """Replies of one mode. Times in milliseconds from the message to the reply's end.

    A failed reply counts for the mode that the model had decided on, else for the `chatMode` of the
    message, else for `unknown`.
    """

    replies: int
    cut_off: int
    failed: int
    error_rate: float | None = None
    p50_ms: int | None = None
    p95_ms: int | None = None
    billed: int
    seconds: int
    average_seconds: float | None = None
    tokens: int
    cost_usd: str


class ReplyFigures(Wire):
    """All replies. `errorRate` counts the replies without content. `resets` are the replies that
    their readers had to discard once, `retries` the model calls that were made again after an error
    of the provider, `wrongLanguage` the replies that were shown in another language than asked."""

    replies: int
    succeeded: int
    cut_off: int
    failed: int
    error_rate: float | None = None
    p50_ms: int | None = None
    p95_ms: int | None = None
    resets: int
    retries: int
    wrong_language: int


class LanguageFigures(Wire):
    """Replies to messages in one language. `successRate` is the share of the replies that are
    whole and in that language."""

    replies: int
    succeeded: int
    success_rate: float | None = None


class SecondsFigures(Wire):
    """AI seconds by what paid for them. Bonus credits are used up before paid ones. `unknown` are
    seconds of the time before that was noted."""

    bonus: int
    paid: int
    unknown: int


class TokenFigures(Wire):
    """Tokens by kind. `cacheHitRatio`: of all that was sent, what was read from the cache.

    `cacheSavings`: the input tokens that the same replies would have cost more without the cache. A
    token that is read from the cache costs a tenth of an input token, a token that is written 1.25.
    """

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_hit_ratio: float | None = None
    cache_savings: int


class SessionFigures(Wire):
    """Planning sessions that began in the span. `continuity`: the share of their messages that went
    to a session that there was already."""

    sessions: int
    converted: int
    conversion_rate: float | None = None
    average_messages: float
    continuity: float | None = None
    median_seconds: float
    average_cost_usd: str


class OperationFigures(Wire):
    """The bills of one operation: how many there are, and their AI seconds and tokens."""

    billed: int
    seconds: int
    tokens: int


class BuildFigures(Wire):
    """Builds that were asked for in the span. The rates count ended builds alone, `medianSeconds`
    successful builds alone. `byOperation` has what was billed for builds in the span.
    """

    builds: int
    succeeded: int
    failed: int
    success_rate: float | None = None
    converted: int
    converted_success_rate: float | None = None
    median_seconds: float | None = None
    by_operation: dict[BuildOperation, OperationFigures]


class RunFigures(Wire):
    """Runs that were asked for in the span; `open` counts the runs that have not ended.
    `successRate` counts ended runs alone, `medianSeconds` successful runs alone."""

    runs: int
    open: int
    succeeded: int
    failed: int
    success_rate: float | None = None
    median_seconds: float | None = None


class PromptFigures(Wire):
    """The prompts, the versions and the improvements of the span. `acceptanceRate` is the
    share of the improvements that became a version.

    `savedRuns` are sessions of prompts, of the user alone where a user asks. `returnRate` is the
    share of these sessions with a message an hour after the opening or later. `adoption` is the
    share of the members who opened a saved run.
    """

    prompts: int
    versions: int
    improvements: int
    accepted: int
    acceptance_rate: float | None = None
    saved_runs: int
    return_rate: float | None = None
    average_messages: float
    adoption: float | None = None


class AnalyticsAnswer(Wire):
    """A project's figures. What nothing can be said of is left out."""

    since: datetime
    until: datetime
    replies: ReplyFigures
    by_mode: Annotated[dict[str, ModeFigures], Field(description="By the mode of the reply.")]
    by_language: Annotated[
        dict[str, LanguageFigures], Field(description="By the language of the message: en, ar ...")
    ]
    seconds: int
    seconds_by_credit: SecondsFigures
    cost_usd: str
    tokens: TokenFigures
    sessions: SessionFigures
    builds: BuildFigures
    runs: RunFigures
    prompts: PromptFigures


def analytics(found: Analytics) -> AnalyticsAnswer:
    """The figures as JSON."""
    (whole,) = (each for each in found.replies if each.mode is None)
    (spent,) = (each for each in found.consumed if each.operation is None)
    sent = spent.input_tokens + spent.cache_read_tokens + spent.cache_write_tokens
    return AnalyticsAnswer(
        since=found.since,
        until=found.until,
        replies=ReplyFigures(
            replies=whole.replies,
            succeeded=whole.succeeded,
            cut_off=whole.cut_off,
            failed=whole.failed,
            error_rate=_ratio(whole.failed, whole.replies),
            p50_ms=_whole(whole.p50_ms),
            p95_ms=_whole(whole.p95_ms),
            resets=whole.resets,
            retries=whole.retries,
            wrong_language=whole.wrong_language,
        ),
        by_mode=_by_mode(found),
        by_language={
            each.language: LanguageFigures(
                replies=each.replies,
                succeeded=each.succeeded,
                success_rate=_ratio(each.in_language, each.replies),
            )
            for each in found.languages
        },
        seconds=spent.seconds,
        seconds_by_credit=SecondsFigures(
            bonus=spent.bonus_seconds,
            paid=spent.seconds - spent.bonus_seconds - spent.unknown_seconds,
            unknown=spent.unknown_seconds,
        ),
        cost_usd=usd(spent.cost_usd),
        tokens=TokenFigures(
            input=spent.input_tokens,
            output=spent.output_tokens,
            cache_read=spent.cache_read_tokens,
            cache_write=spent.cache_write_tokens,
            cache_hit_ratio=_ratio(spent.cache_read_tokens, sent),
            cache_savings=round(
                spent.cache_read_tokens * (1 - CACHE_READ_PRICE)
                - spent.cache_write_tokens * (CACHE_WRITE_PRICE - 1)
            ),
        ),
        sessions=_sessions(found),
        builds=_builds(found),
        runs=_runs(found.runs),
        prompts=_prompts(found.prompts, found.saved_runs),
    )


def _by_mode(found: Analytics) -> dict[str, ModeFigures]:
    spent = {each.operation: each for each in found.consumed}
    figures: dict[str, ModeFigures] = {}
    by_mode = {each.mode: each for each in found.replies}
    for mode, operation in (*OPERATIONS.items(), ("unknown", "none")):
        replied = by_mode.get(mode)
        if replied is None:
            continue
        cost = spent.get(operation) or _nothing(operation)
        figures[mode] = ModeFigures(
            replies=replied.replies,
            cut_off=replied.cut_off,
            failed=replied.failed,
            error_rate=_ratio(replied.failed, replied.replies),
            p50_ms=_whole(replied.p50_ms),
            p95_ms=_whole(replied.p95_ms),
            billed=cost.replies,
            seconds=cost.seconds,
            average_seconds=_ratio(cost.seconds, cost.replies),
            tokens=_tokens(cost),
            cost_usd=usd(cost.cost_usd),
        )
    return figures


def _sessions(found: Analytics) -> SessionFigures:
    sessions = found.sessions
    return SessionFigures(
        sessions=sessions.sessions,
        converted=sessions.converted,
        conversion_rate=_ratio(sessions.converted, sessions.sessions),
        average_messages=round(float(sessions.messages), 2),
        continuity=_ratio(sessions.continued_messages, sessions.all_messages),
        median_seconds=round(sessions.median_seconds, 3),
        average_cost_usd=usd(sessions.cost_usd),
    )


def _runs(runs: Runs) -> RunFigures:
    return RunFigures(
        runs=runs.runs,
        open=runs.runs - runs.succeeded - runs.failed,
        succeeded=runs.succeeded,
        failed=runs.failed,
        success_rate=_ratio(runs.succeeded, runs.succeeded + runs.failed),
        median_seconds=None if runs.median_seconds is None else round(runs.median_seconds, 3),
    )


def _prompts(prompts: Prompts, saved: SavedRuns) -> PromptFigures:
    return PromptFigures(
        prompts=prompts.prompts,
        versions=prompts.versions,
        improvements=prompts.improvements,
        accepted=prompts.accepted,
        acceptance_rate=_ratio(prompts.accepted, prompts.improvements),
        saved_runs=saved.saved_runs,
        return_rate=_ratio(saved.returned, saved.saved_runs),
        average_messages=round(float(saved.messages), 2),
        adoption=_ratio(saved.users, saved.members),
    )


def _builds(found: Analytics) -> BuildFigures:
    builds = found.builds
    of_plans = builds.converted_succeeded + builds.converted_failed
    return BuildFigures(
        builds=builds.builds,
        succeeded=builds.succeeded,
        failed=builds.failed,
        success_rate=_ratio(builds.succeeded, builds.succeeded + builds.failed),
        converted=builds.converted,
        converted_success_rate=_ratio(builds.converted_succeeded, of_plans),
        median_seconds=None if builds.median_seconds is None else round(builds.median_seconds, 3),
        by_operation={
            operation: OperationFigures(
                billed=each.replies, seconds=each.seconds, tokens=_tokens(each)
            )
            for operation in BUILD_ESTIMATES
            for each in found.consumed
            if each.operation == operation
        },
    )


def _nothing(operation: str) -> Consumed:
    return Consumed(
        operation=operation,
        replies=0,
        seconds=0,
        bonus_seconds=0,
        unknown_seconds=0,
        cost_usd=Decimal(0),
        input_tokens=0,
        output_tokens=0,
        cache_read_tokens=0,
        cache_write_tokens=0,
    )


def _tokens(spent: Consumed) -> int:
    sent = spent.input_tokens + spent.cache_read_tokens + spent.cache_write_tokens
    return sent + spent.output_tokens


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _whole(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds)
