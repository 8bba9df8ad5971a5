"""The contracts of a reply: the replies that they accept and refuse, and their JSON schema."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic import transform_schema

from domain.events import ReplyMode
from domain.modes import PLANNER
from domain.replies.contracts import ATOMIC, MAIN_TEXT, BrokenContract, check, reply_schema
from domain.replies.operations import fold
from domain.replies.parser import ReplyParser

SAMPLES: dict[ReplyMode, dict[str, Any]] = {
    "question": {
        "answer": "In `users.py`.",
        "references": [{"file": "users.py", "line": 7, "snippet": "class User:"}],
        "relatedTopics": ["Sessions"],
    },
    "feature": {
        "summary": "A search field.",
        "feasibility": "simple",
        "plan": {
            "overview": "One route and one query.",
            "steps": [
                {
                    "order": 1,
                    "title": "Route",
                    "description": "Add it.",
                    "files": ["routes.py"],
                    "estimatedEffort": "low",
                }
            ],
            "dependencies": [{"name": "orjson", "version": "3.10", "reason": "Speed."}],
            "risks": ["Slow at first."],
            "alternatives": ["None."],
        },
        "buildPrompt": "Build it.",
    },
    "fix": {
        "issue": {"description": "It fails.", "severity": "high", "category": "runtime"},
        "rootCause": "A race.",
        "solution": {
            "approach": "A lock.",
            "changes": [{"file": "a.py", "changeType": "modify", "description": "Lock it."}],
            "testingStrategy": "Run two at once.",
        },
        "preventionTips": ["Fewer threads."],
        "buildPrompt": "Mend it.",
    },
    "analysis": {
        "overview": "It is sound.",
        "findings": [
            {
                "category": "speed",
                "title": "Slow start",
                "description": "It imports all.",
                "impact": "A second.",
                "recommendations": ["Import late."],
            }
        ],
        "metrics": [{"name": "files", "value": 12}, {"name": "style", "value": "calm"}],
        "visualizations": [
            {"type": "chart", "title": "Sizes", "labels": ["a", "b"], "values": [1, 2.5]}
        ],
    },
    "general": {"markdown": "Hello."},
    "improvement": {
        "analysis": "It lacks a form.",
        "improvedPrompt": "Answer {{question}} in one line.",
        "changes": ["One line."],
    },
}

OPTIONAL = {
    *("references", "relatedTopics", "version", "alternatives", "buildPrompt", "preventionTips"),
    *("impact", "recommendations", "metrics", "visualizations", "newFiles"),
}
OPTIONAL_PLACES = {("improvement", ("changes",))}
"""Members that are optional here, and needed in another contract."""

MODES = list(SAMPLES)

Place = tuple[str | int, ...]


def places(value: Any, above: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every place in a document with what stands there, the document itself first."""
    yield above, value
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*above, key))


def optional(mode: ReplyMode, place: Place) -> bool:
    return place[-1] in OPTIONAL or (mode, place) in OPTIONAL_PLACES


def pointer(place: Place) -> str:
    return "".join(f"/{part}" for part in place)


ALL = [(mode, place, value) for mode in MODES for place, value in places(SAMPLES[mode])]
MEMBERS = [(mode, place) for mode, place, _ in ALL if place and isinstance(place[-1], str)]
OBJECTS = [(mode, place) for mode, place, value in ALL if isinstance(value, dict)]
VALUES = [(mode, place, value) for mode, place, value in ALL if place]


def at(document: Any, place: Place) -> Any:
    for part in place:
        document = document[part]
    return document


def changed(mode: ReplyMode, place: Place, value: Any) -> dict[str, Any]:
    """The mode's sample with `value` at a place."""
    document = copy.deepcopy(SAMPLES[mode])
    at(document, place[:-1])[place[-1]] = value
    return document


def without(mode: ReplyMode, place: Place) -> dict[str, Any]:
    document = copy.deepcopy(SAMPLES[mode])
    del at(document, place[:-1])[place[-1]]
    return document


def faults(mode: ReplyMode, data: object) -> tuple[str, ...]:
    with pytest.raises(BrokenContract) as broken:
        check(mode, data)
    return broken.value.faults


def ill_typed(place: Place, value: Any) -> list[Any]:
    """Values of every JSON type that is not taken at a place where `value` stands."""
    taken = {type(value)}
    if place[:1] == ("metrics",) and place[-1] == "value":
        taken = {int, float, str}
    if "values" in place[:-1]:
        taken = {int, float}
    every: list[Any] = [None, True, 7, 1.5, "7", [], {}]
    return [other for other in every if type(other) not in taken]


# what is taken and what is refused ---------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_full_reply_keeps_its_contract(mode: ReplyMode) -> None:
    check(mode, SAMPLES[mode])


@pytest.mark.parametrize("mode", MODES)
def test_a_reply_without_its_optional_fields_keeps_its_contract(mode: ReplyMode) -> None:
    def lean(value: Any, place: Place = ()) -> Any:
        if isinstance(value, dict):
            members = ((key, item, (*place, key)) for key, item in value.items())
            return {key: lean(item, at) for key, item, at in members if not optional(mode, at)}
        return [lean(item) for item in value] if isinstance(value, list) else value

    check(mode, lean(SAMPLES[mode]))


@pytest.mark.parametrize(("mode", "place"), MEMBERS)
def test_only_an_optional_field_may_be_absent(mode: ReplyMode, place: Place) -> None:
    if optional(mode, place):
        check(mode, without(mode, place))
    else:
        assert faults(mode, without(mode, place)) == (f"{pointer(place)}: missing",)


@pytest.mark.parametrize(("mode", "place"), OBJECTS)
def test_an_unknown_field_is_refused_where_it_stands(mode: ReplyMode, place: Place) -> None:
    found = faults(mode, changed(mode, (*place, "secret"), "secret"))
    assert found == (f"{pointer(place)}: extra_forbidden",)


@pytest.mark.parametrize(("mode", "place", "value"), VALUES)
def test_a_value_of_another_type_is_refused_where_it_stands(
    mode: ReplyMode, place: Place, value: Any
) -> None:
    for other in ill_typed(place, value):
        found = faults(mode, changed(mode, place, other))
        assert {fault.partition(":")[0] for fault in found} == {pointer(place)}


@pytest.mark.parametrize(("mode", "place", "value"), VALUES)
def test_only_a_word_of_the_closed_set_is_taken(mode: ReplyMode, place: Place, value: Any) -> None:
    if place[-1] in ATOMIC:
        for word in ("secret", "", value.upper()):
            assert faults(mode, changed(mode, place, word)) == (f"{pointer(place)}: literal_error",)


@pytest.mark.parametrize("data", [None, [], "secret", 1, {"secret": "secret"}])
@pytest.mark.parametrize("mode", MODES)
def test_a_value_that_is_no_reply_is_refused(mode: ReplyMode, data: object) -> None:
    assert faults(mode, data)


@pytest.mark.parametrize("mode", MODES)
def test_a_refusal_never_quotes_the_reply(mode: ReplyMode) -> None:
    spoiled: Any = {f"secret{i}": {"secret": "secret"} for i in range(1000)}
    for data in (
        {**SAMPLES[mode], **spoiled},
        {key: ["secret"] for key in SAMPLES[mode]},
        {key: {"secret": ["secret"]} for key in SAMPLES[mode]},
    ):
        with pytest.raises(BrokenContract) as broken:
            check(mode, data)
        assert "secret" not in str(broken.value)
        assert len(str(broken.value)) < 2000
        assert broken.value.__context__ is None


# the schema for the model ------------------------------------------------------------------------


def schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema within a schema."""
    yield schema
    parts = [schema[key] for key in ("$defs", "properties") if key in schema]
    below = [*schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])]
    for part in [*below, *(inner for named in parts for inner in named.values())]:
        yield from schemas(part)


def test_the_intent_comes_before_the_response() -> None:
    schema = reply_schema(PLANNER)
    assert list(schema["properties"]) == schema["required"] == ["intent", "response"]
    assert schema["properties"]["intent"]["enum"] == list(PLANNER)
    assert len(schema["properties"]["response"]["anyOf"]) == len(PLANNER)


def test_every_object_is_closed_and_says_what_it_requires() -> None:
    told = [
        schema for schema in schemas(reply_schema(tuple(MODES))) if schema.get("type") == "object"
    ]
    assert len(told) == 17
    for schema in told:
        assert schema["additionalProperties"] is False
        optional_here = set(schema["properties"]) - set(schema["required"])
        assert optional_here <= OPTIONAL | {"changes"}


def test_the_schema_says_only_what_the_provider_understands() -> None:
    known = {
        *("$defs", "$ref", "type", "enum", "anyOf", "items", "title", "description"),
        *("properties", "required", "additionalProperties"),
    }
    told = list(schemas(reply_schema(tuple(MODES))))
    assert set().union(*told) == known
    assert not any(schema.get("type") == "null" for schema in told)


def test_the_providers_own_transformation_leaves_the_schema_as_it_is() -> None:
    schema = reply_schema(tuple(MODES))
    for inner in schemas(expected := copy.deepcopy(schema)):
        if "enum" in inner:
            del inner["type"]  # the words of an enum say their type themselves
    assert transform_schema(schema) == expected
    assert list(transform_schema(schema)["properties"]) == ["intent", "response"]


# the names for the parser ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_main_text_of_a_reply_is_prose_of_its_contract(mode: ReplyMode) -> None:
    name = MAIN_TEXT[mode].removeprefix("/")
    assert isinstance(SAMPLES[mode][name], str)
    assert name not in ATOMIC | OPTIONAL


def test_the_words_of_closed_sets_are_known_by_name() -> None:
    assert {"feasibility", "estimatedEffort", "severity", "changeType", "type"} == ATOMIC


def test_no_name_is_a_closed_set_here_and_prose_there() -> None:
    objects = [schema.get("properties", {}) for schema in schemas(reply_schema(tuple(MODES)))]
    named = [member for properties in objects for member in properties.items()]
    closed = {name for name, schema in named if "enum" in schema}
    prose = {name for name, schema in named if "enum" not in schema}
    assert closed == ATOMIC | {"intent"}
    assert not closed & prose


@pytest.mark.parametrize("mode", MODES)
def test_a_streamed_reply_keeps_the_contract_of_its_intent(mode: ReplyMode) -> None:
    parser = ReplyParser()
    text = f'{{"intent": "{mode}", "response": {json.dumps(SAMPLES[mode])}}}'
    data = fold(op for character in text for op in parser.feed(character))
    assert (parser.complete, parser.intent) == (True, mode)
    assert data == SAMPLES[mode]
    check(mode, data)
