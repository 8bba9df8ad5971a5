"""An archive: what is stored comes back byte for byte, and a cut or changed file is known."""

from datetime import UTC, datetime
from io import BytesIO
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.eventlog.store import Recorded
from service.replay.archive import (
    ArchiveReader,
    ArchiveRefused,
    ArchiveWriter,
    Header,
    entry,
    line,
)
from service.replay.reading import Entry

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("state", "metadata", "stateBase64")) | texts, inner)
    ),
    max_leaves=8,
)
states = values.map(orjson.dumps) | st.binary(max_size=40) | st.just(b'{ "spaced" : 1.00 }\n')
metadata = values.map(lambda value: orjson.dumps(value).decode()) | st.just('{\n "a": 1\r\n}')


def _named(each: Entry) -> Recorded:
    return each.event._replace(append_tail=each.append_id.bytes[-4:])


entries = st.builds(
    Entry,
    st.uuids(),
    st.builds(
        Recorded,
        position=st.integers(1, 2**63 - 1),
        tenant_id=texts,
        stream_id=texts,
        version=st.integers(0, 2**31 - 1),
        type=texts,
        schema_version=st.integers(1, 99),
        project_id=st.none() | texts,
        state=states,
        metadata=metadata,
        recorded_at=st.datetimes(datetime(1900, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        append_tail=st.just(b""),
    ),
).map(lambda each: each._replace(event=_named(each)))


@given(entries)
def test_an_event_comes_back_from_its_line_byte_for_byte(each: Entry) -> None:
    written = line(each.event, each.append_id)
    assert entry(written) == each
    assert written.count(b"\n") == 1
    members = orjson.loads(written)
    assert members["appendId"] == str(each.append_id)
    assert ("state" in members) != ("stateBase64" in members)


def three() -> bytes:
    """An archive of three events."""
    file = BytesIO()
    writer = ArchiveWriter(file, Header(upto=3))
    writer.begin()
    for n in (1, 2, 3):
        moment = datetime(2026, 11, 20, 10, n, tzinfo=UTC)
        event = Recorded(n, "t", "s", n, "X", 1, None, b'{"n":1}', "{}", moment, b"")
        writer.write(Entry(UUID(int=n), event))
    writer.finish()
    return file.getvalue()


def checked(written: bytes) -> None:
    ArchiveReader(BytesIO(written)).check(lambda _at, _end: None)


def test_a_whole_archive_is_accepted() -> None:
    whole = three()
    checked(whole)
    reader = ArchiveReader(BytesIO(whole))
    assert [each.event.position for each in reader.entries()] == [1, 2, 3]


def test_every_cut_is_known() -> None:
    whole = three()
    for end in range(len(whole)):
        with pytest.raises(ArchiveRefused):
            checked(whole[:end])


def test_every_changed_byte_is_known() -> None:
    whole = three()
    for at in range(len(whole)):
        changed = whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :]
        with pytest.raises(ArchiveRefused):
            checked(changed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda whole: b"position,type\n" + whole, "is no archive of events"),
        (lambda whole: whole[:-10], "was cut"),
        (lambda whole: whole.replace(b'"n":1', b'"n":2', 1), "was changed"),
        (lambda whole: b"".join(whole.splitlines(keepends=True)[::2]), "was changed"),
        (lambda whole: whole + b"{}\n", "was changed"),
    ],
)
def test_a_refusal_says_what_is_wrong(change: object, said: str) -> None:
    assert callable(change)
    with pytest.raises(ArchiveRefused, match=said):
        checked(change(three()))


def test_a_line_that_is_no_event_is_named() -> None:
    lines = three().splitlines(keepends=True)
    lines[2] = b'{"position":2}\n'
    with pytest.raises(ArchiveRefused, match="line 3 is no event"):
        list(ArchiveReader(BytesIO(b"".join(lines))).entries())


def test_an_event_without_its_append_can_be_printed_but_is_no_line_of_an_archive() -> None:
    append_id, now = uuid4(), datetime.now(UTC)
    event = Recorded(1, "t", "s", 1, "X", 1, None, b"{}", "{}", now, append_id.bytes[-4:])
    assert "appendId" not in orjson.loads(line(event))
    assert entry(line(event, append_id)) == (append_id, event)
    with pytest.raises(ValueError, match="append"):
        entry(line(event))
