"""The differences of two texts: they lead from one text to the other, in a bounded time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.texts import word_diff
from domain.texts.word_diff import Op, unified, word_ops

TEXTS = st.lists(st.sampled_from(["a", "b", "word", " ", "\n", "\n\n", "\t", "ا"])).map("".join)


@given(TEXTS, TEXTS)
def test_the_pieces_are_both_texts(old: str, new: str) -> None:
    ops = word_ops(old, new)
    assert "".join(each.text for each in ops if each.op != "insert") == old
    assert "".join(each.text for each in ops if each.op != "delete") == new
    assert all(each.text for each in ops)


@given(TEXTS, TEXTS)
def test_a_unified_diff_leads_from_one_text_to_the_other(old: str, new: str) -> None:
    diff = unified(old, new, "old", "new")
    assert bool(diff) == (old != new)
    assert applied(old, diff) == new


def applied(text: str, diff: str) -> str:
    """The text after the changes of a unified diff, as a patch program makes them."""
    old, new, at = text.split("\n"), list[str](), 0
    for line in diff.split("\n")[2:-1]:
        if begins := re.match(r"@@ -(\d+)(,0)?", line):
            start = int(begins[1]) - (begins[2] is None)
            new += old[at:start]
            at = start
        elif line[0] == "+":
            new.append(line[1:])
        else:
            assert old[at] == line[1:]
            new += [] if line[0] == "-" else [old[at]]
            at += 1
    return "\n".join((*new, *old[at:]))


def test_words_are_compared_and_not_letters() -> None:
    assert word_ops("Sell old bees", "Sell bold bees") == [
        Op("equal", "Sell "),
        Op("delete", "old "),
        Op("insert", "bold "),
        Op("equal", "bees"),
    ]


def test_a_unified_diff_has_headers_and_three_lines_around_a_change() -> None:
    lines = [str(n) for n in range(20)]
    changed = [*lines[:10], "ten", *lines[11:]]
    assert unified("\n".join(lines), "\n".join(changed), "version 1", "version 2").split("\n") == [
        "--- version 1",
        "+++ version 2",
        "@@ -8,7 +8,7 @@",
        *(" 7", " 8", " 9", "-10", "+ten", " 11", " 12", " 13"),
        "",
    ]


def work(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(word_diff, "MOST_WORK", most)


def test_texts_that_take_too_long_are_compared_by_lines_and_then_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = "a b c d\ne f g h", "b a d c\ne f g h"
    work(monkeypatch, 5)
    assert word_ops(old, new) == [
        Op("delete", "a b c d\n"),
        Op("insert", "b a d c\n"),
        Op("equal", "e f g h"),
    ]
    work(monkeypatch, 0)
    assert word_ops(old, new) == [Op("delete", old), Op("insert", new)]


def test_the_longest_texts_that_differ_everywhere_are_compared() -> None:
    ops = word_ops("a b " * 25_000, "b a " * 25_000)
    assert [each.op for each in ops] == ["delete", "insert"]
