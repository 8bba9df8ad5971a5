"""The metrics for Prometheus: their names, help texts and units."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "throughline_requests_total", "Requests answered.", ["operation", "method", "status"]
)
REQUEST_SECONDS = Histogram(
    "throughline_request_seconds", "Time to the start of the answer, in seconds.", ["operation"]
)
REPLIES = Counter("throughline_replies_total", "Replies ended.", ["subtype", "mode"])
RUNNING = Gauge("throughline_replies_running", "Replies being written now.")
STREAMS = Gauge("throughline_streams_open", "Streams of events that are being read now.")
LOOP_LAG = Gauge("throughline_loop_lag_seconds", "For how long everything waits for its turn.")
HEAD = Gauge("throughline_log_head", "The last position in the log.")
LAG = Gauge("throughline_projection_lag", "Positions that a read model is behind.", ["projection"])
HALTED = Gauge("throughline_projection_halted", "1 when a read model has halted.", ["projection"])
SET_ASIDE = Gauge(
    "throughline_projection_set_aside", "Streams that a read model leaves out.", ["projection"]
)
UNREADABLE = Counter(
    "throughline_items_unreadable_total", "Items of timelines sent without their content."
)
AUDIT_REFUSED = Counter(
    "throughline_audit_entries_refused_total", "Audit entries that the database cannot store."
)
