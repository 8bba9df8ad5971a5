"""Script and style as a browser gets them: small, and the same as their sources."""

import json
import subprocess
from pathlib import Path
from typing import Final

from scripts.bench.page import all_parts
from service.web import static
from tests.web.runtimes import CLIENT, NODE

TOKENS: Final = Path(__file__).parent / "node" / "tokens.js"


def scripts() -> list[str]:
    return [path for path in static.FILES if path.endswith(".js")]


def test_each_script_is_served_with_the_tokens_and_lines_of_its_source() -> None:
    pairs = [
        [(CLIENT / path).read_text(), static.FILES[path].content.decode()] for path in scripts()
    ]
    read = subprocess.run([NODE, TOKENS], input=json.dumps(pairs), capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    differences = dict(zip(scripts(), json.loads(read.stdout), strict=True))
    assert {path: each for path, each in differences.items() if each is not None} == {}


def test_no_comment_and_no_indentation_is_served() -> None:
    for path, file in static.FILES.items():
        if path.endswith((".css", ".js")):
            lines = file.content.decode().splitlines()
            assert [each for each in lines if each != each.strip() or each.startswith("//")] == []
            assert b"/*" not in file.content, path


def test_script_and_style_of_the_page_stay_small() -> None:
    """In bytes without compression: to begin a conversation, and with all that can be opened."""
    first = [*static.modules_of(static.FILES), "page.css"]
    assert sum(len(static.FILES[path].content) for path in first) <= 150_000
    assert all_parts() <= 240_000
