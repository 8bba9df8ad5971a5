"""A changed signed request is refused, whatever the change. A repeated request is refused too."""

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from service.access import signatures
from service.access.authentication import Authenticator, Unauthenticated
from service.postgres import connections
from tests import sizes
from tests.running import KEYS, LiveService, running, signature
from tests.service.http.raw import Connection, statuses_in

MUTANTS = sizes.size(3_000, 50_000)
SENT = sizes.size(200, 5_000)
REPLAYS = sizes.size(100, 3_000)
AT_ONCE = 50
CREDITS = "/v1/billing/credits"
HEX = "0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed request in the form in which it arrives."""

    method: str
    path: bytes
    query: bytes
    body: bytes
    header: str


Mutation = Callable[[random.Random, Signed], Signed]


def signed(chance: random.Random) -> Signed:
    """A request that is accepted."""
    method = chance.choice(("GET", "POST", "PUT", "DELETE"))
    path = b"/v1/" + bytes(chance.choices(b"abc/%20~", k=chance.randint(1, 30)))
    query = bytes(chance.choices(b"ab=&%2", k=chance.randint(1, 30)))
    body = chance.randbytes(chance.choice((0, 1, 60)))
    fields: dict[str, Any] = {
        "time": int(time.time()) + chance.randint(-200, 200),
        "key_id": chance.choice(list(KEYS)),
        "nonce": "".join(chance.choices("abcXYZ019._~-", k=16)),
    }
    secret = KEYS[fields["key_id"]].secret.get_secret_value()
    v1 = signatures.sign(secret, method=method, path=path, query=query, body=body, **fields)
    header = f"t={fields['time']},kid={fields['key_id']},n={fields['nonce']},v1={v1}"
    return Signed(method, path, query, body, header)


# Mutations ---------------------------------------------------------------------------------------


def changed(chance: random.Random, value: bytes) -> bytes:
    """Changed bytes: one byte is flipped, replaced, inserted, removed, moved or doubled."""
    at, byte = chance.randrange(len(value) + 1), bytes([chance.randrange(256)])
    rest = value[at + 1 :]
    flipped = bytes([value[at] ^ 1 << chance.randrange(8)]) if at < len(value) else byte
    ways = (
        value[:at] + flipped + rest,
        value[:at] + byte + rest,
        value[:at] + byte + value[at:],
        value[:at] + rest,
        value[at:] + value[:at],
        value + value[at:],
    )
    return chance.choice(ways)


def method(chance: random.Random, asked: Signed) -> Signed:
    others = ("GET", "POST", "PUT", "DELETE", "HEAD", "get", asked.method + " ", "")
    return replace(asked, method=chance.choice(others))


def path(chance: random.Random, asked: Signed) -> Signed:
    return replace(asked, path=changed(chance, asked.path))


def query(chance: random.Random, asked: Signed) -> Signed:
    others = (changed(chance, asked.query), b"", asked.query + b"&userId=u2")
    return replace(asked, query=chance.choice(others))


def path_and_query(chance: random.Random, asked: Signed) -> Signed:
    """The same bytes, split into path and query at another place."""
    whole = asked.path + asked.query
    at = chance.randrange(len(whole))
    return replace(asked, path=whole[:at], query=whole[at:])


def body(chance: random.Random, asked: Signed) -> Signed:
    return replace(asked, body=changed(chance, asked.body))


def header(chance: random.Random, asked: Signed) -> Signed:
    return replace(asked, header=changed(chance, asked.header.encode()).decode("latin-1"))


def field(chance: random.Random, asked: Signed) -> Signed:
    """The header with another possible value of one of its fields."""
    name = chance.choice(("t", "kid", "n", "v1", "v1", "v1"))
    fields = dict(part.split("=") for part in asked.header.split(","))
    v1 = fields["v1"]
    at = chance.randrange(len(v1))
    others = {
        "t": (str(int(fields["t"]) + chance.choice((-1, 1, -60, 60))), "0" * 12, "9" * 12),
        "kid": (*KEYS, "k3", fields["kid"].upper(), fields["kid"] + "~"),
        "n": (secrets.token_hex(8), fields["n"].swapcase(), fields["n"][:-1], fields["n"] + "0"),
        "v1": (
            v1[:at] + chance.choice(HEX) + v1[at + 1 :],
            v1[:at],
            v1[1:] + v1[:1],
            secrets.token_hex(32),
            "0" * 64,
            v1 + "0",
            v1.translate(str.maketrans(HEX, HEX[::-1])),
        ),
    }
    fields[name] = chance.choice(others[name])
    return replace(asked, header=",".join(f"{key}={value}" for key, value in fields.items()))


MUTATIONS: Sequence[Mutation] = (method, path, query, path_and_query, body, header, field)


def says_the_same(one: Signed, other: Signed) -> bool:
    """Whether two requests differ only in the spelling of the same signature."""
    ours, theirs = signatures.parse(one.header), signatures.parse(other.header)
    return (
        ours is not None
        and theirs is not None
        and replace(one, header="") == replace(other, header="")
        and (ours.time, ours.key_id, ours.nonce) == (theirs.time, theirs.key_id, theirs.nonce)
        and ours.signatures[0] in {each.lower() for each in theirs.signatures}
    )


def mutants(chance: random.Random, count: int) -> list[tuple[str, Signed]]:
    """This number of requests that differ from a signed request, each with the changed part."""
    found: list[tuple[str, Signed]] = []
    while len(found) < count:
        asked, mutate = signed(chance), chance.choice(MUTATIONS)
        mutant = mutate(chance, asked)
        if not says_the_same(asked, mutant):
            found.append((mutate.__name__, mutant))
    return found


# The verifier ------------------------------------------------------------------------------------


async def is_accepted(authenticator: Authenticator, asked: Signed) -> bool:
    try:
        await authenticator.verify(
            authenticator.read(asked.header),
            method=asked.method,
            path=asked.path,
            query=asked.query,
            body=asked.body,
        )
    except Unauthenticated:
        return False
    return True


async def accepted(authenticator: Authenticator, count: int) -> Counter[str]:
    """The number of accepted mutants, by the changed part."""
    chance = sizes.chance("mutants")
    return Counter(
        [name for name, each in mutants(chance, count) if await is_accepted(authenticator, each)]
    )


async def test_no_changed_request_is_accepted(pool: connections.Pool) -> None:
    authenticator = Authenticator(KEYS, pool)
    chance = sizes.chance("signed")
    assert all([await is_accepted(authenticator, signed(chance)) for _ in range(50)])
    assert await accepted(authenticator, MUTANTS) == Counter()


async def test_a_verifier_that_ignores_the_query_is_found(
    pool: connections.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = signatures.sign

    def without_query(secret: str, **parts: Any) -> str:
        return whole(secret, **parts | {"query": b""})

    monkeypatch.setattr(signatures, "sign", without_query)
    assert set(await accepted(Authenticator(KEYS, pool), 1_000)) == {"query"}


# Whole requests ----------------------------------------------------------------------------------


@pytest.fixture
async def live(url: str) -> AsyncIterator[LiveService]:
    async with running(url) as service:
        yield service


def credit(number: int) -> Signed:
    """A write that is accepted."""
    asked = b'{"userId":"u1","seconds":%d,"kind":"bonus"}' % (number % 9 + 1)
    return Signed(
        "POST", CREDITS.encode(), b"", asked, signature("POST", CREDITS.encode(), b"", asked)
    )


def as_sent(asked: Signed, *headers: str) -> bytes:
    target = asked.path + (b"?" + asked.query if asked.query else b"")
    lines = (
        b"Host: throughline",
        b"Connection: close",
        b"Content-Length: %d" % len(asked.body),
        f"{signatures.HEADER}: {asked.header}".encode("latin-1"),
        *(each.encode() for each in headers),
    )
    line = asked.method.encode() + b" " + target + b" HTTP/1.1"
    return b"\r\n".join((line, *lines, b"", b"")) + asked.body


def is_read_the_same(one: Signed, other: Signed) -> bool:
    """Whether two request lines differ only in blanks, a fragment or an empty query."""
    ours, theirs = (as_sent(each).split(b"\r\n", 1) for each in (one, other))
    line = theirs[0].partition(b"#")[0].removesuffix(b" HTTP/1.1").rstrip(b" ").removesuffix(b"?")
    is_line = ours[0].split(b" ")[:2] == [part for part in line.split(b" ") if part]
    return is_line and ours[1] == theirs[1]


async def statuses(live: LiveService, *sent: bytes) -> list[int]:
    """Send each request on a connection of its own; its status if it is accepted, else 0."""

    async def status(each: bytes) -> int:
        connection = await Connection.open(live)
        await connection.send(each)
        found = statuses_in(await connection.rest())
        return max((status for status in found if status < 300), default=0)

    found: list[int] = []
    for begin in range(0, len(sent), AT_ONCE):
        found += await asyncio.gather(*map(status, sent[begin : begin + AT_ONCE]))
    return found


async def test_no_changed_write_is_stored(live: LiveService) -> None:
    chance, sent = sizes.chance("writes"), list[bytes]()
    while len(sent) < SENT:
        asked = credit(len(sent))
        mutant = chance.choice(MUTATIONS)(chance, asked)
        if not (says_the_same(asked, mutant) or is_read_the_same(asked, mutant)):
            sent.append(as_sent(mutant))
    before = await live.service.store.head()
    assert await statuses(live, as_sent(credit(0))) == [201]
    answered = await statuses(live, *sent)
    assert [each for each, status in zip(sent, answered, strict=True) if status] == []
    assert await live.service.store.head() == before + 1


def replays(chance: random.Random, asked: Signed) -> bytes:
    """The same signature again: unchanged, in another spelling, or with other headers."""
    parts = asked.header.split(",")
    t, kid, n, v1 = parts
    ways = (
        as_sent(asked),
        as_sent(asked, f"Idempotency-Key: {secrets.token_hex(8)}"),
        as_sent(replace(asked, header=", ".join(chance.sample(parts, 4)))),
        as_sent(replace(asked, header=f"t=0{t[2:]},{kid},{n},{v1}")),
        as_sent(replace(asked, header=f"{t},{kid},{n},v1={v1[3:].upper()}")),
        as_sent(replace(asked, header=f"{t},{kid},{n},v1={'0' * 64},{v1}")),
    )
    return chance.choice(ways)


async def replayed(live: LiveService, count: int) -> int:
    """The number of accepted replays, out of `count` replays of accepted writes."""
    chance = sizes.chance("replays")
    writes = [credit(number) for number in range(count)]
    assert set(await statuses(live, *map(as_sent, writes))) == {201}
    again = await statuses(live, *(replays(chance, each) for each in writes))
    return sum(status != 0 for status in again)


async def test_no_replay_of_a_write_is_accepted(live: LiveService) -> None:
    assert await replayed(live, REPLAYS) == 0
    credited = (await live.account())["bonusSeconds"]
    assert credited == sum(number % 9 + 1 for number in range(REPLAYS))


async def test_only_the_first_of_racing_copies_of_a_request_is_accepted(live: LiveService) -> None:
    for number in range(10):
        sent = as_sent(credit(number))
        assert Counter(await statuses(live, *([sent] * 20))) == {201: 1, 0: 19}


async def test_a_verifier_that_forgets_nonces_is_found(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(*_: Any) -> None:
        return

    monkeypatch.setattr(Authenticator, "_use_up", forget)
    assert await replayed(live, 30) == 30
