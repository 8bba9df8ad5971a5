"""The files and lines that a reply names, against a project's source."""

import json
from pathlib import Path
from typing import Any

import pytest

from domain.events import ChatMode
from domain.replies.operations import Operation, fold
from domain.replies.parser import ReplyParser
from service.chat.references import References
from service.source.jail import Sources


async def checked(folder: Path, intent: ChatMode, response: Any, size: int = 3) -> tuple[Any, int]:
    """What is shown of a reply that comes in pieces, and how many entries were left out."""
    source = Sources(folder).of("t1", "shop")
    assert source is not None

    async def contains(file: str, line: int, snippet: str) -> bool:
        return source.holds(file, line, snippet)

    async def exists(path: str) -> bool:
        return source.has(path)

    references, parser, shown = References(contains, exists), ReplyParser(), list[Operation]()
    text = json.dumps({"intent": intent, "response": response})
    for n in range(0, len(text), size):
        shown += await references.pass_on(intent, parser.feed(text[n : n + size]))
    shown += await references.pass_on(intent, parser.close())
    shown += await references.close()
    return fold(shown), references.left_out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "t1" / "shop"
    (root / "src").mkdir(parents=True)
    (root / "src" / "app.py").write_text("tea = 1\n")
    (root / "link.py").symlink_to(root / "src" / "app.py")
    return tmp_path


def plan(*steps: dict[str, Any]) -> Any:
    return {"summary": "s", "plan": {"overview": "o", "steps": list(steps)}}


def step(*files: str, new: tuple[str, ...] = ()) -> dict[str, Any]:
    """A step. `newFiles` comes last, as the provider writes optional members."""
    made: dict[str, Any] = {"title": "t", "files": list(files), "estimatedEffort": "low"}
    return made | ({"newFiles": list(new)} if new else {})


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_a_step_names_files_that_are_there_or_that_the_plan_creates(
    folder: Path, size: int
) -> None:
    written = plan(
        step("src/app.py", "src/gone.py", "src/new.py", "src", new=("src/new.py",)),
        step("gone.py", "src/new.py", "../t2/x.py", "link.py", ".env"),
    )
    shown, left_out = await checked(folder, "feature", written, size)
    assert shown == plan(
        step("src/app.py", "src/new.py", "src", new=("src/new.py",)), step("src/new.py", ".env")
    )
    assert left_out == 4


def change(file: str, kind: str) -> dict[str, Any]:
    return {"file": file, "changeType": kind, "description": "d"}


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_a_fix_changes_files_that_are_there_or_that_it_creates(
    folder: Path, size: int
) -> None:
    good = [change("src/app.py", "modify"), change("new.py", "create"), change("new.py", "modify")]
    bad = [change("gone.py", "delete"), change("later.py", "modify")]
    written = {"solution": {"approach": "a", "changes": [bad[0], *good, bad[1]]}, "rootCause": "r"}
    shown, left_out = await checked(folder, "fix", written, size)
    assert shown == {"solution": {"approach": "a", "changes": good}, "rootCause": "r"}
    assert left_out == 2


async def test_an_entry_that_breaks_the_contract_is_left_to_the_contract(folder: Path) -> None:
    broken = {"solution": {"changes": [7, {"file": "gone.py"}]}}
    assert await checked(folder, "fix", broken) == (broken, 0)
