"""A small engine in one file: it claims runs one at a time, compares candidates, and reports.

    python -m scripts.run_engine --url http://127.0.0.1:8400 --key demo

The key's secret is read from THROUGHLINE_WORKER_SECRET; the key needs the scope `build`. The input
of a run is `{"candidates": ["a text", "another text"]}`; without an input the engine compares three
ways to say the title of the run. Replace `candidates_of` and `RULES` by what your engine does.

A killed engine loses nothing: when it starts again with the same `--worker`, it finds the run that
it had claimed and works on it again. The service knows repeated reports by their ids. The engine
leaves a run that was cancelled or erased. With `--once` the engine ends when no run waits.
"""

import argparse
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from service.access import signatures

WAIT_SECONDS: Final = 25
"""How long a poll waits for a run. Shorter than TIMEOUT_SECONDS."""

TIMEOUT_SECONDS: Final = 30.0
LONGEST_BACK_OFF_SECONDS: Final = 5.0

LOST: Final = ("run_claimed", "run_ended", "run_not_found")
"""The codes for a run that this engine does not get, or has no more."""

RULES: Final[Mapping[str, Callable[[str], float]]] = {
    "brevity": lambda text: 10 / (10 + len(text.split())),
    "variety": lambda text: len(set(text.lower())) / max(len(text), 1),
    "warmth": lambda text: min(text.count("!") + text.lower().count("please"), 2) / 2,
}
"""The name of each score, and how it is measured: the higher the better."""


class Refused(Exception):
    """The service refused a request: `status` with its `code`."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code


class Ended(Exception):
    """The run has ended otherwise than by this engine: the message is the code of its end."""


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


@dataclass(frozen=True, slots=True)
class Reporter:
    """The reports of one run. A second try gives the same ids to the same reports."""

    service: Service
    run_id: str

    def send(self, *reports: Mapping[str, Any]) -> None:
        """Send reports. Raises Ended when a member has cancelled or erased the run, for example."""
        events = [{"at": datetime.now(UTC).isoformat(), **each} for each in reports]
        try:
            answer = self.service.call("POST", f"/v1/runs/{self.run_id}/events", {"events": events})
        except Refused as refused:
            if refused.code in LOST:
                raise Ended(refused.code) from None
            raise
        if answer.get("code") in ("cancelled", "timed_out"):
            raise Ended(answer["code"])


def compare(run: Mapping[str, Any], reporter: Reporter) -> None:
    """Do one run: collect the candidates, score them, and say which one is the best."""
    texts = candidates_of(run)
    reporter.send(
        {
            "eventId": "collect",
            "type": "step",
            "stepId": "collect",
            "title": "Collect the candidates",
            "prompt": run["title"],
            "output": "\n".join(texts),
        }
    )
    best, best_average = "", -1.0
    for number, text in enumerate(texts, 1):
        scores = {name: round(measure(text), 3) for name, measure in RULES.items()}
        average = sum(scores.values()) / len(scores)
        if average > best_average:
            best, best_average = text, average
        reporter.send(
            {
                "eventId": f"candidate-{number}",
                "type": "candidate",
                "candidateId": str(number),
                "title": text[:500],
                "scores": scores,
                "data": {"words": len(text.split())},
            },
            {
                "eventId": f"progress-{number}",
                "type": "progress",
                "title": f"Scored {number} of {len(texts)} candidates",
            },
        )
    reporter.send(
        {
            "eventId": "end",
            "type": "succeeded",
            "title": "Compared",
            "summary": f"The best of {len(texts)} candidates is “{best[:500]}”.",
            "findings": [f"Its average score is {best_average:.3f}."],
        }
    )


def candidates_of(run: Mapping[str, Any]) -> list[str]:
    """The texts to compare: the texts of the input, or three ways to say the title."""
    given = (run.get("input") or {}).get("candidates")
    if isinstance(given, list) and given:
        return [str(each) for each in given[:100]]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    title = str(run["title"])
    return [title, f"{title}, please!", f"Could you tell me more about this: {title}?"]


def work(service: Service, worker_id: str, *, once: bool) -> None:
    """Work for ever: first on the runs that this engine had claimed, then on waiting runs."""
    for run in _mine(service, worker_id):
        work_on(service, run)
    for run in _waiting(service, once=once):
        try:
            claimed = service.call(
                "POST", f"/v1/runs/{run['runId']}/claim", {"workerId": worker_id}
            )
        except Refused as refused:
            if refused.code in LOST:
                continue  # another engine was faster, or the run was cancelled
            raise
        work_on(service, claimed)


def work_on(service: Service, run: Mapping[str, Any]) -> None:
    """Do one run and report its end, also where the engine's own code fails."""
    reporter = Reporter(service, str(run["runId"]))
    print(f"running {run['runId']}", flush=True)
    try:
        compare(run, reporter)
    except Ended as ended:
        print(f"stopped: {ended}", flush=True)
    except Refused as refused:
        failure = {"eventId": "failure", "type": "failed", "title": "The engine failed"}
        reporter.send(failure | {"error": f"The service refused a report: {refused}."})
    print(f"ended {run['runId']}", flush=True)


def _mine(service: Service, worker_id: str) -> list[dict[str, Any]]:
    asked = urlencode({"status": "running", "workerId": worker_id})
    return list(service.call("GET", f"/v1/runs?{asked}")["runs"])


def _waiting(service: Service, *, once: bool) -> Iterator[dict[str, Any]]:
    """The runs that wait, without end; with `once` until none waits."""
    wait = 0 if once else WAIT_SECONDS
    while True:
        found = service.call("GET", f"/v1/runs?status=queued&wait={wait}")["runs"]
        if once and not found:
            return
        yield from found


def _end_with_parent() -> None:
    """End when standard input closes: the parent process holds it open."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Read the command line and work until a signal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--url", required=True, help="where the service listens")
    parser.add_argument("--key", required=True, help="the id of the key to sign with")
    parser.add_argument(
        "--worker", default=socket.gethostname(), help="this engine's name (default: the host's)"
    )
    parser.add_argument("--once", action="store_true", help="end when no run waits")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes")
    asked = parser.parse_args()
    secret = os.environ.get("THROUGHLINE_WORKER_SECRET")
    if urlsplit(asked.url).scheme not in ("http", "https"):
        parser.error("--url begins with http:// or https://")
    if not secret:
        parser.error("set THROUGHLINE_WORKER_SECRET to the secret of the key")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    if asked.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(Service(asked.url.rstrip("/"), asked.key, secret), asked.worker, once=asked.once)
    except Refused as refused:
        sys.exit(f"run_engine: the service refused: {refused}")


if __name__ == "__main__":
    main()
