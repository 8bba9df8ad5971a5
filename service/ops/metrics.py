"""The metrics for Prometheus: their names, help texts and units."""

from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

# Prometheus would store the time of each counter's creation as one more series.
disable_created_metrics()  # type: ignore[no-untyped-call]

SUM: Final[dict[str, Any]] = {"multiprocess_mode": "livesum"}
MOST: Final[dict[str, Any]] = {"multiprocess_mode": "livemax"}
"""The value of a gauge over several worker processes: the sum over the running workers, or the
highest value. In a single process the gauge has its own value."""

REQUESTS = Counter(
    "throughline_requests_total", "Requests answered.", ["operation", "method", "status"]
)
REQUEST_SECONDS = Histogram(
    "throughline_request_seconds", "Time to the start of the answer, in seconds.", ["operation"]
)
REPLIES = Counter("throughline_replies_total", "Replies ended.", ["subtype", "mode"])
RUNNING = Gauge("throughline_replies_running", "Replies being written now.", **SUM)
STREAMS = Gauge("throughline_streams_open", "Streams of events that are being read now.", **SUM)
LOOP_LAG = Gauge(
    "throughline_loop_lag_seconds",
    "For how long everything waits for its turn, in seconds.",
    **MOST,
)
HEAD = Gauge("throughline_log_head", "The last position in the log.", **MOST)
LAG = Gauge(
    "throughline_projection_lag", "Positions that a read model is behind.", ["projection"], **MOST
)
HALTED = Gauge(
    "throughline_projection_halted", "1 when a read model has halted.", ["projection"], **MOST
)
SET_ASIDE = Gauge(
    "throughline_projection_set_aside",
    "Streams that a read model leaves out.",
    ["projection"],
    **MOST,
)
DEAD_ROWS = Gauge(
    "throughline_dead_rows_ratio",
    "Dead rows of the table that waits most for a vacuum; 1 where autovacuum starts.",
    **MOST,
)
REPLICA_FOLLOWS = Gauge(
    "throughline_replica_follows", "1 while the replica keeps up and answers reads.", **SUM
)
REPLICA_LAG = Gauge(
    "throughline_replica_lag_seconds",
    "How long the replica needed to come to the head of the log, in seconds.",
    **MOST,
)
REPLICA_READS = Counter(
    "throughline_replica_reads_total", "Reads for the replica, by what answered.", ["answered_by"]
)
UNREADABLE = Counter(
    "throughline_items_unreadable_total", "Items of timelines sent without their content."
)
AUDIT_REFUSED = Counter(
    "throughline_audit_entries_refused_total", "Audit entries that the database cannot store."
)
REPLY_SECONDS = Histogram(
    "throughline_reply_seconds",
    "Time from a message to the end of its reply, in seconds.",
    ["mode"],
    buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600),
)
FIRST_TEXT_SECONDS = Histogram(
    "throughline_first_text_seconds",
    "Time from a message to the first text of its reply, in seconds.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60),
)
PROVIDER_ERRORS = Counter(
    "throughline_provider_errors_total", "Model calls that failed.", ["kind", "code"]
)
TOKENS = Counter("throughline_tokens_total", "Tokens as the provider reported them.", ["kind"])
RESETS = Counter(
    "throughline_resets_total", "Replies that their readers had to discard.", ["reason"]
)
RETRIES = Counter("throughline_retries_total", "Model calls made again after an error.")
RESUMES = Counter(
    "throughline_resumes_total", "Streams that went on after an earlier connection.", ["stream"]
)
LIMITED = Counter(
    "throughline_messages_limited_total",
    "Messages and reads of links refused by a rate limit.",
    ["limit"],
)
BUILDS = Counter("throughline_builds_total", "Builds by what became of them.", ["status"])
WEBHOOKS = Counter(
    "throughline_webhook_deliveries_total",
    "Tries to deliver an event to a webhook, by what became of them.",
    ["outcome"],
)
