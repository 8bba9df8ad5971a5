"""Decisions on a prompt: versions, placeholders, changes, erasure."""

from typing import Any

import pytest

from domain.deciders import prompt
from domain.errors import (
    PromptChanged,
    PromptRetired,
    PromptTooLong,
    PromptUnknown,
    ValuesMissing,
    ValuesUnknown,
)
from domain.events import (
    PromptArchived,
    PromptCreated,
    PromptErased,
    PromptErasureRequested,
    PromptEvent,
    PromptRenamed,
    PromptRestored,
    PromptVersionAdded,
)

CREATED = PromptCreated(prompt_id="q1", project_id="p1", user_id="u1", name="Selling")
ARCHIVED = PromptArchived(prompt_id="q1")
CLOSED = PromptErasureRequested(prompt_id="q1")
ERASED = PromptErased(prompt_id="q1")


def version(number: int, text: str = "Sell {{what}}", **fields: Any) -> PromptVersionAdded:
    added: dict[str, Any] = {
        "prompt_id": "q1",
        "prompt_version_id": f"q1.{number}",
        "number": number,
        "name": "Selling",
        "text": text,
        "placeholders": ("what",),
        "user_id": "u1",
    }
    return PromptVersionAdded(**added | fields)


def given(*events: PromptEvent) -> prompt.Prompt:
    return prompt.fold(events)


def test_versions_count_from_one_and_the_same_text_is_another_version() -> None:
    assert prompt.add_version(given(CREATED), user_id="u1", text="Sell {{what}}") == (version(1),)
    source = prompt.Source(session_id="s1", message_id="r1")
    added = prompt.add_version(
        given(CREATED, version(1), version(2)),
        user_id="u2",
        text="Sell {{what}}",
        note="again",
        source=source,
    )
    fields = {"user_id": "u2", "note": "again"}
    about = {"source_session_id": "s1", "source_message_id": "r1"}
    assert added == (version(3, **fields, **about),)


def test_a_version_has_the_name_that_the_prompt_has_then() -> None:
    renamed = given(CREATED, version(1), PromptRenamed(prompt_id="q1", name="Buying"))
    (added,) = prompt.add_version(renamed, user_id="u1", text="Sell {{what}}")
    assert added == version(2, name="Buying")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("{{b}} {{a}} {{b}}", ("b", "a")),
        ("{{{a}}} {{ a }} {{a-b}} {{}} {a} {{a}", ("a",)),
        ("{{اسم}} {{n_1}}", ("اسم", "n_1")),
        (f"{{{{{'x' * 64}}}}} {{{{{'y' * 65}}}}}", ("x" * 64,)),
    ],
)
def test_placeholders_are_found_in_the_order_of_their_first_appearance(
    text: str, names: tuple[str, ...]
) -> None:
    assert prompt.placeholders(text) == names


def test_values_replace_placeholders_and_are_not_read_again() -> None:
    answers = {"a": "{{b}}", "b": ""}
    assert prompt.fill("{{a}}, {{b}}, {{a}}.", answers) == "{{b}}, , {{b}}."


def test_each_placeholder_needs_a_value_and_no_other_name_is_taken() -> None:
    with pytest.raises(ValuesMissing) as missing:
        prompt.fill("{{a}} {{b}} {{c}}", {"b": ""})
    assert missing.value.names == "a, c"
    with pytest.raises(ValuesUnknown) as unknown:
        prompt.fill("{{a}}", {"a": "", "b": "", "c": ""})
    assert unknown.value.names == "b, c"


def test_the_filled_in_text_has_an_end() -> None:
    text = "{{a}}{{a}}"
    assert len(prompt.fill(text, {"a": "x" * 100_000})) == 200_000
    with pytest.raises(PromptTooLong):
        prompt.fill(text + ".", {"a": "x" * 100_000})


@pytest.mark.parametrize("text", ["", "q1", "q1.", ".1", "q1.0", "q1.01", "q1.x", "q1.1234567890"])
def test_another_text_is_no_id_of_a_version(text: str) -> None:
    assert prompt.version_named(text) is None
    assert prompt.version_named(prompt.version_id("a.b", 7)) == ("a.b", 7)


def test_a_prompt_is_renamed_and_archived_and_restored() -> None:
    state = given(CREATED, version(1))
    details = prompt.Details(name="Buying", is_archived=True)
    changed = prompt.change(state, details=details, revisions=None)
    assert changed == (PromptRenamed(prompt_id="q1", name="Buying"), ARCHIVED)
    assert prompt.change(prompt.fold(changed, state), details=details, revisions=None) == ()
    restored = prompt.change(
        given(CREATED, ARCHIVED), details=prompt.Details(name="Selling"), revisions=None
    )
    assert restored == (PromptRestored(prompt_id="q1"),)


def test_a_change_of_another_revision_is_refused() -> None:
    state = given(CREATED)
    details = prompt.Details(name="Buying")
    assert prompt.change(state, details=details, revisions=["x", state.details.revision])
    with pytest.raises(PromptChanged) as changed:
        prompt.change(state, details=details, revisions=["x"])
    assert changed.value.revision == state.details.revision


def test_an_archived_prompt_takes_no_versions() -> None:
    with pytest.raises(PromptRetired):
        prompt.add_version(given(CREATED, ARCHIVED), user_id="u1", text="Sell")


def test_an_erasure_is_requested_then_ended_once() -> None:
    assert prompt.request_erasure(given(CREATED, ARCHIVED)) == (CLOSED,)
    assert prompt.erase(given(CREATED, CLOSED)) == (ERASED,)
    assert prompt.erase(given(CREATED, CLOSED, ERASED)) == ()
    with pytest.raises(PromptUnknown):
        prompt.erase(given(CREATED))


@pytest.mark.parametrize("events", [(), (CREATED, CLOSED), (CREATED, CLOSED, ERASED)])
def test_a_prompt_that_is_not_there_refuses_everything(events: tuple[PromptEvent, ...]) -> None:
    state = given(*events)
    for decide in (
        lambda: prompt.add_version(state, user_id="u1", text="Sell"),
        lambda: prompt.change(state, details=prompt.Details(name="n"), revisions=None),
        lambda: prompt.request_erasure(state),
        lambda: prompt.require_active(state),
    ):
        with pytest.raises(PromptUnknown):
            decide()
    assert state.name == ("" if events else prompt.INITIAL.name)


def test_an_id_is_used_once() -> None:
    with pytest.raises(PromptUnknown):
        prompt.create(given(CREATED), prompt_id="q1", project_id="p1", user_id="u1", name="n")
