"""Becomes another program, tied to its parent: `python tether.py PARENT UID GID PROGRAM...`

`subprocess` can change the user, but a change of the user removes the tie to the parent, so the
child must make the tie afterwards. A `preexec_fn` could do that, but it runs Python between fork
and exec, which can deadlock in a process with threads. So the child starts as this small script,
and then executes the program under the same process id.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tether(parent: int, uid: int, gid: int, program: list[str]) -> None:
    """Run `program` as `uid`. It gets SIGINT when the thread of `parent` that forked it ends.

    SIGINT is PostgreSQL's fast shutdown. Only Linux has the tie, and only root can change the user.
    """
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGINT))
    if os.getppid() != parent:
        sys.exit("the parent was gone before the tie was made")
    # `execvp` would import modules, which this user may not be able to read.
    os.execv(program[0], program)  # noqa: S606 - there is no shell to go through


if __name__ == "__main__":
    tether(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
