"""Plain text: what people read where Markdown is not rendered."""

from datetime import UTC, datetime

from domain.texts import markdown, plain_text
from domain.texts.markdown import Entry

AT = datetime(2026, 11, 20, 10, tzinfo=UTC)


def test_marks_of_headings_facts_and_tasks_are_left_out() -> None:
    data = {
        "issue": {"description": "It is slow", "severity": "high"},
        "solution": {"changes": [{"file": "a.py", "changeType": "modify", "description": "x"}]},
    }
    text = plain_text.plain(markdown.reply("fix", data))
    assert text.splitlines() == [
        *("Issue", "", "It is slow", "", "Severity: high", "", "Solution", "", "Changes", ""),
        "- modify `a.py`: x",
    ]


def test_code_and_other_text_stay_as_they_are() -> None:
    text = "A * b\n```\n# comment\n**x** y\n```\n#tag and 2 ** 3 ** 2"
    assert plain_text.plain(text) == text


def test_an_entry_has_its_time_and_author_in_a_line() -> None:
    entry = Entry(who="User:\nada", at=AT, text="Hello\n")
    assert plain_text.heading(" Shop\n ") == "Shop\n"
    assert plain_text.heading("") == ""
    assert plain_text.said(entry) == "\n[2026-11-20 10:00:00 UTC] User: ada\nHello\n"
    assert plain_text.said(entry, "ar").startswith("\n\u200f[\u2068")
