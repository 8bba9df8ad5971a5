"""Where tests keep the files of a PostgreSQL."""

import shutil
from pathlib import Path


def in_memory() -> str | None:
    """A folder in memory, if there is room. It outlives a kill like a disk does, and is quicker."""
    shared = Path("/dev/shm")  # noqa: S108 - what is made in it has names of its own
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > 2**31
    return str(shared) if roomy else None
