"""The log: JSON for programs, short lines for a person at a terminal, who gets only warnings."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from service.ops import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave the log of the test run as it was."""
    handlers, level, config = logging.root.handlers, logging.root.level, structlog.get_config()
    yield
    logging.root.handlers = handlers
    logging.root.setLevel(level)
    structlog.configure(**config)


@pytest.mark.parametrize(
    ("output", "level", "shown"),
    [
        (io.StringIO(), None, ["request", "reply_ended"]),
        (io.StringIO(), "warning", ["reply_ended"]),
        (Terminal(), None, ["reply_ended"]),
        (Terminal(), "info", ["request", "reply_ended"]),
    ],
)
def test_a_terminal_gets_warnings_alone_unless_a_level_is_set(
    monkeypatch: pytest.MonkeyPatch, output: io.StringIO, level: str | None, shown: list[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", output)
    logs.configure(level)
    log = structlog.stdlib.get_logger("service.probe")
    log.info("request", status=200)
    log.warning("reply_ended", subtype="error")
    lines = output.getvalue().splitlines()
    assert len(lines) == len(shown)
    for line, event in zip(lines, shown, strict=True):
        assert event in line
        if isinstance(output, Terminal):
            assert not line.startswith("{")
        else:
            assert json.loads(line)["event"] == event
