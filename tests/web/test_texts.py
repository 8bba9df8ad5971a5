"""The texts of the page: complete in every language, with every form that its counts need."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import service
from service.texts.templates import LANGUAGES

CLIENT = Path(service.__path__[0]) / "web" / "client"
FILES = CLIENT / "texts"

FORMS = {
    "en": ["one", "other"],
    "fr": ["one", "many", "other"],
    "es": ["one", "many", "other"],
    "ar": ["zero", "one", "two", "few", "many", "other"],
}
"""The plural forms that CLDR names for each language."""

WITHOUT_COUNT = {"zero", "one", "two"}
"""The forms that may say their number as a word."""

NAMES = re.compile("Throughline|JSON|Markdown")
"""What has the same name in every language."""

VARIABLE = re.compile(r"\{(\w+)\}")
CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069]")

each_language = pytest.mark.parametrize("language", LANGUAGES)


def bundle(language: str) -> dict[str, str | dict[str, str]]:
    content: dict[str, str | dict[str, str]] = json.loads((FILES / f"{language}.json").read_text())
    return content


def texts(language: str) -> Iterator[tuple[str, str]]:
    """Every text of a language, and every form of it."""
    for key, text in bundle(language).items():
        yield from ((key, each) for each in ([text] if isinstance(text, str) else text.values()))


def variables(text: str | dict[str, str]) -> set[str]:
    return set(VARIABLE.findall(text if isinstance(text, str) else text["other"]))


def test_there_is_a_file_for_each_language_of_the_service() -> None:
    assert {path.stem for path in FILES.iterdir()} == set(LANGUAGES) == set(FORMS)


@each_language
def test_each_file_has_the_same_keys_sorted_one_on_a_line(language: str) -> None:
    content = bundle(language)
    assert list(content) == sorted(bundle("en"))
    lines = [
        f"  {json.dumps(key)}: {json.dumps(content[key], ensure_ascii=False)}" for key in content
    ]
    assert (FILES / f"{language}.json").read_text() == "{\n" + ",\n".join(lines) + "\n}\n"


@each_language
def test_each_text_has_the_same_variables_in_every_language(language: str) -> None:
    english = bundle("en")
    for key, text in bundle(language).items():
        assert isinstance(text, str) == isinstance(english[key], str), key
        assert variables(text) == variables(english[key]), key


@each_language
def test_each_text_with_a_count_has_all_forms_of_its_language(language: str) -> None:
    for key, text in bundle(language).items():
        if isinstance(text, dict):
            assert list(text) == FORMS[language], key
            for form, each in text.items():
                assert form in WITHOUT_COUNT or "{count}" in each, (key, form)
                assert variables(each) | {"count"} == variables(text), (key, form)


@each_language
def test_each_text_is_one_clean_line(language: str) -> None:
    for key, text in texts(language):
        assert text == text.strip(), key
        assert text, key
        assert not re.search(r"\n|  ", text), key
        assert not CONTROLS.search(text), key
        assert not set("{}<>") & set(VARIABLE.sub("", text)), key
        assert not re.search(r"[^\D0-9]", text), key


def test_arabic_is_written_in_arabic_and_nothing_else_is() -> None:
    for key, text in texts("ar"):
        letters = [each for each in NAMES.sub("", VARIABLE.sub("", text)) if each.isalpha()]
        assert all("\u0600" <= letter <= "\u06ff" for letter in letters), key
    for language in ("en", "fr", "es"):
        assert not re.search("[\u0600-\u06ff]", "".join(text for _, text in texts(language)))
