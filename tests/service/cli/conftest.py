"""Commands that run in the process of the tests."""

import sys
from collections.abc import Callable
from typing import TypeAlias

import pytest

from service.cli import main

Command: TypeAlias = Callable[..., tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process; returns its exit code and what it wrote."""
    monkeypatch.setattr("service.ops.logs.configure", lambda _: None)

    def run(*arguments: str, **environment: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["throughline", *arguments])
        with monkeypatch.context() as settings:
            for name, value in environment.items():
                settings.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        written = capsys.readouterr()
        return int(ended.value.code or 0), written.out + written.err

    return run
