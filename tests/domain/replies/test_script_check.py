"""Whether a reply is in Arabic: what counts, when it is decided, and that no cut changes it."""

from time import perf_counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.replies.contracts import ATOMIC, MAIN_TEXT, NAMES
from domain.replies.script_check import (
    DECIDING_LETTERS,
    FEWEST_LETTERS,
    PROSE,
    READ_LIMIT,
    REMINDER,
    ScriptCheck,
    is_prose,
)

ENGLISH = "The module reads the file and checks each value before it is stored. "
ARABIC = "تقرأ هذه الوحدة الملف وتتحقق من كل قيمة قبل أن تُحفظ في قاعدة البيانات. "


def read(*pieces: str, language: str = "ar") -> ScriptCheck:
    check = ScriptCheck(language)
    for piece in pieces:
        check.feed(piece)
    return check


def verdicts(*pieces: str) -> tuple[bool, bool]:
    check = read(*pieces)
    return check.is_wrong, check.is_wrong_at_end()


# what is decided, and when -----------------------------------------------------------------------


def test_arabic_is_right_and_english_is_wrong() -> None:
    assert verdicts(ARABIC * 10) == (False, False)
    assert verdicts(ENGLISH * 10) == (True, True)
    assert verdicts("Le module lit le fichier et vérifie chaque valeur. " * 10) == (True, True)
    assert verdicts("该模块读取文件并检查每个值。" * 40) == (True, True)


@pytest.mark.parametrize("language", ["en", "fr", "es", "he", ""])
def test_no_other_language_is_looked_for(language: str) -> None:
    check = read(ARABIC * 10, ENGLISH * 10, language=language)
    assert not check.is_wrong
    assert not check.is_wrong_at_end()


def test_the_verdict_comes_with_the_two_hundredth_letter() -> None:
    check = read("word " * (DECIDING_LETTERS // 4 - 1), "wor")
    assert not check.is_wrong
    check.feed("d")
    assert not check.is_wrong, "the word may turn out to be a name"
    check.feed(" ")
    assert check.is_wrong


def test_a_verdict_stays() -> None:
    assert verdicts(ENGLISH * 5, ARABIC * 50) == (True, True)
    assert verdicts(ARABIC * 5, ENGLISH * 50) == (False, False)


@pytest.mark.parametrize(("arabic", "is_wrong"), [(59, True), (60, False)])
def test_thirty_percent_are_enough(arabic: int, is_wrong: bool) -> None:
    letters = DECIDING_LETTERS - arabic
    text = " ".join(["ب" * arabic, "a" * letters, ""])
    assert verdicts(text) == (is_wrong, is_wrong)


@pytest.mark.parametrize("letter", ["\u0620", "\u0750", "\u08a0", "\ufb50", "\ufefc"])
def test_each_block_of_the_script_counts(letter: str) -> None:
    assert not read(f"{letter * 40} " * 10).is_wrong


def test_a_short_reply_is_judged_at_its_end() -> None:
    assert verdicts("x" * FEWEST_LETTERS) == (False, True)
    assert verdicts("x" * (FEWEST_LETTERS - 1)) == (False, False)
    assert verdicts("ب" * FEWEST_LETTERS) == (False, False)
    assert verdicts("") == (False, False)


def test_to_ask_for_the_end_ends_nothing() -> None:
    check = read("An open `span and a wo")
    assert check.is_wrong_at_end() == check.is_wrong_at_end()
    check.feed("rd` " + ARABIC)
    assert not check.is_wrong_at_end()


def test_numbers_and_marks_are_no_letters() -> None:
    assert verdicts("12 345 -- !? … 67% ٣٤٥ 🙂 " * 100) == (False, False)


# text that does not count ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "`return the value`",
        "``a ` in the span``",
        "```python\nfor each in the_list:\n    print('all of it')\n```\n",
        "~~~\nsome words that are code\n~~~\n",
        "````\n```\nstill inside of it\n```\n````\n",
        "- ```\n  inside of an item\n  ```\n",
        "1. ~~~\n   inside of an item\n   ~~~\n",
        "```one line of it```\n",
        "https://example.com/a/long/way?to=go#there",
        "(https://example.com/docs)",
        "[ن](docs/reading-of-values.md)",
        "src/app.py",
        "src/app.py:12",
        "../up/one",
        "C:\\Users\\me",
        "foo_bar",
        "fooBar",
        "API_KEY",
        "__init__",
        "os.path.join",
        "std::vector",
        "me@example.com",
        "وsrc/app.py",
        '"foo_bar",',
        "**foo_bar**",
    ],
)
def test_code_and_names_are_left_out(code: str) -> None:
    assert verdicts(f"\n{code} " * 60) == (False, False)
    assert verdicts(f"ب ب\n{code} " * 60) == (False, False)


@pytest.mark.parametrize("text", ["(words)", "well-known", "Words,", "**bold**", "It's", "U.S.A"])
def test_words_are_counted_whatever_stands_around_them(text: str) -> None:
    assert read(f"{text} " * 3 + ENGLISH * 5).is_wrong
    assert (read(f"{text} " * 100).is_wrong) is (text != "U.S.A")


def test_arabic_that_is_attached_to_a_name_counts() -> None:
    assert verdicts("ENGLISH " * 8 + "المستودعات:src/app.py،والملفات " * 8) == (False, False)


def test_a_backtick_alone_hides_nothing() -> None:
    assert read("a ` b\n\n" + ENGLISH * 5).is_wrong
    assert verdicts("a ` " + ENGLISH) == (False, True)
    assert read("a ` b ", ENGLISH * 5).is_wrong_at_end()


def test_a_span_ends_where_its_own_run_comes_again() -> None:
    assert verdicts("`a`` " + ENGLISH * 9 + "` ") == (False, False)
    assert verdicts("``a` " + ENGLISH * 9 + "`` ") == (False, False)


def test_a_fence_goes_on_over_empty_lines_until_one_as_long() -> None:
    inside = f"```\n\n{ENGLISH * 5}\n\n``\n~~~\n a ``` b\n{ENGLISH}"
    assert verdicts(inside) == (False, False)
    assert verdicts(f"{inside}\n  ```\n{ENGLISH * 5}") == (True, True)


# however it is cut -------------------------------------------------------------------------------

PIECES = st.lists(
    st.sampled_from(
        [
            *(
                " ",
                "\n",
                "\n\n",
                "`",
                "``",
                "```",
                "\n```",
                "~~~",
                "\n~~~",
                "> ",
                "- ",
                "1. ",
                "\r",
            ),
            *("src/app.py", "foo_bar", "fooBar", "https://example.com/a", ".", "/", "_", "a.b"),
            *("word", "word " * 20, "كلمة", "كلمة " * 20, "مع", "x" * 490, "`" * 499, ENGLISH),
        ]
    )
    | st.text(max_size=8),
    max_size=40,
)


@given(PIECES, st.lists(st.integers(1, 60), min_size=1))
@example([ENGLISH * 400], [7])
@example(["x" * READ_LIMIT, ENGLISH], [499])
@example(["`", ENGLISH * 400], [1])
def test_no_cut_changes_the_verdict(parts: list[str], sizes: list[int]) -> None:
    text = "".join(parts)
    check, cut, position = ScriptCheck("ar"), 0, 0
    while position < len(text):
        size = sizes[cut % len(sizes)]
        check.feed(text[position : position + size])
        cut, position = cut + 1, position + size
        if len(text) <= 500:
            assert check.is_wrong == read(text[:position]).is_wrong
    assert (check.is_wrong, check.is_wrong_at_end()) == verdicts(text)


# its bounds --------------------------------------------------------------------------------------


def test_the_check_ends_without_a_verdict_after_a_long_text() -> None:
    assert verdicts("12 " * (READ_LIMIT // 3 + 1), ENGLISH * 10) == (False, False)
    assert verdicts("12 " * (READ_LIMIT // 3 - 150), ENGLISH * 10) == (True, True)


@pytest.mark.parametrize("unit", ["x", "`", "a_", "`a", "~", "a ` ", "/", "\n", "```\n"])
def test_the_check_of_any_text_costs_little(unit: str) -> None:
    check = ScriptCheck("ar")
    begun = perf_counter()
    for character in unit * (100_000 // len(unit)):
        check.feed(character)
    assert perf_counter() - begun < 5


# where prose stands ------------------------------------------------------------------------------

NO_PROSE = {
    *("file", "files", "line", "snippet", "name", "version", "labels", "value", "values"),
    *("category", "order", "references", "plan", "steps", "dependencies", "issue", "solution"),
    *("improvedPrompt", "findings", "metrics", "visualizations", "newFiles"),
}


def test_every_name_in_the_contracts_is_known_as_prose_or_not() -> None:
    assert PROSE | NO_PROSE | ATOMIC == NAMES
    assert len(PROSE) + len(NO_PROSE) + len(ATOMIC) == len(NAMES)


@pytest.mark.parametrize(
    "path",
    [
        *MAIN_TEXT.values(),
        "/relatedTopics/3",
        "/plan/steps/0/title",
        "/plan/risks/12",
        "/findings/0/recommendations/1",
    ],
)
def test_prose_stands_here(path: str) -> None:
    assert is_prose(path)


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/0", "/unknown", "/plan", "/plan/steps/0", "/plan/steps/0/files/1"),
        *("/references/0/snippet", "/metrics/0/name", "/metrics/0/value", "/findings/0/category"),
        *("/visualizations/0/labels/2", "/issue/severity", "/feasibility"),
    ],
)
def test_no_prose_stands_here(path: str) -> None:
    assert not is_prose(path)


def test_the_reminder_is_one_paragraph() -> None:
    assert "\n\n" not in REMINDER
    assert REMINDER.strip() == REMINDER
    assert "Arabic" in REMINDER
