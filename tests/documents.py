"""The documents: README, changelog and the pages of docs/, with their parts."""

import re
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT: Final = Path(__file__).parent.parent
README: Final = ROOT / "README.md"
DOCS: Final = ROOT / "docs"
PAGES: Final = (README, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md")))


def code(page: Path, language: str) -> str:
    """The page's one block of code in a language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)
    return str(block)


def shell(page: Path) -> str:
    """The shell lines of a page in their order: `sh` and `bash` blocks, and lines with a prompt."""
    blocks = re.findall(r"^```(sh|bash|console)\n(.*?)^```$", page.read_text(), re.M | re.S)
    return "\n".join(text if kind != "console" else _prompted(text) for kind, text in blocks)


def _prompted(text: str) -> str:
    """The lines after a prompt, with the lines that continue them."""
    return "\n".join(re.findall(r"^\$ ((?:.*\\\n)*.*)$", text, re.M))


def rows(page: Path) -> list[list[str]]:
    """The cells of every table row of a page, heads included, as Markdown."""
    lines = re.findall(r"^\|(.+)\|$", page.read_text(), re.M)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def links(page: Path) -> list[str]:
    """The targets of a page's links."""
    return [
        str(child.attrs["href"])
        for token in _tokens(page)
        for child in token.children or ()
        if child.type == "link_open"
    ]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    tokens = _tokens(page)
    seen: Counter[str] = Counter()
    found: set[str] = set()
    for opening, heading in pairwise(tokens):
        if opening.type == "heading_open":
            slug = re.sub(r"[^\w\- ]", "", heading.content.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


@cache
def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())
