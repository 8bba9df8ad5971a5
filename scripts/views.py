"""Write what is generated from the views for analysts: a part of their page, and the columns.

The columns are all that were ever published, with their types. A column that is gone stays in the
file, so a test finds that it is gone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psycopg

from projections import PROJECTIONS
from scripts.package_map import ROOT, between

PAGE: Final = ROOT / "docs" / "analytics.md"
COLUMNS: Final = ROOT / "tests" / "sql" / "columns.json"
BEGIN: Final = "<!-- views: `make schema` writes this part from the comments in the database -->"
END: Final = "<!-- end of views -->"
VIEWS: Final = tuple(view for projection in PROJECTIONS for view in projection.views)

_QUERY: Final = """
    select
        relname,
        obj_description(pg_class.oid, 'pg_class'),
        attname,
        format_type(atttypid, atttypmod),
        col_description(pg_class.oid, attnum)
    from pg_class
    join pg_attribute on attrelid = pg_class.oid and attnum > 0
    where relnamespace = 'analytics'::regnamespace
    order by relname, attnum
    """

Column = tuple[str, str, str]
"""Its name, its type, and its comment."""


def described(url: str) -> dict[str, tuple[str, list[Column]]]:
    """Each view of a migrated database: its comment and its columns. Sorted by name."""
    views: dict[str, tuple[str, list[Column]]] = {}
    with psycopg.connect(url) as connection:
        for view, comment, *column in connection.execute(_QUERY).fetchall():
            name, kind, said = column
            views.setdefault(view, (comment or "", []))[1].append((name, kind, said or ""))
    return views


def part(url: str) -> str:
    """The generated part of the page."""
    views = described(url)
    lines = ["| view | what is in it |", "|---|---|"]
    lines += [f"| [`{name}`](#{name}) | {_cell(views[name][0])} |" for name in sorted(views)]
    for name, (comment, columns) in views.items():
        lines += ["", f"### {name}", "", comment, "", "| column | type | what is in it |"]
        lines += ["|---|---|---|"]
        lines += [f"| `{each}` | {kind} | {_cell(said)} |" for each, kind, said in columns]
    return "\n".join(lines)


def published(url: str) -> dict[str, dict[str, str]]:
    """The columns of the file, and after them the new columns."""
    known: dict[str, Any] = json.loads(COLUMNS.read_text()) if COLUMNS.exists() else {}
    for view, (_, columns) in described(url).items():
        known[view] = {name: kind for name, kind, _ in columns} | known.get(view, {})
    return {view: known[view] for view in sorted(known)}


def written(columns: Mapping[str, Mapping[str, str]]) -> str:
    """The file of the columns."""
    return json.dumps(columns, indent=2) + "\n"


def write(url: str, page: Path = PAGE) -> None:
    """Write both files anew, from a migrated database."""
    page.write_text(between(page.read_text(), BEGIN, END, part(url)))
    COLUMNS.write_text(written(published(url)))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
