"""Become another program, tied to the one that asked: `python tether.py PARENT UID GID PROGRAM...`

`subprocess` could change the user by itself, but the tie to the parent must be made in the child
after that change, which undoes it. A `preexec_fn` could make it there, but runs Python between fork
and exec, which may deadlock in a process with threads. So the child starts as this small script,
and the script becomes the program: same process id, nothing left of Python.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tether(parent: int, uid: int, gid: int, program: list[str]) -> None:
    """Run `program` as `uid`, ended by SIGINT when the thread of `parent` that forked us is gone.

    SIGINT is PostgreSQL's fast shutdown. Only Linux has the tie, and only root changes the user.
    """
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGINT))
    if os.getppid() != parent:
        sys.exit("the parent was gone before the tie was made")
    # Not `execvp`: it imports, from where this user may not read.
    os.execv(program[0], program)  # noqa: S606 - there is no shell to go through


if __name__ == "__main__":
    tether(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
