"""Events of the log as a Parquet file, for DuckDB, pandas, Spark and the like.

`state` and `metadata` are JSON as text. A state of another application that is no UTF-8 stands in
`state_bytes`, and `state` is null.
"""

from collections.abc import AsyncIterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from service.eventlog.store import Recorded
from service.replay.archive import Header, Progress, dumped
from service.replay.reading import Entry

_GROUP_EVENTS: Final = 50_000
_GROUP_BYTES: Final = 32 * 1024 * 1024
"""The events and bytes of a row group, which is what this holds in memory."""


class ParquetMissing(RuntimeError):
    """The package pyarrow is not installed."""


async def write_parquet(
    path: Path,
    entries: AsyncIterator[Entry],
    header: Header,
    progress: Progress = lambda _at, _end: None,
) -> int:
    """Write the events to a new file; returns how many. Raises ParquetMissing.

    A Parquet file is complete or cannot be read at all: its last bytes say where all others are.
    """
    pa, parquet = pyarrow()
    schema = _schema(pa).with_metadata({"throughline": dumped(header).decode().strip()})
    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        async for group in _groups(entries):
            columns = {name: [row[name] for row in group] for name in schema.names}
            writer.write_table(pa.table(columns, schema=schema))
            count += len(group)
            progress(group[-1]["position"] - header.after, header.upto - header.after)
    return count


async def _groups(entries: AsyncIterator[Entry]) -> AsyncIterator[list[Mapping[str, Any]]]:
    group: list[Mapping[str, Any]] = []
    size = 0
    async for each in entries:
        group.append(_row(each))
        size += len(each.event.state) + len(each.event.metadata)
        if len(group) == _GROUP_EVENTS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _row(each: Entry) -> Mapping[str, Any]:
    text = _text(each.event.state)
    event = each.event._asdict()
    del event["append_tail"]
    return {
        **event,
        "append_id": str(each.append_id),
        "state": text,
        "state_bytes": each.event.state if text is None else None,
    }


def _text(state: bytes) -> str | None:
    try:
        return state.decode()
    except UnicodeDecodeError:
        return None


def _schema(pa: Any) -> Any:
    """The columns, in the order of the archive's members."""
    types: Mapping[str, Any] = {
        "position": pa.int64(),
        "append_id": pa.string(),
        "recorded_at": pa.timestamp("us", tz="UTC"),
        "tenant_id": pa.string(),
        "stream_id": pa.string(),
        "version": pa.int32(),
        "type": pa.string(),
        "schema_version": pa.int16(),
        "project_id": pa.string(),
        "metadata": pa.string(),
        "state": pa.string(),
        "state_bytes": pa.binary(),
    }
    assert set(Recorded._fields) - {"append_tail"} < types.keys()
    return pa.schema(list(types.items()))


def pyarrow() -> tuple[Any, Any]:
    """The library, and its part for Parquet. Raises ParquetMissing."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise ParquetMissing("Parquet needs the package pyarrow: pip install pyarrow.") from None
