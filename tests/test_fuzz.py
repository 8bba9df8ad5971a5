"""Every parser of bytes from outside is fuzzed: briefly in `make test`, long in `make prove`."""

import subprocess
import sys

import pytest

from scripts.fuzz import TARGETS
from tests.sizes import size

pytestmark = pytest.mark.slow

RUNS = size(400, 200_000)


def fuzzed(*targets: str, runs: int) -> subprocess.CompletedProcess[str]:
    """Fuzz in a process of its own, because libFuzzer ends its process."""
    command = [sys.executable, "-m", "scripts.fuzz", *targets, "--runs", str(runs)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_no_bytes_break_a_parser() -> None:
    targets = sorted(set(TARGETS) - {"planted"})
    done = fuzzed(*targets, runs=RUNS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count(f"Done {RUNS} runs") == len(targets)


def test_a_planted_fault_is_found() -> None:
    done = fuzzed("planted", runs=200_000)
    assert done.returncode != 0
    assert "the planted fault" in done.stdout
    assert "Base64: Zm9l" in done.stderr
