"""The views of one tenant as Parquet files, a file a view, for DuckDB, pandas, Spark and the like.

JSON is text in the files. `duckdb.sql` beside them names the files as the views are named, so a
statement for the views reads the files.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from psycopg import sql as compose

import sql
from projections import PROJECTIONS
from service.postgres.connections import Connection
from service.replay.archive import Progress
from service.replay.parquet import pyarrow

SQL: Final = sql.statements("analysts.sql")
VIEWS: Final = tuple(sorted(view for each in PROJECTIONS for view in each.views))
NAMES: Final = "duckdb.sql"
_GROUP_ROWS: Final = 20_000


async def write_views(
    connection: Connection,
    folder: Path,
    tenant_id: str,
    progress: Progress = lambda _at, _end: None,
    *,
    will_be: Path | None = None,
) -> int:
    """Write all views of a tenant into a folder, as of one moment; returns how many rows.

    `will_be` is what the folder will be called once it is whole.

    Raises ParquetMissing.
    """
    pyarrow()
    rows = 0
    async with connection.transaction():
        await connection.execute(SQL["as_of_one_moment"])
        for done, view in enumerate(VIEWS, 1):
            rows += await _write(connection, folder / f"{view}.parquet", view, tenant_id)
            progress(done, len(VIEWS))
    (folder / NAMES).write_text(names(will_be or folder))
    return rows


def names(folder: Path) -> str:
    """The statements that let DuckDB read the files of a folder by the names of the views."""
    lines = ["set timezone = 'UTC';", "create schema if not exists analytics;"]
    for view in VIEWS:
        file = str((folder / f"{view}.parquet").resolve()).replace("'", "''")
        lines.append(f"create or replace view analytics.{view} as from '{file}';")
    return "\n".join(lines) + "\n"


async def _write(connection: Connection, file: Path, view: str, tenant_id: str) -> int:
    pa, parquet = pyarrow()
    found = await connection.execute(SQL["columns"], {"view": view})
    columns = await found.fetchall()
    schema = pa.schema([(name, _type(pa, kind)) for name, kind in columns])
    rows = 0
    async with connection.cursor(f"view_{view}") as cursor:
        await cursor.execute(_selected(view, columns), {"tenant_id": tenant_id})
        with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            while group := await cursor.fetchmany(_GROUP_ROWS):
                writer.write_table(pa.table(_by_column(schema, group), schema=schema))
                rows += len(group)
    return rows


def _by_column(schema: Any, rows: Sequence[Sequence[Any]]) -> Mapping[str, list[Any]]:
    return {name: [row[n] for row in rows] for n, name in enumerate(schema.names)}


def _selected(view: str, columns: Sequence[tuple[str, str]]) -> compose.Composed:
    """The rows of the tenant. JSON is read as text, as it is stored in the file."""
    each = [
        compose.SQL("{}::text" if kind == "jsonb" else "{}").format(compose.Identifier(name))
        for name, kind in columns
    ]
    return compose.SQL("select {} from {} where tenant_id = %(tenant_id)s").format(
        compose.SQL(", ").join(each), compose.Identifier("analytics", view)
    )


def _type(pa: Any, kind: str) -> Any:
    """The type in Parquet of a type in PostgreSQL."""
    if number := re.fullmatch(r"numeric\((\d+),(\d+)\)", kind):
        return pa.decimal128(int(number[1]), int(number[2]))
    return {
        "text": pa.string(),
        "jsonb": pa.string(),
        "text[]": pa.list_(pa.string()),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "boolean": pa.bool_(),
        "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    }[kind]
