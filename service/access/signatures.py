"""The signature of a request: `X-HMAC-Signature: t=<unix seconds>,kid=<key>,n=<nonce>,v1=<hex>`.

`v1` is HMAC-SHA256 over eight lines joined by LF: `v1`, the method, the raw path, the raw query,
t, n, kid, and the SHA-256 of the raw body in hexadecimal. It covers the request byte for byte.
"""

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from time import time as time_now
from typing import Final

HEADER: Final = "X-HMAC-Signature"
CLOCK_SECONDS: Final = 300
_LONGEST: Final = 1_024
_FIELD: Final = re.compile(r"(t|kid|n|v1)=([A-Za-z0-9_.~-]{1,128})")
_MOST_SIGNATURES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A parsed header. It has several `signatures` while the client's secret rotates."""

    time: int
    key_id: str
    nonce: str
    signatures: tuple[str, ...]


def parse(header: str) -> Signature | None:
    """The header's fields. None unless each field is there exactly once, `v1` at least once."""
    if len(header) > _LONGEST:
        return None
    fields: dict[str, list[str]] = {"t": [], "kid": [], "n": [], "v1": []}
    for part in header.split(","):
        match = _FIELD.fullmatch(part.strip())
        if match is None:
            return None
        fields[match[1]].append(match[2])
    single = all(len(fields[name]) == 1 for name in ("t", "kid", "n"))
    if not single or not 1 <= len(fields["v1"]) <= _MOST_SIGNATURES:
        return None
    if not re.fullmatch(r"[0-9]{1,12}", fields["t"][0]):
        return None
    return Signature(
        time=int(fields["t"][0]),
        key_id=fields["kid"][0],
        nonce=fields["n"][0],
        signatures=tuple(fields["v1"]),
    )


def sign(
    secret: str,
    *,
    method: str,
    path: bytes,
    query: bytes,
    time: int,
    nonce: str,
    key_id: str,
    body: bytes,
) -> str:
    """The `v1` of a request, in hexadecimal."""
    lines = (
        b"v1",
        method.encode(),
        path,
        query,
        str(time).encode(),
        nonce.encode(),
        key_id.encode(),
        sha256(body).hexdigest().encode(),
    )
    return hmac.new(secret.encode(), b"\n".join(lines), sha256).hexdigest()


def matches(signature: Signature, expected: Iterable[str]) -> bool:
    """Whether any signature is an expected one, compared in constant time."""
    found = False
    for ours in expected:
        for theirs in signature.signatures:
            found |= hmac.compare_digest(ours.encode(), theirs.lower().encode())
    return found


def header(secret: str, *, method: str, path: bytes, query: bytes, key_id: str, body: bytes) -> str:
    """The header's value for a request that is sent now."""
    moment, nonce = int(time_now()), secrets.token_hex(16)
    v1 = sign(
        secret,
        method=method,
        path=path,
        query=query,
        time=moment,
        nonce=nonce,
        key_id=key_id,
        body=body,
    )
    return f"t={moment},kid={key_id},n={nonce},v1={v1}"
