"""The tutorial for analysts runs as it is written, and prints what it says."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.documents import DOCS
from tests.service.cli.conftest import Command, command

__all__ = ["command"]

PAGE: Final = (DOCS / "tutorial.md").read_text()


def steps() -> list[tuple[str, str]]:
    """The commands of the page, each with what it prints. `...` stands for anything."""
    blocks = re.findall(r"^```console\n\$ (.*?)^```$", PAGE, re.M | re.S)
    made: list[tuple[str, str]] = []
    for block in blocks:
        first, *rest = block.splitlines(keepends=True)
        more = [line for line in rest if line.startswith("> ")]
        printed = "".join(rest[len(more) :])
        made.append((first + "".join(line[2:] for line in more), printed))
    return made


@pytest.mark.slow
def test_the_tutorial_runs_as_it_is_written(
    command: Command, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THROUGHLINE_DATABASE_URL", url)
    for step, expected in steps():
        code, printed = command(*shlex.split(step)[1:]) if "<<" not in step else in_shell(step)
        assert code == 0, printed
        pattern = re.escape(expected).replace(re.escape("..."), ".*")
        assert re.fullmatch(f"(?:{pattern})", printed, re.S), f"{step}\n{printed}"


def in_shell(step: str) -> tuple[int, str]:
    """Run a step that reads what stands below it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", step],
        env={**os.environ, "PATH": path},
        check=False,
        capture_output=True,
        text=True,
    )
    return ended.returncode, ended.stdout + ended.stderr
