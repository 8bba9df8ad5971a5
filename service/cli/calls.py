"""Signed calls to a running service, by a key of the settings."""

import json
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import typer

from service.access import signatures
from service.access.keys import known_keys
from service.cli.console import err
from service.concurrency.retry import retry_after
from service.settings import Key, Settings

SECONDS: Final = 60.0
"""How long an answer may take."""

LONGEST_WAIT: Final = 5.0
"""How long a call waits before it is tried again, in seconds, whatever the service asks for."""


class CallFailed(RuntimeError):
    """The service refused a call, or did not answer. The message says why, and what to do.

    `code` is the code of a refusal, else empty. `retry_seconds` is when the same call may be tried
    again; None where it must not be.
    """

    def __init__(self, message: str, code: str = "", retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_seconds = retry_seconds


def chosen_key(settings: Settings, asked: str) -> tuple[str, Key]:
    """The id and the key: the key with the id `asked`, or else the first key.

    Exits where there is no key of this id.
    """
    keys = known_keys(settings)
    key_id = asked or next(iter(keys))
    if key_id not in keys:
        err.print(f"throughline: there is no key {key_id}; known are {', '.join(keys)}.")
        raise typer.Exit(2)
    return key_id, keys[key_id]


def signature(key_id: str, key: Key, method: str, target: str, body: bytes) -> str:
    """The value of the signature's header for a request that is sent now."""
    parts = urlsplit(target)
    return signatures.header(
        key.secret.get_secret_value(),
        method=method,
        path=parts.path.encode(),
        query=parts.query.encode(),
        key_id=key_id,
        body=body,
    )


@dataclass(frozen=True, slots=True)
class SignedCalls:
    """Calls to the service at `url` by a key.

    For `patience` seconds a call is tried again where the service has too much to do.
    """

    url: str
    key_id: str
    key: Key
    patience: float = 0.0

    def get(self, target: str) -> Any:
        """The answer to a read. Raises CallFailed."""
        return self._sent("GET", target, b"")

    def post(self, target: str, body: dict[str, Any]) -> Any:
        """The answer to a write. Raises CallFailed."""
        return self._sent("POST", target, json.dumps(body).encode())

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """The headers of a request with JSON, signed for now."""
        return {
            signatures.HEADER: signature(self.key_id, self.key, method, target, body),
            "Content-Type": "application/json",
        }

    def _sent(self, method: str, target: str, body: bytes) -> Any:
        until = time.monotonic() + self.patience
        while True:
            try:
                return self._answered(method, target, body)
            except CallFailed as failed:
                if failed.retry_seconds is None or time.monotonic() > until:
                    raise
                time.sleep(failed.retry_seconds)

    def _answered(self, method: str, target: str, body: bytes) -> Any:
        import urllib.error
        import urllib.request
        from http.client import HTTPException

        headers, status = self.headers(method, target, body), 0
        try:
            request = urllib.request.Request(  # noqa: S310 - the user's own address
                self.url + target, data=body or None, method=method, headers=headers
            )
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - as above
                status = answer.status
                return json.load(answer)
        except urllib.error.HTTPError as error:
            retry = error.headers["Retry-After"]
            raise refusal(self.url, error.code, error.read(), retry) from None
        except (OSError, HTTPException, ValueError) as error:
            if status and isinstance(error, ValueError):
                raise not_ours(self.url, status) from None
            raise no_answer(self.url, getattr(error, "reason", error)) from None


def refusal(url: str, status: int, body: bytes, header: str | None = None) -> CallFailed:
    """What the problem of an answer says, with its header Retry-After. Where something is stored,
    or may be, the call must not be tried again."""
    try:
        problem = json.loads(body)
        said, code = f"The service refuses: {problem['detail']}", problem["code"]
        is_stored = problem.get("stored", "nothing") != "nothing"
    except (ValueError, KeyError, TypeError):
        return not_ours(url, status)
    return CallFailed(said, code, None if is_stored else retry_after(header, LONGEST_WAIT))


def no_answer(url: str, reason: object = "") -> CallFailed:
    """Nothing answers at this URL, as far as is known for a `reason`."""
    why = f": {reason}" if str(reason) else ""
    return CallFailed(f"{url} does not answer{why}. Is the service there?")


def not_ours(url: str, status: int) -> CallFailed:
    """The answer is none of this service."""
    return CallFailed(f"{url} answers {status}, but not as Throughline does. Is the URL right?")


def local_url(settings: Settings) -> str:
    """The address of a service on this machine with these settings."""
    host = settings.host
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - a service that listens on every address
        host = "127.0.0.1"
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
