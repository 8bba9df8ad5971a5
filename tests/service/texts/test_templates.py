"""The texts of the service: complete in every language, and safe for any value of a variable."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import service
from domain import errors
from domain.errors import Refused
from domain.events import CancelReason
from service.replies.envelope import ActionType
from service.texts.templates import (
    CONTRACT_VERSION,
    FIRST_STRONG_ISOLATE,
    LANGUAGES,
    POP_ISOLATE,
    bundle,
    language_of,
    render,
)

SOURCE = Path(service.__path__[0])
FILES = SOURCE / "texts" / "bundles"

VARIABLE = re.compile(r"\{(\w+)\}")
WORD = re.compile(r"[a-z]+(_[a-z]+)*")
CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069]")

each_language = pytest.mark.parametrize("language", LANGUAGES)


def variables(text: str) -> set[str]:
    return set(VARIABLE.findall(text))


def isolated(text: str) -> str:
    return f"\u2068{text}\u2069"


# the bundles -------------------------------------------------------------------------------------


@each_language
def test_each_bundle_has_the_same_keys_in_the_same_order(language: str) -> None:
    assert list(bundle(language)) == list(bundle("en"))


@each_language
def test_each_text_has_the_same_variables_in_every_language(language: str) -> None:
    for key, text in bundle(language).items():
        assert variables(text) == variables(bundle("en")[key]), key
        assert len(VARIABLE.findall(text)) == len(variables(text)), key


@each_language
def test_each_text_is_one_clean_line(language: str) -> None:
    for key, text in bundle(language).items():
        assert text, key
        assert text == " ".join(text.split(" ")).strip(), key
        assert "\n" not in text, key
        assert "  " not in text, key
        assert not CONTROLS.search(text), key
        assert not set("{}") & set(VARIABLE.sub("", text)), key


@each_language
def test_digits_are_western(language: str) -> None:
    for key, text in bundle(language).items():
        assert not re.search(r"[^\D0-9]", text), key


def test_arabic_is_written_in_arabic_and_nothing_else_is() -> None:
    for key, text in bundle("ar").items():
        letters = [letter for letter in VARIABLE.sub("", text) if letter.isalpha()]
        assert letters, key
        assert all("\u0600" <= letter <= "\u06ff" for letter in letters), key
    for language in ("en", "fr", "es"):
        assert not re.search("[\u0600-\u06ff]", "".join(bundle(language).values()))


@each_language
def test_every_text_is_translated(language: str) -> None:
    if language != "en":
        assert not set(bundle(language).values()) & set(bundle("en").values())


@each_language
def test_no_text_stands_for_two_messages(language: str) -> None:
    assert len(set(bundle(language).values())) == len(bundle(language))


@each_language
def test_the_served_bundles_equal_the_files(language: str) -> None:
    text = (FILES / f"{language}.json").read_text(encoding="utf-8")
    served = {"contractVersion": CONTRACT_VERSION, "templates": dict(bundle(language))}
    assert text == json.dumps(served, ensure_ascii=False, indent=2) + "\n"


def test_there_is_a_file_for_each_language() -> None:
    assert {path.stem for path in FILES.iterdir()} == set(LANGUAGES)


def test_a_bundle_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        bundle("en")["queued"] = ""  # type: ignore[index]
    assert bundle("en") is bundle("en-GB")


@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        *(("en", "en"), ("fr", "fr"), ("es-MX", "es"), ("ar-EG", "ar"), ("AR", "ar")),
        *(("fr_CA", "fr"), ("pt-BR", "en"), ("arq", "en"), ("", "en"), ("../ar", "en")),
    ],
)
def test_a_locale_selects_a_supported_language(locale: str, expected: str) -> None:
    assert language_of(locale) == expected


# every code of the service has a text ------------------------------------------------------------


def refusals() -> list[type[Refused]]:
    """The refusals of the domain and the service: not the base classes, and not those of tests."""
    found = list(Refused.__subclasses__())
    for each in found:
        found += each.__subclasses__()
    return [each for each in found if each.__module__ == errors.__name__ and "code" in vars(each)]


@each_language
@pytest.mark.parametrize("refusal", refusals(), ids=lambda refusal: refusal.__name__)
def test_every_refusal_has_a_text_with_its_fields(refusal: type[Refused], language: str) -> None:
    assert variables(bundle(language)[refusal.code]) == {field.name for field in fields(refusal)}


def trees() -> list[ast.Module]:
    return [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))]


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the service, with the last part of the name of its function."""
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func).rpartition(".")[2], node


def constants() -> dict[str, str]:
    """The string constants at the top of the service's modules."""
    named = [
        (ast.unparse(line.target), line.value)
        for tree in trees()
        for line in tree.body
        if isinstance(line, ast.AnnAssign)
    ]
    return {
        name: value.value
        for name, value in named
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }


def words(node: ast.expr | None, named: Mapping[str, str] = MappingProxyType({})) -> set[str]:
    """The possible strings of an expression, from its literals and named constants."""
    match node:
        case ast.Constant(value=str(word)) if WORD.fullmatch(word):
            return {word}
        case ast.Name(id=name) if name in named:
            return {named[name]}
        case ast.BoolOp(values=parts):
            return {word for part in parts for word in words(part, named)}
        case _:
            return set()


def argument(call: ast.Call, place: int, name: str) -> ast.expr | None:
    """The argument of a call at this place or of this name."""
    given_by_name = [each.value for each in call.keywords if each.arg == name]
    return call.args[place] if place < len(call.args) else next(iter(given_by_name), None)


ENDINGS = {
    "ModelError": (1, "code"),
    "cut": (0, "reason"),
    "stop": (0, "reason"),
    "finish": (1, "reason"),
    "_end": (1, "reason"),
    "Ending": (9, "reason"),
    "ReplyFailed": (9, "code"),
}
"""The calls that have the reason of a reply's end, and the place of that argument."""


def ending_codes() -> set[str]:
    """The reasons of unsuccessful ends of replies, from the source."""
    found, named = {*get_args(CancelReason), "time_limit"}, constants()
    for name, call in calls():
        if name in ENDINGS:
            found |= words(argument(call, *ENDINGS[name]), named)
    # This reason is chosen before the call.
    planner = (SOURCE / "model/client.py").read_text(encoding="utf-8")
    return found | set(re.findall(r'"(provider_\w+)"', planner))


def notices() -> set[str]:
    """The codes of the notices during a reply, from the source."""
    return {
        word
        for name, call in calls()
        if name == "notice"
        for word in words(argument(call, 0, "code"))
    }


def test_every_end_of_a_reply_has_a_text_without_variables() -> None:
    codes = ending_codes()
    assert {"provider_busy", "refused", "truncated", "broken_contract", "balance"} <= codes
    assert {"cancelled", "superseded", "stopping", "server_lost", "internal", "error"} <= codes
    for code in codes:
        assert not variables(bundle("en")[f"reply_{code}"]), code


def test_every_notice_has_a_text() -> None:
    codes = notices()
    assert codes == {"queued", "plan_thinking", "resumed", "provider_retry", "reservation_used"}
    assert variables(bundle("en")["reservation_used"]) == {"percent", "reserved_seconds"}
    for code in codes - {"reservation_used"}:
        assert not variables(bundle("en")[code])


@pytest.mark.parametrize("action", [*get_args(ActionType), "share"])
def test_every_action_has_a_label(action: str) -> None:
    assert not variables(bundle("en")[f"action_{action}"])


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("initial_build_greeting", {"business_idea_summary"}),
        ("plan_greeting", {"project_name"}),
        ("plan_thinking", set[str]()),
        ("plan_suggestion", {"suggestion"}),
        ("plan_clarification", {"question"}),
        ("build_queued", {"build_id"}),
        ("build_succeeded", {"version_id"}),
        ("build_failed", {"error"}),
        ("build_timed_out", {"minutes"}),
        ("version_deployed", {"version_id", "preview_url"}),
        ("session_converted", {"build_id"}),
    ],
)
def test_a_system_message_has_these_variables(template: str, expected: set[str]) -> None:
    assert variables(bundle("en")[template]) == expected


# rendering ---------------------------------------------------------------------------------------


def test_variables_are_filled_in() -> None:
    said = render("reservation_used", {"percent": 80, "reserved_seconds": 45, "more": 1}, "en-GB")
    assert said == ("80% of the AI time set aside for this reply is used (seconds set aside: 45).")
    assert render("action_export", {}, "fr") == "Exporter"


def test_an_unknown_template_is_refused() -> None:
    with pytest.raises(KeyError):
        render("no_such_template", {}, "en")


@each_language
def test_a_missing_variable_is_refused(language: str) -> None:
    with pytest.raises(KeyError):
        render("plan_greeting", {"project": "Shop"}, language)


@pytest.mark.parametrize(
    "value",
    [
        *("{project_name}", "{project_name.__class__}", "{0}", "{}", "{{", "}", "%s", "${x}"),
        *("\\1", "\\g<0>", "{x.__class__.__mro__}", "{secret}"),
    ],
)
def test_a_value_is_never_rendered_as_a_template(value: str) -> None:
    said = render("plan_greeting", {"project_name": value, "secret": "hidden", "x": 1}, "en")
    assert said == f"Hello! What shall we plan for {value} today?"


# direction ---------------------------------------------------------------------------------------


def test_ids_and_addresses_are_isolated_in_every_language() -> None:
    values = {"version_id": "v-12", "preview_url": "https://example.com/v"}
    for language in LANGUAGES:
        said = render("version_deployed", values, language)
        assert isolated("v-12") in said
        assert isolated("https://example.com/v") in said


@each_language
def test_a_number_that_is_an_id_is_isolated_as_well(language: str) -> None:
    assert isolated("12") in render("build_queued", {"build_id": "12"}, language)


def test_in_a_language_from_right_to_left_every_value_but_a_number_is_isolated() -> None:
    assert isolated("Shop") in render("plan_greeting", {"project_name": "Shop"}, "ar-EG")
    assert isolated("متجر") in render("plan_greeting", {"project_name": "متجر"}, "ar")
    assert isolated("Shop") not in render("plan_greeting", {"project_name": "Shop"}, "en")
    for number in (15, "15", 1.5, "-1.5", "1,000"):
        said = render("build_timed_out", {"minutes": number}, "ar")
        assert str(number) in said
        assert not CONTROLS.search(said)


@pytest.mark.parametrize(
    "control", [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]
)
def test_no_value_can_end_its_isolation_or_turn_later_text(control: str) -> None:
    values = {"version_id": f"{control}v{control}1{control}", "preview_url": control}
    said = render("version_deployed", values, "ar")
    assert isolated("v1") in said
    assert isolated("") in said
    assert len(CONTROLS.findall(said)) == 4
    greeting = render("plan_greeting", {"project_name": f"{control}Shop"}, "en")
    assert greeting == render("plan_greeting", {"project_name": "Shop"}, "en")


@given(st.sampled_from(LANGUAGES), st.sampled_from(list(bundle("en"))), st.data())
def test_isolates_open_and_close_in_turn_around_any_values(
    language: str, template: str, data: st.DataObject
) -> None:
    names = variables(bundle("en")[template])
    hostile = st.text() | st.text("\u2066\u2067\u2068\u2069\u202e{}x.1", max_size=9) | st.integers()
    values = {name: data.draw(hostile) for name in sorted(names)}
    said = render(template, values, language)
    controls = CONTROLS.findall(said)
    assert controls == [FIRST_STRONG_ISOLATE, POP_ISOLATE] * (len(controls) // 2)
    around = VARIABLE.split(bundle(language)[template])[::2]
    assert all(text in said for text in around)
