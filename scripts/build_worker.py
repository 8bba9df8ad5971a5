"""A small build worker: it claims builds one at a time, runs a command for each, and reports.

    python -m scripts.build_worker --url http://127.0.0.1:8400 --key demo -- ./build.sh

The key's secret is read from THROUGHLINE_WORKER_SECRET; the key needs the scope `build`. The
command gets the build as JSON on its standard input. Each line that it prints is reported as
progress: plain text, or a JSON object with `title` and any of `phase`, `type`, `userVisible`,
`versionId`, `previewUrl`, `artifactUrl`, `seconds`, `tokens`. Exit code 0 deploys the build as the
last `versionId`, or as the build's own id; any other code fails the build with the last line of the
output. The last `seconds` and `tokens` are the AI seconds and tokens of the whole build. The report
of the build's end carries them, and the user is billed for them.

A killed worker loses nothing: when it starts again with the same `--worker`, it finds the build
that it had claimed and runs the command again. The service knows repeated reports by their ids. The
worker stops the command of a build that was cancelled.
"""

import argparse
import hashlib
import json
import os
import queue
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any, Final
from urllib.parse import urlencode, urlsplit

from service.access import signatures

WAIT_SECONDS: Final = 25
"""How long a poll waits for a build. Shorter than TIMEOUT_SECONDS."""

FLUSH_SECONDS: Final = 0.5
INSPECT_SECONDS: Final = 5.0
"""How long a command may be silent before the worker reads whether the build was cancelled."""

ALIVE_SECONDS: Final = 300.0
"""How long a command may be silent before the worker reports that it still runs."""

LONGEST_BACK_OFF_SECONDS: Final = 5.0
TIMEOUT_SECONDS: Final = 30.0
MOST_AT_ONCE: Final = 500
WAITING_LINES: Final = 2_000
"""The most lines that wait to be reported. Then the command has to wait."""

PHASES: Final = ("queue", "setup", "development", "dependencies", "build", "deploy", "metadata")


LOST: Final = ("build_claimed", "build_ended", "build_not_found")
"""The codes for a build that this worker does not get, or has no more."""

_children: Final[list[subprocess.Popen[str]]] = []


class Refused(Exception):
    """The service refused a request: `status` with its `code`."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code


class Ended(Exception):
    """The build has ended otherwise than by this worker: the message is the code of its end."""


@dataclass(frozen=True, slots=True)
class Service:
    """The service over signed HTTP. Tries again for ever while the service cannot be reached."""

    url: str
    key_id: str
    secret: str

    def call(self, method: str, target: str, body: Any = None) -> Any:
        """The answer's JSON. Raises Refused."""
        content = b"" if body is None else json.dumps(body).encode()
        back_off = 0.1
        while True:
            try:
                return self._once(method, target, content)
            except urllib.error.HTTPError as error:
                sent = error.read()
                if error.code < 500:
                    code = json.loads(sent).get("code", "") if sent else ""
                    raise Refused(error.code, code) from None
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            time.sleep(back_off)
            back_off = min(back_off * 2, LONGEST_BACK_OFF_SECONDS)

    def _once(self, method: str, target: str, content: bytes) -> Any:
        parts = urlsplit(target)
        moment, nonce = int(time.time()), secrets.token_hex(16)
        v1 = signatures.sign(
            self.secret,
            method=method,
            path=parts.path.encode(),
            query=parts.query.encode(),
            time=moment,
            nonce=nonce,
            key_id=self.key_id,
            body=content,
        )
        headers = {
            "Content-Type": "application/json",
            signatures.HEADER: f"t={moment},kid={self.key_id},n={nonce},v1={v1}",
        }
        request = urllib.request.Request(  # noqa: S310 - checked where the URL is read
            self.url + target, data=content or None, headers=headers, method=method
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            return json.load(answer)


@dataclass(slots=True)
class Reporter:
    """The reports of one build, in order. A second run gives the same ids to the same reports."""

    service: Service
    build_id: str
    sent: int = 0
    version: dict[str, Any] = field(default_factory=dict[str, Any])
    used: dict[str, Any] = field(default_factory=dict[str, Any])
    phase: str = "development"
    last: str = ""

    def event(self, line: str) -> dict[str, Any]:
        """The report of a line of the command's output."""
        said: Any = {"title": line}
        if line.startswith("{"):
            try:
                said = json.loads(line)
            except ValueError:
                said = {"title": line}
        self.phase = said.get("phase", self.phase) if said.get("phase") in PHASES else self.phase
        names = ("versionId", "previewUrl", "artifactUrl")
        self.version |= {name: said[name] for name in names if name in said}
        self.used |= {name: said[name] for name in ("seconds", "tokens") if name in said}
        self.last = str(said.get("title", ""))[:500]
        return self._event(said.get("type", "progress"), self.last, said.get("userVisible", True))

    def alive(self) -> dict[str, Any]:
        """The report that a silent command still runs. Users do not see it."""
        return {
            "eventId": f"alive-{secrets.token_hex(8)}",
            "phase": "setup",
            "type": "progress",
            "title": "Still building",
            "userVisible": False,
            "at": datetime.now(UTC).isoformat(),
        }

    def end(self, exit_code: int) -> dict[str, Any]:
        """The report of the command's end."""
        if exit_code == 0:
            self.phase = "deploy"
            version = {"versionId": self.build_id} | self.version
            return self._event("completed", "Deployed", user_visible=True) | version | self.used
        return self.failure(self.last or f"The command ended with exit code {exit_code}.")

    def failure(self, error: str) -> dict[str, Any]:
        """The report that the build failed."""
        said = self._event("failed", "The build failed", user_visible=True)
        return said | {"error": error} | self.used

    def send(self, events: list[dict[str, Any]]) -> None:
        """Send the reports, at most 500 at a time. Raises Ended."""
        for first in range(0, len(events), MOST_AT_ONCE):
            body = {"events": events[first : first + MOST_AT_ONCE]}
            self._require_open("POST", f"/v1/builds/{self.build_id}/events", body)

    def require_open(self) -> None:
        """Require a running build. Raises Ended when a member has cancelled it, for example."""
        self._require_open("GET", f"/v1/builds/{self.build_id}")

    def _require_open(self, method: str, target: str, body: Any = None) -> None:
        try:
            answer = self.service.call(method, target, body)
        except Refused as refused:
            if refused.code in LOST:  # erased after its end
                raise Ended(refused.code) from None
            raise
        if answer.get("code") in ("cancelled", "timed_out"):
            raise Ended(answer["code"])

    def _event(self, kind: str, title: str, user_visible: bool) -> dict[str, Any]:
        self.sent += 1
        what = hashlib.sha256(f"{self.phase}\n{kind}\n{title}".encode()).hexdigest()[:12]
        return {
            "eventId": f"{self.sent}-{what}",
            "phase": self.phase,
            "type": kind,
            "title": title,
            "userVisible": user_visible,
            "at": datetime.now(UTC).isoformat(),
        }


def work(service: Service, worker_id: str, command: list[str]) -> None:
    """Build for ever: first the builds that this worker had claimed, then waiting builds."""
    for build in _mine(service, worker_id):
        build_one(service, build, command)
    while True:
        for build in _waiting(service):
            try:
                claim = {"workerId": worker_id}
                claimed = service.call("POST", f"/v1/builds/{build['buildId']}/claim", claim)
            except Refused as refused:
                if refused.code in LOST:
                    continue  # another worker was faster, or the build was cancelled
                raise
            build_one(service, claimed, command)


def build_one(service: Service, build: dict[str, Any], command: list[str]) -> None:
    """Run the command for one build and report it to its end."""
    reporter = Reporter(service, build["buildId"])
    print(f"building {build['buildId']}", flush=True)
    try:
        _run(reporter, build, command)
    except Ended as ended:
        print(f"stopped: {ended}", flush=True)
    except Refused as refused:
        if refused.status != 422:
            raise
        reporter.used = {}
        reporter.send([reporter.failure(f"The service refused a report: {refused}.")])
    print(f"ended {build['buildId']}", flush=True)


def _run(reporter: Reporter, build: dict[str, Any], command: list[str]) -> None:
    """Run the command and report it. Raises Ended when the build ends before the command does."""
    try:
        running = _started(command)
    except OSError as error:
        reporter.send([reporter.failure(f"The worker cannot start its command: {error.strerror}.")])
        return
    with _known(running) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        _give(process.stdin, build)
        heard = time.monotonic()
        for lines in _gathered(process.stdout):
            if lines:
                reporter.send([reporter.event(line) for line in lines])
            elif time.monotonic() - heard >= ALIVE_SECONDS:
                reporter.send([reporter.alive()])
            else:
                reporter.require_open()
                continue
            heard = time.monotonic()
        reporter.send([reporter.end(process.wait())])


def _started(command: list[str]) -> subprocess.Popen[str]:
    """The command, running in a group of its own processes. Raises OSError."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


@contextmanager
def _known(running: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The command, which ends here at the latest, and also when a signal ends the worker."""
    _children.append(running)
    try:
        with running as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    _kill(process)
    finally:
        _children.remove(running)


def _kill(process: subprocess.Popen[str]) -> None:
    """End the command and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _leave(*_: Any) -> None:
    """End at once, with the command. The next worker of the same name continues the build."""
    for process in _children:
        _kill(process)
    os._exit(0)


def _mine(service: Service, worker_id: str) -> list[dict[str, Any]]:
    asked = urlencode({"status": "running", "workerId": worker_id})
    return list(service.call("GET", f"/v1/builds?{asked}")["builds"])


def _waiting(service: Service) -> list[dict[str, Any]]:
    return list(service.call("GET", f"/v1/builds?status=queued&wait={WAIT_SECONDS}")["builds"])


def _give(stdin: IO[str], build: dict[str, Any]) -> None:
    try:
        json.dump(build, stdin)
        stdin.close()
    except BrokenPipeError:
        pass  # the command does not read its input


def _gathered(stdout: IO[str]) -> Iterator[list[str]]:
    """The lines of the command, half a second's together; an empty list after each silence."""
    waiting: queue.Queue[str | None] = queue.Queue(WAITING_LINES)

    def read() -> None:
        for line in stdout:
            if said := line.strip():
                waiting.put(said)
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = waiting.get(timeout=INSPECT_SECONDS)
        except queue.Empty:
            yield []
            continue
        if line is None:
            return
        lines = [line]
        due = time.monotonic() + FLUSH_SECONDS
        while (rest := due - time.monotonic()) > 0 and len(lines) < MOST_AT_ONCE:
            try:
                more = waiting.get(timeout=rest)
            except queue.Empty:
                break
            if more is None:
                waiting.put(None)
                break
            lines.append(more)
        yield lines


def _end_with_parent() -> None:
    """End when standard input closes: the parent process holds it open."""
    sys.stdin.read()
    _leave()


def main() -> None:
    """Read the command line and work until a signal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--url", required=True, help="where the service listens")
    parser.add_argument("--key", required=True, help="the id of the key to sign with")
    parser.add_argument(
        "--worker", default=socket.gethostname(), help="this worker's name (default: the host's)"
    )
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes")
    parser.add_argument("command", nargs="+", help="the command to run for each build")
    asked = parser.parse_args()
    secret = os.environ.get("THROUGHLINE_WORKER_SECRET")
    if urlsplit(asked.url).scheme not in ("http", "https"):
        parser.error("--url begins with http:// or https://")
    if not secret:
        parser.error("set THROUGHLINE_WORKER_SECRET to the secret of the key")
    if shutil.which(asked.command[0]) is None:
        parser.error(f"{asked.command[0]} is not a program that can be run: check path and mode")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    if asked.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(Service(asked.url.rstrip("/"), asked.key, secret), asked.worker, asked.command)
    except Refused as refused:
        sys.exit(f"build_worker: the service refused: {refused}")


if __name__ == "__main__":
    main()
