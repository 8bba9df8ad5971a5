"""Documents of replies, read again by a Markdown parser that had no part in how they were made."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import zip_longest
from time import perf_counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from domain.events import ReplyMode
from domain.replies.contracts import ATOMIC, CONTRACTS, check
from domain.replies.operations import fold
from domain.replies.parser import ReplyParser
from domain.texts.markdown import Entry, conversation, reply
from domain.texts.markdown_titles import titles_of

READER = MarkdownIt("commonmark").enable("table")

# what there is to write --------------------------------------------------------------------------

MARKS = st.text("#-+*>`~|[]<!=:\\ \n\r1.)_ax&/\u2028", max_size=12)
SNARES = st.sampled_from(
    [
        *(
            "# Heading",
            "Heading\n===",
            "a\n---",
            "---",
            "***",
            "- - -",
            "```",
            "```py\ncode",
            "~~~",
        ),
        *("<!--", "<!-- a -->", "<pre>", "</div>", "<script>", "<b>bold</b>", "List<int>", "`<b>`"),
        *("> quoted", "- item", "* item", "1. one", "1)", "+", "[a]: b", "[ ] task", "|", "a | b"),
        *("a \\| b", "\\", "a\\", "`", "a ` b", "`` ` ``", "&lt;", "C #", "C#", "#", "# #", "\t x"),
        *("    code", "\n\n# x", "x\n\n```\n", "\r# x", "C:\\Users", "**bold", "</pre>", "-->"),
    ]
)
LINES = MARKS | SNARES | st.text()

BLOCKS = st.sampled_from(
    [
        "Some words.",
        "Words over\ntwo lines, with `code`.",
        "## A heading",
        "# A heading\nand words",
        "A heading\n=========",
        "```python\ndef f():\n\n    # no heading\n    return 1\n```",
        "~~~\n```\n# no heading\n~~~",
        "````md\n```\ncode\n```\n````",
        "  ```\ncode\n  ```",
        "- one\n- two\n  - three",
        "1. Do this:\n   ```sh\n   make # no heading\n   ```\n2. Then that.",
        "- First:\n\n  ~~~\n  code\n  ~~~\n\n- Second.",
        "* ```\n  code\n  ```",
        "> A quotation\n> over two lines",
        "> ```\n> # no heading\n> ```",
        "| a | b |\n| --- | --- |\n| 1 | 2 |",
        "    indented = '```'",
        "<!-- a comment\n\n# no heading\n-->",
        "<pre>\na\n\n# no heading\n</pre>",
        "***",
        "An inline ```run``` of marks",
    ]
)


@st.composite
def proses(draw: st.DrawFn) -> str:
    """Markdown as models write it, whole or cut off."""
    text = "\n\n".join(draw(st.lists(BLOCKS, min_size=1, max_size=5)))
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


def contract(
    mode: ReplyMode, lines: st.SearchStrategy[str], prose: st.SearchStrategy[str]
) -> st.SearchStrategy[dict[str, Any]]:
    """Data of one contract; what one may leave out is sometimes left out."""

    def made(optional: dict[str, Any] | None = None, **needed: Any) -> st.SearchStrategy[Any]:
        return st.fixed_dictionaries(needed, optional=optional or {})

    def some(items: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(items, max_size=3)

    level, number = st.sampled_from(["low", "medium", "high"]), st.integers(-9, 99)
    step = made(
        order=number, title=lines, description=prose, files=some(lines), estimatedEffort=level
    )
    plan = made(
        {"alternatives": some(lines)},
        overview=prose,
        steps=some(step),
        dependencies=some(made({"version": lines}, name=lines, reason=lines)),
        risks=some(lines),
    )
    change = made(file=lines, changeType=st.just("create"), description=prose)
    finding = made(
        {"impact": lines, "recommendations": some(lines)},
        category=lines,
        title=lines,
        description=prose,
    )
    chart = made(
        type=st.just("chart"), title=lines, labels=some(lines), values=some(st.floats(0, 9))
    )
    shapes: dict[ReplyMode, st.SearchStrategy[Any]] = {
        "question": made(
            {
                "references": some(made(file=lines, line=number, snippet=lines)),
                "relatedTopics": some(lines),
            },
            answer=prose,
        ),
        "feature": made(
            {"buildPrompt": prose}, summary=prose, feasibility=st.just("simple"), plan=plan
        ),
        "fix": made(
            {"preventionTips": some(lines), "buildPrompt": prose},
            issue=made(description=prose, severity=level, category=lines),
            rootCause=prose,
            solution=made(approach=prose, changes=some(change), testingStrategy=prose),
        ),
        "analysis": made(
            {
                "metrics": some(made(name=lines, value=lines | st.floats(0, 9))),
                "visualizations": some(chart),
            },
            overview=prose,
            findings=some(finding),
        ),
        "general": made(markdown=prose),
        "improvement": made({"changes": some(lines)}, analysis=prose, improvedPrompt=prose),
    }
    return shapes[mode]


MODES = st.sampled_from(list(CONTRACTS))


def replies(
    lines: st.SearchStrategy[str], prose: st.SearchStrategy[str]
) -> st.SearchStrategy[tuple[ReplyMode, Any]]:
    return MODES.flatmap(lambda mode: st.tuples(st.just(mode), contract(mode, lines, prose)))


def cut(mode: ReplyMode, data: Any, share: float) -> Any:
    """What there is of the data when the reply ends early."""
    text = json.dumps({"intent": mode, "response": data})
    parser = ReplyParser()
    return fold(parser.feed(text[: round(len(text) * share)]))


# how it is read ----------------------------------------------------------------------------------


def top(tokens: list[Token]) -> Iterator[tuple[str, str]]:
    """The kind and the text of each block that is in no other."""
    for token, after in zip_longest(tokens, tokens[1:]):
        if token.level == 0 and token.nesting >= 0:
            yield token.tag, after.content if after and after.type == "inline" else token.content


def headings(document: str) -> list[tuple[str, str]]:
    return [each for each in top(READER.parse(document)) if re.fullmatch("h[1-6]", each[0])]


def leaves_nothing_open(document: str) -> bool:
    """What is written below it stands for itself."""
    return list(top(READER.parse(f"{document}\nThe end.")))[-1] == ("p", "The end.")


def squeezed(text: str) -> str:
    """The text without what may be changed in it: its white space, and what is escaped."""
    return "".join(text.replace("\\", "").split())


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)


# the laws ----------------------------------------------------------------------------------------


@given(replies(LINES, proses() | LINES), st.floats(0, 1) | st.just(1.0))
def test_every_text_of_a_reply_is_in_its_document(
    made: tuple[ReplyMode, Any], share: float
) -> None:
    mode, whole = made
    check(mode, whole)
    data = cut(mode, whole, share)
    document = squeezed(reply(mode, data))
    for text in texts(data):
        assert squeezed(text) in document


@given(replies(LINES, proses()), st.floats(0, 1) | st.just(1.0))
def test_a_document_leaves_nothing_open(made: tuple[ReplyMode, Any], share: float) -> None:
    mode, whole = made
    document = reply(mode, cut(mode, whole, share))
    assert leaves_nothing_open(document)
    assert document == "" or document.endswith("\n")
    assert not document.endswith("\n\n")


@given(
    MODES.flatmap(lambda mode: st.tuples(st.just(mode), contract(mode, LINES, st.just("Words."))))
)
def test_no_line_breaks_the_structure(made: tuple[ReplyMode, Any]) -> None:
    """Whatever stands in the lines, the document has the blocks that it has with plain words."""
    mode, data = made
    tags = [tag for tag, _ in top(READER.parse(reply(mode, data)))]
    plain = [tag for tag, _ in top(READER.parse(reply(mode, plainly(data))))]
    assert tags == plain


def plainly(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: plainly(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [plainly(item, name) for item in value]
    if not isinstance(value, str) or name in ATOMIC:
        return value
    if name == "snippet" and "\n" in value.replace("\r", "\n").strip("\n"):
        return "two\nlines" if value.strip() else ""
    return "word" if value.strip() else ""


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | LINES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NAMES = (
    *("answer", "references", "file", "line", "snippet", "relatedTopics", "summary", "plan"),
    *("overview", "steps", "order", "title", "files", "dependencies", "name", "risks", "issue"),
    *("description", "solution", "changes", "findings", "recommendations", "metrics", "value"),
    *("visualizations", "labels", "values", "markdown", "buildPrompt", "rootCause"),
)
MISSHAPEN = st.recursive(
    ANYTHING,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=20,
)


@given(MODES, MISSHAPEN)
def test_any_data_makes_a_document(mode: ReplyMode, data: Any) -> None:
    assert isinstance(reply(mode, data), str)


@pytest.mark.parametrize("mode", CONTRACTS)
@pytest.mark.parametrize("data", [None, {}, [], "", 0])
def test_empty_data_makes_an_empty_document(mode: ReplyMode, data: Any) -> None:
    assert reply(mode, data) == ""


# how each looks ----------------------------------------------------------------------------------


def test_an_answer_to_a_question_comes_with_its_references() -> None:
    data = {
        "answer": "It is in `users.py`.\n\n- So.",
        "references": [
            {"file": "users.py", "line": 7, "snippet": "    class User:"},
            {"file": "a.py", "line": 1, "snippet": "def f():\n    return ```"},
        ],
        "relatedTopics": ["Sessions", "# Keys"],
    }
    assert reply("question", data) == (
        "It is in `users.py`.\n\n- So.\n\n"
        "## References\n\n"
        "- `users.py:7`: `class User:`\n"
        "- `a.py:1`\n\n  ````\n  def f():\n      return ```\n  ````\n\n"
        "## Related topics\n\n- Sessions\n- \\# Keys\n"
    )


def test_a_feature_s_steps_are_numbered_and_name_their_files_and_effort() -> None:
    data = {
        "summary": "A search field.",
        "feasibility": "simple",
        "plan": {
            "overview": "One route.",
            "steps": [
                {
                    "order": 1,
                    "title": "Route",
                    "description": "Add it.",
                    "files": ["a.py", "b.py"],
                    "estimatedEffort": "low",
                },
                {"title": "Query"},
            ],
            "dependencies": [{"name": "orjson", "version": "3.10", "reason": "Speed."}],
            "risks": ["Slow."],
        },
        "buildPrompt": "Build it.",
    }
    assert reply("feature", data) == (
        "A search field.\n\n**Feasibility:** simple\n\n"
        "## Overview\n\nOne route.\n\n"
        "## Steps\n\n"
        "### 1. Route\n\nAdd it.\n\n**Files:** `a.py`, `b.py`\n\n**Effort:** low\n\n"
        "### 2. Query\n\n"
        "## Dependencies\n\n- `orjson` `3.10`: Speed.\n\n"
        "## Risks\n\n- Slow.\n\n"
        "## Build prompt\n\n```\nBuild it.\n```\n"
    )


def test_a_fix_s_changes_can_be_ticked_off() -> None:
    data = {
        "issue": {"description": "It fails.", "severity": "high", "category": "runtime"},
        "rootCause": "A race.",
        "solution": {
            "approach": "A lock.",
            "changes": [
                {"file": "a.py", "changeType": "modify", "description": "Lock it."},
                {"file": "b.py", "changeType": "create", "description": "So:\n```\nx"},
            ],
            "testingStrategy": "Run two.",
        },
        "preventionTips": ["Fewer threads."],
    }
    assert reply("fix", data) == (
        "## Issue\n\nIt fails.\n\n**Severity:** high\n\n**Category:** runtime\n\n"
        "## Root cause\n\nA race.\n\n"
        "## Solution\n\nA lock.\n\n"
        "### Changes\n\n- [ ] modify `a.py`: Lock it.\n"
        "- [ ] create `b.py`\n\n  So:\n  ```\n  x\n  ```\n\n"
        "### Testing\n\nRun two.\n\n"
        "## Prevention\n\n- Fewer threads.\n"
    )


def test_an_analysis_shows_its_numbers_in_tables() -> None:
    data = {
        "overview": "Sound.",
        "findings": [
            {
                "category": "speed",
                "title": "Slow start",
                "description": "It imports all.",
                "impact": "A second.",
                "recommendations": ["Import late."],
            }
        ],
        "metrics": [{"name": "a | b", "value": 12}, {"name": "style", "value": "calm"}],
        "visualizations": [
            {"type": "chart", "title": "Sizes", "labels": ["a", "b"], "values": [1, 2.5]}
        ],
    }
    assert reply("analysis", data) == (
        "Sound.\n\n## Findings\n\n"
        "### Slow start\n\nIt imports all.\n\n**Category:** speed\n\n**Impact:** A second.\n\n"
        "#### Recommendations\n\n- [ ] Import late.\n\n"
        "## Metrics\n\n| Name | Value |\n| --- | --- |\n| a \\| b | 12 |\n| style | calm |\n\n"
        "## Visualizations\n\n### Sizes\n\n**Type:** chart\n\n"
        "| Label | Value |\n| --- | --- |\n| a | 1 |\n| b | 2.5 |\n"
    )


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("Words", ""),
        ("```py\ncode", "```"),
        ("```py\ncode\n```", ""),
        ("````\n```", "````"),
        ("~~~\n```", "~~~"),
        ("1. So:\n   ```\n   code", "   ```"),
        ("- ```\n  code", "  ```"),
        ("> ```\n> code", "> ```"),
        ("- ```\n  code\n\nWords", ""),
        ("> ```\n> code\nWords", ""),
        ("Words\n\n    ```", ""),
        ("``` in a `line`", ""),
        ("<!-- a\n\nb", "-->"),
        ("<PRE>\n\nb", "</pre>"),
        ("<!-- a --> b", ""),
        ("```\n<!--\n```", ""),
        ("<!--\n```\n-->", ""),
        ("- one\n\n  ```\ncode\n  ```\n\nWords", "  ```"),
        ("1. one\n\n  ```\ncode", "  ```"),
        ("1. one\n\n   ```\n   code\n   ```\n\n   Words", ""),
        ("- - -\n\n  ```\ncode", "  ```"),
        ("- one\n  - two\n\n    ```\n    code", "    ```"),
        ("- one\n\n\t```\n\tcode", "\t```"),
    ],
)
def test_prose_stays_as_it_is_and_what_it_leaves_open_is_closed(text: str, end: str) -> None:
    assert reply("general", {"markdown": text}) == "\n".join(filter(None, (text, end))) + "\n"
    assert leaves_nothing_open(reply("general", {"markdown": text}))


def test_tags_in_a_line_are_shown_and_code_stays_code() -> None:
    data = {"relatedTopics": ["List<int> and `Map<K>`", "<b>", "a < b"]}
    assert reply("question", data).splitlines()[2:] == [
        "- List\\<int> and `Map<K>`",
        "- \\<b>",
        "- a < b",
    ]


@pytest.mark.parametrize(
    "unit", ["`", "~", "- ", "> ", " ", "#", "<", "`a``", "|", "\\", "1. ", "\n"]
)
def test_a_document_of_any_text_costs_little(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    begun = perf_counter()
    reply("general", {"markdown": text})
    reply("question", {"relatedTopics": [text], "references": [{"file": text, "snippet": text}]})
    reply("analysis", {"metrics": [{"name": text, "value": text}]})
    conversation(text, [Entry(who=text, at=AT, text=text)])
    assert perf_counter() - begun < 5


# conversations -----------------------------------------------------------------------------------

AT = datetime(2026, 11, 21, 8, 30, 5, tzinfo=UTC)


def test_a_conversation_has_the_author_and_time_of_each_entry() -> None:
    later = AT.astimezone(timezone(timedelta(hours=2))) + timedelta(minutes=1)
    entries = [
        Entry(who="amina", at=AT, text="How does it work?"),
        Entry(who="Throughline", at=later, text="## Answer\n\n```\n# code\n```\n\nSo\n---\n"),
    ]
    assert conversation("Shop", entries) == (
        "# Shop\n\n"
        "## amina (2026-11-21 08:30:05 UTC)\n\nHow does it work?\n\n"
        "## Throughline (2026-11-21 08:31:05 UTC)\n\n"
        "#### Answer\n\n```\n# code\n```\n\nSo\n\\---\n"
    )


def test_a_conversation_may_be_empty() -> None:
    assert conversation("Shop", []) == "# Shop\n"
    assert conversation("", []) == ""


@given(LINES, st.lists(st.tuples(LINES, proses()), max_size=4))
@example("Shop", [("a", "Shop\n==\n\n# b"), ("# b", "```\n# c"), ("c", "###### d\n\n    # e")])
def test_no_text_looks_like_another_entry(title: str, said: list[tuple[str, str]]) -> None:
    entries = [Entry(who=who, at=AT, text=text) for who, text in said]
    document = conversation(title, entries)
    found = headings(document)
    assert [tag for tag, _ in found if tag in ("h1", "h2")] == [
        *(["h1"] if title.strip() else []),
        *["h2"] * len(said),
    ]
    assert all("08:30:05 UTC)" in text for tag, text in found if tag == "h2")
    assert leaves_nothing_open(document)


# the reader's language ---------------------------------------------------------------------------

FIX: dict[str, Any] = {
    "issue": {"description": "It breaks.", "severity": "high", "category": "logic"},
    "rootCause": "A typo",
    "solution": {
        "approach": "Mend it.",
        "changes": [{"file": "src/a.py", "changeType": "modify", "description": "Mend"}],
        "testingStrategy": "Run it.",
    },
}


def titles_in(text: str) -> list[str]:
    return [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]


@pytest.mark.parametrize(
    ("locale", "expected", "severity"),
    [
        ("en", ["Issue", "Root cause", "Solution", "Changes", "Testing"], "**Severity:** high"),
        (
            "fr-CA",
            ["Problème", "Cause", "Solution", "Modifications", "Tests"],
            "**Gravité :** élevé",
        ),
        ("es", ["Problema", "Causa", "Solución", "Cambios", "Pruebas"], "**Gravedad:** alto"),
        (
            "ar-EG",
            ["المشكلة", "السبب الجذري", "الحل", "التغييرات", "الاختبار"],
            "**الخطورة:** مرتفع",
        ),
        ("xx", ["Issue", "Root cause", "Solution", "Changes", "Testing"], "**Severity:** high"),
    ],
)
def test_headings_are_in_the_reader_s_language(
    locale: str, expected: list[str], severity: str
) -> None:
    text = reply("fix", FIX, locale)
    assert titles_in(text) == expected
    assert severity in text.splitlines()


def test_what_is_latin_keeps_its_direction_in_arabic_and_nowhere_else() -> None:
    assert "- [ ] تعديل \u2068`src/a.py`\u2069: Mend" in reply("fix", FIX, "ar").splitlines()
    answer = {"answer": "x", "references": [{"file": "a.py", "line": 1, "snippet": "b"}]}
    shown = reply("question", answer, "ar").splitlines()
    assert "- \u200f\u2068`a.py:1`\u2069: \u2068`b`\u2069" in shown
    entry = Entry(who="ada", at=datetime(2026, 1, 2, tzinfo=UTC), text="x")
    title = titles_in(conversation("Shop", [entry], "ar"))[1]
    assert title == "\u200f\u2068ada\u2069 (\u20682026-01-02 00:00:00 UTC\u2069)"
    for locale in ("en", "fr", "es"):
        assert not re.search("[\u200f\u2066-\u2069]", reply("fix", FIX, locale))


@given(replies(LINES, proses()), st.sampled_from(["fr", "es", "ar"]))
def test_a_document_has_the_same_form_in_every_language(
    document: tuple[ReplyMode, Any], locale: str
) -> None:
    mode, data = document
    forms = [
        [token.type for token in READER.parse(reply(mode, data, each))] for each in ("en", locale)
    ]
    assert forms[0] == forms[1]


@pytest.mark.parametrize("locale", ["fr", "es", "ar"])
def test_every_word_is_translated(locale: str) -> None:
    words = titles_of(locale).words
    assert all(words.values())
    assert words.keys() == titles_of("fr").words.keys()
