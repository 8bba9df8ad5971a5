"""The words that docs/words.md retires name nothing in the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("domain", "projections", "scripts", "service")
ROW = re.compile(r"^\| `(\w+)` \| (.+) \|$", re.MULTILINE)
STATEMENT = re.compile(r"^-- (?:name|part): (\w+)$", re.MULTILINE)
CREATED = re.compile(r"\bcreate (?:or replace )?(?:function|table|view|index) (?:\w+\.)?(\w+)")


def retired() -> dict[str, str]:
    """The better word for each retired word."""
    _, table = (ROOT / "docs" / "words.md").read_text().split("| retired | say |\n")
    return dict(ROW.findall(table))


def words_in(name: str, words: dict[str, str]) -> set[str]:
    """The retired words in a name: a whole name, or a part of it between underscores."""
    return words.keys() & {name, *(part for part in name.split("_") if part.islower())}


def identifiers(text: str) -> Iterator[str]:
    """Every name that a module defines, imports or uses."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.Name(id=name) | ast.Attribute(attr=name):
                yield name
            case ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name.rpartition(".")[2]
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case _:
                pass


def sql_names(text: str) -> Iterator[str]:
    """The names of statements, and of the objects that they create."""
    yield from STATEMENT.findall(text)
    yield from CREATED.findall(text)


def names_in(path: Path) -> set[str]:
    read = sql_names if path.suffix == ".sql" else identifiers
    return {path.stem, *read(path.read_text())}


def sources() -> list[Path]:
    python = (path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    # A migration is never edited, and `schema.sql` is generated from the migrations.
    statements = (path for path in (ROOT / "sql").rglob("*.sql") if "migrations" not in path.parts)
    return [*python, *(path for path in statements if path.name != "schema.sql")]


def test_no_name_in_the_code_has_a_retired_word() -> None:
    words = retired()
    found = {
        f"{path.relative_to(ROOT)}: {name}: say {words[word]}"
        for path in sources()
        for name in names_in(path)
        for word in words_in(name, words)
    }
    assert sorted(found) == []


@pytest.mark.parametrize(
    "text",
    [
        "def tell(): ...",
        "async def _tell_all(): ...",
        "class Hub: ...",
        "told = 1",
        "f(is_told=1)",
        "x.let_go()",
        "def f(standing): ...",
        "from a.b import take",
        "import told",
        "try: ...\nexcept OSError as trouble: ...",
        "match x:\n    case held: ...",
        "f'{told}'",
    ],
)
def test_a_retired_word_is_found_in_every_kind_of_name(text: str) -> None:
    words = retired()
    assert any(words_in(name, words) for name in identifiers(text))


def test_a_retired_word_is_found_in_the_names_of_sql() -> None:
    words = retired()
    for text in ("-- name: hold\nselect 1", "create or replace function app.take_all() returns"):
        assert any(words_in(name, words) for name in sql_names(text))


@pytest.mark.parametrize(
    "text",
    ["class LimitReached: ...", "taken = 1", "'told'", "holder = threshold", "# hear, hear"],
)
def test_a_word_that_only_looks_like_a_retired_one_is_not_refused(text: str) -> None:
    words = retired()
    assert not any(words_in(name, words) for name in identifiers(text))


def test_every_retired_word_has_a_word_to_say_instead() -> None:
    words = retired()
    assert len(words) > 30
    assert not words.keys() & {
        part for say in words.values() for part in re.findall(r"`(\w+)`", say)
    }
