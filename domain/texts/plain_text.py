"""Replies and conversations as plain text: Markdown without the marks of its headings and lists.

The text of a model stays as it is, except for headings. Code stays as it is too.
"""

import re
from datetime import UTC
from typing import Final

from domain.texts.markdown import Entry
from domain.texts.markdown_reader import MarkdownReader
from domain.texts.markdown_titles import titles_of

_HEADING: Final = re.compile(r" {0,3}#{1,6}[ \t]+")
_FACT: Final = re.compile(r"^\*\*([^*]+:)\*\* ")
_BOX: Final = re.compile(r"(\s*- )\[ \] ")


def plain(markdown: str) -> str:
    """The Markdown as a text for people: without marks of headings, facts and tasks."""
    reader = MarkdownReader()
    return "\n".join(
        line if reader.is_code(line) else _plain(line) for line in markdown.split("\n")
    )


def _plain(line: str) -> str:
    return _BOX.sub(r"\1", _FACT.sub(r"\1 ", _HEADING.sub("", line, count=1), count=1))


def heading(title: str) -> str:
    """The beginning of a conversation: its title in a line, nothing for an empty title."""
    line = " ".join(title.split())
    return f"{line}\n" if line else ""


def said(entry: Entry, locale: str = "en") -> str:
    """An entry of a conversation: its time (UTC) and author in a line, then its text."""
    titles = titles_of(locale)
    at = entry.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    who = titles.apart(" ".join(entry.who.split()))
    text = plain(entry.text).strip("\n")
    return f"\n{titles.mark}[{titles.apart(at)}] {who}\n{text}\n"
