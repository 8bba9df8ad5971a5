"""The questions of `docs/questions.md`: PostgreSQL and DuckDB answer them as the events do."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import duckdb
import psycopg
import pytest

from service.cli.demo.year import Year
from service.postgres.analysts import add_analyst, remove_analyst
from service.replay.archive import Header
from service.replay.importing import import_entries, rebuild_read_models
from service.replay.parquet import write_parquet
from service.replay.reading import EventFilter, whole
from service.replay.view_files import NAMES, VIEWS, write_views
from tests.documents import DOCS
from tests.projections.generated import World, owning, writing
from tests.sizes import SEED, size
from tests.sql.answers import ANSWERS, Life, Row, cost_of_users, life

PAGE: Final = (DOCS / "questions.md").read_text()
QUESTIONS: Final = re.findall(r"^### (\d+)\. .*?^```sql\n(.*?)^```$", PAGE, re.M | re.S)
FROM_LOG: Final = (19, 20)
DIGITS: Final = {18: 3}
"""How many digits after the point an answer has; all others that are no whole numbers have one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A year in a database, as files, and as its events say it."""

    url: str
    views: duckdb.DuckDBPyConnection
    folder: Path
    life: Life


@pytest.fixture(scope="module")
async def asked(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asked]:
    """A year of one tenant, and beside it what two other tenants did."""
    folder = tmp_path_factory.mktemp("views")
    year = Year("acme", seed=SEED, messages=size(400, 5_000), days=365)
    async with owning(shared_url) as owner:
        await import_entries(owner, year.entries())
        await rebuild_read_models(owner, lambda _: lambda _at, _end: None)
        async with writing(shared_url) as log:
            await log.append(World(SEED).appends(200))
        login = await add_analyst(owner, "asker", "acme")
        await write_views(owner, folder, "acme")
        acme = EventFilter(tenant_id="acme")
        events = [each.event async for each in whole(owner, acme)]
        header = Header(upto=len(events), tenant="acme")
        await write_parquet(folder / "log.parquet", whole(owner, acme), header)
        with duckdb.connect() as views:
            views.execute((folder / NAMES).read_text())
            views.execute(f"set file_search_path = '{folder}'")
            yield Asked(login.url, views, folder, life(events))
        await remove_analyst(owner, "asker")


def test_the_page_has_twenty_questions() -> None:
    assert [int(number) for number, _ in QUESTIONS] == list(range(1, 21))


@pytest.mark.parametrize(("number", "statement"), QUESTIONS, ids=[each for each, _ in QUESTIONS])
async def test_each_question_has_the_answer_of_the_events(
    asked: Asked, number: str, statement: str
) -> None:
    expected = ANSWERS[int(number) - 1](asked.life)
    assert expected, "the year has nothing to ask for"
    digits = DIGITS.get(int(number), 1)
    assert_same(asked.views.execute(statement).fetchall(), expected, digits)
    if int(number) not in FROM_LOG:
        with psycopg.connect(asked.url, options="-c timezone=UTC") as analyst:
            assert_same(analyst.execute(statement.encode()).fetchall(), expected, digits)


def assert_same(found: Sequence[Row], expected: Sequence[Row], digits: int) -> None:
    """The rows are equal, but for the digits that the statement or the driver rounds."""
    assert len(found) == len(expected), found
    for row, wanted in zip(found, expected, strict=True):
        assert len(row) == len(wanted)
        for value, right in zip(row, wanted, strict=True):
            assert is_same(value, right, digits), (row, wanted)


def is_same(value: Any, right: Any, digits: int) -> bool:
    if isinstance(right, float):
        return value is not None and abs(float(value) - right) <= 0.51 * 10**-digits
    return bool(value == right)


async def test_pandas_reads_the_same_files(asked: Asked) -> None:
    pandas: Any = import_module("pandas")  # it has no types
    tables = {view: pandas.read_parquet(asked.folder / f"{view}.parquet") for view in VIEWS}
    bills = tables["user_ai_time_consumption"]
    months = bills["recorded_at"].dt.strftime("%Y-%m-01")
    groups = bills.groupby([months, "user_id"])
    found = {
        key: (int(rows["billed_seconds"].sum()), sum(rows["cost_usd"].dropna(), Decimal(0)))
        for key, rows in groups
    }
    assert found == {
        (str(month), user): (seconds, cost or Decimal(0))
        for month, user, seconds, cost in cost_of_users(asked.life)
    }
    with psycopg.connect(asked.url) as analyst:
        for view, table in tables.items():
            cursor = analyst.execute(f"table analytics.{view}".encode())
            assert [each.name for each in cursor.description or ()] == list(table.columns)
            assert len(cursor.fetchall()) == len(table)
