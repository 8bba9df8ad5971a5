"""A worker process: serves the sockets that its parent has bound, until its parent says stop.

The parent starts this module as a program. Heavy imports come after the choice of the metrics.
"""

import asyncio
import gc
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from signal import SIGINT, SIGTERM
from socket import socket
from typing import TYPE_CHECKING

from service.cli.workers.job import Job, Prepared, Word
from service.ops import logs, shared_metrics

if TYPE_CHECKING:
    from service.http.server import Server

PROGRAM = Path(__file__)


def stop_gc() -> None:
    """Stop the garbage collector during the imports, until `freeze_gc`.

    What is imported is no garbage. This saves a fifth of the CPU time of a start.
    """
    gc.disable()


def freeze_gc() -> None:
    """Let the garbage collector skip what was imported, and run less often.

    Modules live as long as the process, and a streamed frame leaves no cycles. This saves a fifth
    of the CPU time of a frame.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


def main() -> None:
    """Do the job that comes through the descriptor of the first argument."""
    stop_gc()
    parent: Connection[Prepared, Job | Word] = Connection(int(sys.argv[1]))
    job = parent.recv()
    assert isinstance(job, Job)
    shared_metrics.share(job.metrics, job.number)
    logs.configure(job.settings.log_level, worker=job.number)

    import uvloop

    uvloop.run(_serve(job, parent))


async def _serve(job: Job, parent: "Connection[Prepared, Job | Word]") -> None:
    from service.app import application
    from service.http.server import Server

    freeze_gc()
    app = application(job.settings, database_url=job.database_url, direct_url=job.direct_url)
    control = _Control(parent, job.demo_url)
    server = Server(app, job.settings, before_listening=control.permission)
    await server.serve([socket(fileno=each) for each in job.sockets])
    if server.has_failed:
        sys.exit(1)  # the parent starts another process


class _Control:
    """Does what the parent says. When the parent has ended, the server stops, too."""

    def __init__(self, parent: "Connection[Prepared, Job | Word]", demo_url: str | None) -> None:
        self._parent = parent
        self._demo_url = demo_url
        self._heard = asyncio.Event()

    async def permission(self, server: "Server") -> None:
        """Tell the parent that the server is prepared, and wait until it may listen."""
        begun = None
        if self._demo_url is not None:
            from service.cli.demo import first_run

            begun = await first_run.begin(server.service, self._demo_url)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._parent.fileno(), self._on_word, server)
        self._parent.send(Prepared(server.service.running_turns.lease_id, begun))
        await self._heard.wait()

    def _on_word(self, server: "Server") -> None:
        try:
            word = self._parent.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._parent.fileno())
            word = "stop"
        self._heard.set()
        match word:
            case "stop":
                server.handle_exit(SIGTERM, None)
            case "stop at once":
                server.handle_exit(SIGINT, None)
                server.handle_exit(SIGINT, None)
            case _:
                pass


if __name__ == "__main__":
    main()
