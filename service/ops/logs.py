"""Structured logs: a line an event, with the request's id, without texts and secrets.

A log line is a named event with ids, codes and numbers. No code passes a body, a header or a reply
to a logger, and tracebacks are written without the values of variables.
"""

import logging
import sys
from typing import Any

import orjson
import structlog


def configure(level: str | None, *, worker: int | None = None) -> None:
    """Write our logs and the logs of the libraries to standard error, as JSON lines.

    On a terminal the lines are for a person: short, and by default only warnings and errors. The
    lines of a worker process have its number.
    """
    on_terminal = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if worker is not None:
        shared.append(_of_worker(worker))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _for_people() if on_terminal else structlog.processors.JSONRenderer(_json),
            ],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel((level or ("warning" if on_terminal else "info")).upper())
    # The service logs requests itself: the lines of the libraries contain query strings.
    for noisy in ("httpx", "httpx2", "httpcore2", "anthropic", "uvicorn.access", "sse_starlette"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _of_worker(number: int) -> structlog.typing.Processor:
    def add_number(
        _logger: Any, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event["worker"] = number
        return event

    return add_number


def _for_people() -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        pad_event_to=0, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )


def _json(value: Any, **_: Any) -> str:
    return orjson.dumps(value, default=str).decode()
