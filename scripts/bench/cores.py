"""Gives processes a part of a core each, so that the other programs on the machine have the rest.

This needs Linux with cgroup v1, and the right to make a group.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

_CPU: Final = Path("/sys/fs/cgroup/cpu")
_PERIOD_US: Final = 10_000
"""Short, so that a process that has used up its part waits for a moment only."""


def can_be_shared() -> bool:
    """Whether a process can get a part of a core on this machine."""
    return (_CPU / "cpu.cfs_quota_us").exists() and os.access(_CPU, os.W_OK)


@contextmanager
def share(processes: list[psutil.Process], part: float) -> Iterator[None]:
    """Give each process this part of a core. In the end each process has whole cores again."""
    groups = [_CPU / f"throughline-bench-{each.pid}" for each in processes]
    try:
        for process, group in zip(processes, groups, strict=True):
            group.mkdir()
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(round(_PERIOD_US * part)))
            (group / "cgroup.procs").write_text(str(process.pid))
        yield
    finally:
        for process, group in zip(processes, groups, strict=True):
            if group.exists():
                if process.is_running():
                    (_CPU / "cgroup.procs").write_text(str(process.pid))
                group.rmdir()
