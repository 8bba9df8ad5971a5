"""One delivery of one event: signed by Standard Webhooks, sent once, and what the receiver said.

By the specification (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md):
the signature is of `<id>.<timestamp>.<body>`; while a secret rotates there is a signature by each,
with a blank between them; the id is the same for each try, and has no full stop.
"""

import hmac
import secrets
import ssl
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import aiohttp

from service.concurrency.retry import retry_after
from service.webhooks.addresses import AddressRefused, public_socket

MEDIA_TYPE: Final = "application/cloudevents+json"
GONE: Final = 410
_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32
_SECONDS: Final = 15.0
_LONGEST_WAIT: Final = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a try. `error` is None where the event was taken."""

    error: str | None = None
    status: int | None = None
    retry_after: float = 0.0


def new_secret() -> str:
    """A secret in the form that the libraries of Standard Webhooks take."""
    return _PREFIX + b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The signature of a message with one secret."""
    key = b64decode(secret.removeprefix(_PREFIX))
    signed = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{b64encode(signed).decode()}"


def session(trusted: ssl.SSLContext | None, *, private: bool) -> aiohttp.ClientSession:
    """The connection to one receiver. Without `private` it is only made to a public address.

    Without `trusted` the library's own certificates are used.
    """
    connector = aiohttp.TCPConnector(
        limit=1, ssl=trusted or True, socket_factory=None if private else public_socket
    )
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    return aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    )


async def send(
    http: aiohttp.ClientSession, url: str, keys: Iterable[str], message_id: str, body: bytes
) -> Outcome:
    """Send an event once. Redirects are not followed, and no answer is read."""
    timestamp = int(time.time())
    headers = {
        "Content-Type": MEDIA_TYPE,
        "User-Agent": "Throughline",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(
            signature(each, message_id, timestamp, body) for each in keys
        ),
    }
    try:
        async with http.post(url, data=body, headers=headers, allow_redirects=False) as answer:
            if 200 <= answer.status < 300:
                return Outcome()
            return Outcome(
                error=f"the receiver answered {answer.status}",
                status=answer.status,
                retry_after=retry_after(answer.headers.get("Retry-After"), _LONGEST_WAIT) or 0.0,
            )
    except TimeoutError:
        return Outcome(error="the receiver did not answer in time")
    except aiohttp.ClientConnectorError as error:
        refused = isinstance(error.os_error, AddressRefused)
        return Outcome(error="the address is not public" if refused else "no connection")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Outcome(error=f"the connection failed: {type(error).__name__}")
