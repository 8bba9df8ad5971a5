"""Operations against the document they tell of: however the text is spelled, cut or spoiled.""" ""

import json
import math
import random
import re
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.replies.contracts import ATOMIC
from domain.replies.json_tokens import NUMBER_LIMIT
from domain.replies.operations import Misfit, Operation, fold
from domain.replies.parser import DEPTH_LIMIT, TEXT_LIMIT, Malformed, ReplyParser

SPACE = " \t\n\r"

# what there is to read ---------------------------------------------------------------------------

WORDS = st.text() | st.text('"\\/\b\f\n\r\tu~0\x00\x1f\x7f\u2028é🙂\U0010ffff', max_size=8)
KEYS = st.sampled_from([*sorted(ATOMIC), "a/b", "~1", "", "intent", "response"]) | st.text()
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
)


def stored(value: Any) -> Any:
    """`value` as a database can hold it: the leniency the parser documents, spelled once more."""
    if isinstance(value, str):
        return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, list):
        return [stored(item) for item in value]
    if isinstance(value, dict):
        return {stored(key): stored(item) for key, item in value.items()}
    return value


def objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(KEYS.map(stored), values, max_size=5)


RESPONSES = objects(
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5) | objects(inner), max_leaves=20)
)


class Scribe:
    """Spells a value as JSON in one of the many ways there are, chosen by `seed`."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.airy = self.random.random() < 0.5
        self.escapes = self.random.choice([0, 0.1, 1])

    def value(self, value: Any) -> str:
        if isinstance(value, dict):
            return self.braced("{}", [self.member(*item) for item in value.items()])
        if isinstance(value, list):
            return self.braced("[]", [self.value(item) for item in value])
        return self.text(value) if isinstance(value, str) else json.dumps(value)

    def member(self, key: str, value: Any) -> str:
        return f"{self.text(key)}{self.space()}:{self.space()}{self.value(value)}"

    def braced(self, ends: str, parts: list[str]) -> str:
        spaced = ",".join(f"{self.space()}{part}{self.space()}" for part in parts)
        return f"{ends[0]}{spaced or self.space()}{ends[1]}"

    def space(self) -> str:
        return "".join(self.random.choices(SPACE, k=self.random.randrange(3))) if self.airy else ""

    def text(self, text: str) -> str:
        return f'"{"".join(self.character(c) for c in text)}"'

    def character(self, c: str) -> str:
        if self.random.random() >= self.escapes:
            return json.dumps(c, ensure_ascii=False)[1:-1]
        if c == "/":
            return r"\/"
        units = c.encode("utf-16-be").hex()
        units = units.upper() if self.random.random() < 0.5 else units
        return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def plainly(value: Any) -> str:
    return json.dumps(value)


def at_ease(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


SPELLINGS: st.SearchStrategy[Callable[[Any], str]] = st.sampled_from([plainly, at_ease]) | (
    st.integers(0, 2**32).map(lambda seed: Scribe(seed).value)
)


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, str, dict[str, Any]]:
    """The text of an answer, its intent and its response."""
    intent, response = draw(WORDS), draw(RESPONSES)
    members = [("intent", intent), ("response", response)]
    members += draw(st.sampled_from([[], [("thinking", [1, {"response": "no"}])]]))
    document = dict(draw(st.permutations(members)))
    spell = draw(SPELLINGS)
    return spell(document), stored(intent), stored(response)


CUTS = st.lists(st.integers(1, 30), min_size=1, max_size=9) | st.just([1])


def pieces(text: str, sizes: list[int]) -> Iterator[str]:
    """`text` in pieces of these sizes, over and over."""
    position = 0
    for size in cycle(sizes):
        if position >= len(text):
            return
        yield text[position : position + size]
        position += size


# what is to come of it ---------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """Equal as JSON, also in the order of keys, and 1 is neither true nor 1.0."""
    return json.dumps(one) == json.dumps(other)


def is_prefix(partial: Any, whole: Any) -> bool:
    """Whether `partial` is `whole`, or stops early somewhere at its end."""
    if type(partial) is not type(whole):
        return False
    if isinstance(partial, str):
        return bool(whole.startswith(partial))
    if not isinstance(partial, dict | list):
        return same(partial, whole)
    if isinstance(partial, dict) and list(partial) != list(whole)[: len(partial)]:
        return False
    begun, ended = ([*(v.values() if isinstance(v, dict) else v)] for v in (partial, whole))
    if not begun:
        return True
    last = len(begun) - 1
    return (
        last < len(ended)
        and same(begun[:last], ended[:last])
        and is_prefix(begun[last], ended[last])
    )


class Refused(Exception):
    """The independent reading refuses the text."""


def refuse(*_: object) -> NoReturn:
    raise Refused


def integer(token: str) -> int:
    return int(token) if len(token) <= 40 and -(2**63) <= int(token) < 2**63 else refuse()


def real(token: str) -> float:
    return float(token) if len(token) <= 40 and math.isfinite(float(token)) else refuse()


def unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = {stored(key): value for key, value in members}
    return made if len(made) == len(members) else refuse()


def depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


def reading(text: str) -> tuple[str, Any]:
    """Intent and response as Python's own JSON reads them, with our rules on top; or Refused."""
    text = text.lstrip(SPACE)
    fence = re.match(r"```(json)?[ \t\n\r]{0,16}(?=\{)", text)
    if text and text[0] != "{" and not fence:
        return "general", {"markdown": stored(text)}
    if fence:
        text = re.sub(r"(```[ \t\n\r]*|`{1,2})\Z", "", text[fence.end() :])
    try:
        document = json.loads(
            text,
            parse_int=integer,
            parse_float=real,
            parse_constant=refuse,
            object_pairs_hook=unique,
        )
    except ValueError:
        refuse()
    intent, response = document.get("intent"), document.get("response")
    if not isinstance(intent, str) or not isinstance(response, dict) or depth(document) > 32:
        refuse()
    return stored(intent), stored(response)


def outcome(text: str) -> tuple[str, Any] | None:
    """What the independent reading makes of a text; None if it refuses."""
    try:
        return reading(text)
    except Refused:
        return None


class Heard:
    """A parser that gets its text piece by piece, and all of its operations."""

    def __init__(self, text: str, sizes: list[int] | None = None) -> None:
        self.parser = ReplyParser()
        self.told: list[list[Operation]] = []
        self.failure: tuple[str, int] | None = None
        try:
            for piece in pieces(text, sizes or [max(len(text), 1)]):
                self.told.append(self.parser.feed(piece))
        except Malformed as malformed:
            self.failure = malformed.kind, malformed.position
        self.told.append(self.parser.close())

    @property
    def ops(self) -> list[Operation]:
        return [op for told in self.told for op in told]

    @property
    def outcome(self) -> tuple[str | None, Any] | None:
        return (self.parser.intent, fold(self.ops)) if self.parser.complete else None


def ops_of(text: str, sizes: list[int] | None = None) -> list[Operation]:
    return Heard(text, sizes).ops


def answer(response: str, intent: str = '"question"') -> str:
    return f'{{"intent": {intent}, "response": {response}}}'


# the laws ----------------------------------------------------------------------------------------


@given(answers(), CUTS)
def test_the_operations_fold_to_the_response(
    made: tuple[str, str, dict[str, Any]], sizes: list[int]
) -> None:
    text, intent, response = made
    heard = Heard(text, sizes)
    assert heard.parser.complete
    assert heard.parser.intent == intent
    assert not heard.parser.prose
    assert same(fold(heard.ops), response)
    assert outcome(text) == (intent, response)


@given(answers(), CUTS)
def test_at_every_cut_they_fold_to_a_prefix_of_the_response(
    made: tuple[str, str, dict[str, Any]], sizes: list[int]
) -> None:
    text, _, response = made
    document = None
    for told in Heard(text, sizes).told:
        document = fold(told, document)
        assert document is None or is_prefix(document, response)
    assert same(document, response)


@given(answers(), CUTS)
def test_every_operation_can_be_written_as_it_is(
    made: tuple[str, str, dict[str, Any]], sizes: list[int]
) -> None:
    for told in Heard(made[0], sizes).told:
        written = json.dumps(told, ensure_ascii=False)
        assert "\\u0000" not in written
        written.encode("utf-8")
        appended = [op["path"] for op in told if op["op"] == "append"]
        assert len(appended) == len(set(appended))
        assert all(op["text"] for op in told if op["op"] == "append")


@given(answers())
def test_a_text_that_breaks_off_is_incomplete_and_not_malformed(
    made: tuple[str, str, dict[str, Any]],
) -> None:
    text = made[0]
    for end in range(0, len(text), 1 + len(text) // 50):
        heard = Heard(text[:end])
        assert heard.failure is None
        assert not heard.parser.complete


SNIPPETS = st.sampled_from(
    [
        *'{}[]":,\\-0123456789.eE+ntf\n \x00\x1f\x7f`',
        *("\\u", "\\ud83d", "\\ude00", "\\u0000", "\ud83d", "\ude00", "\ufeff", "\u00a0"),
        *("null", "true", "NaN", "Infinity", "1e400", "-0", "01", "9" * 19, "9" * 41),
        *("```", "```json\n", '"a":1,', '"intent":', '"response":', "[" * 33),
    ]
)


@st.composite
def spoiled(draw: st.DrawFn) -> str:
    """An answer with a few pieces lost, doubled or put in."""
    text = draw(answers())[0]
    text = draw(st.sampled_from([text, f"```json\n{text}\n```", f"  {text}\n"]))
    for _ in range(draw(st.integers(1, 4))):
        here, there = (draw(st.integers(0, len(text))) for _ in range(2))
        text = text[:here] + draw(SNIPPETS | st.just("")) + text[there if here < there else here :]
    return text


LOOSE = st.lists(SNIPPETS | st.text(max_size=3), max_size=12).map("".join)


@given(
    spoiled()
    | LOOSE
    | LOOSE.map(lambda loose: answer(f'{{"a": {loose}}}'))
    | LOOSE.map(lambda loose: answer(f'{{"a": "{loose}"}}')),
    CUTS,
)
@example("```", [1])
@example("``` \n", [1])
@example("```json\n{", [1])
@example(answer('{"a":"\\ud83d'), [1])
@example(answer('{"a":"\\ud83d\\ud83d\\ude00\\ude00\ud83d\\ude00"}'), [1])
def test_the_parser_reads_any_text_as_python_does_or_refuses_it(
    text: str, sizes: list[int]
) -> None:
    heard = Heard(text, sizes)
    if (expected := outcome(text)) is None:
        assert heard.outcome is None
    else:
        assert heard.outcome is not None
        assert same(list(heard.outcome), list(expected))


@given(spoiled() | LOOSE.map(lambda loose: answer(f'{{"a": {loose}}}')), CUTS)
def test_a_refusal_does_not_depend_on_the_cuts(text: str, sizes: list[int]) -> None:
    whole, cut = Heard(text), Heard(text, sizes)
    assert whole.failure == cut.failure
    assert whole.parser.complete == cut.parser.complete
    if whole.failure is None:
        assert same(fold(whole.ops), fold(cut.ops))
    else:
        fold(cut.ops)


@given(st.text().filter(lambda text: text.strip(SPACE)[:1] not in ("", "{", "`")), CUTS)
def test_prose_is_the_markdown_of_a_general_reply(text: str, sizes: list[int]) -> None:
    heard = Heard(text, sizes)
    assert heard.parser.prose
    assert heard.outcome == ("general", {"markdown": stored(text.lstrip(SPACE))})


# operations, one by one --------------------------------------------------------------------------


def test_each_kind_of_value_has_its_operation() -> None:
    assert ops_of(answer('{"answer": "Yes.", "n": [7, -0.5, true, null, ""], "o": {}}')) == [
        {"op": "open", "path": "", "kind": "object"},
        {"op": "append", "path": "/answer", "text": "Yes."},
        {"op": "open", "path": "/n", "kind": "array"},
        {"op": "set", "path": "/n/0", "value": 7},
        {"op": "set", "path": "/n/1", "value": -0.5},
        {"op": "set", "path": "/n/2", "value": True},
        {"op": "set", "path": "/n/3", "value": None},
        {"op": "set", "path": "/n/4", "value": ""},
        {"op": "open", "path": "/o", "kind": "object"},
    ]


def test_a_string_streams_at_every_feed() -> None:
    parser = ReplyParser()
    parser.feed('{"intent": "question", "response": {"answer": "')
    assert parser.feed("Look ") == [{"op": "append", "path": "/answer", "text": "Look "}]
    assert parser.feed("at\\") == [{"op": "append", "path": "/answer", "text": "at"}]
    assert parser.feed("nit") == [{"op": "append", "path": "/answer", "text": "\nit"}]
    assert parser.feed('"') == []


def test_the_pieces_of_one_feed_are_one_operation() -> None:
    told = ops_of(answer('{"answer": "a\\n\\u00e9\\ud83d\\ude42\\"b"}'))
    assert told[1:] == [{"op": "append", "path": "/answer", "text": 'a\né🙂"b'}]


def test_a_surrogate_pair_is_never_parted() -> None:
    told = ops_of(answer('{"answer": "\\ud83d\\ude42"}'), [1])
    assert told[1:] == [{"op": "append", "path": "/answer", "text": "🙂"}]


@pytest.mark.parametrize("name", sorted(ATOMIC))
def test_a_word_of_a_closed_set_comes_whole(name: str) -> None:
    told = ops_of(answer(f'{{"{name}": "moderate"}}'), [1])
    assert told[1:] == [{"op": "set", "path": f"/{name}", "value": "moderate"}]


def test_a_list_under_such_a_name_is_no_such_word() -> None:
    told = ops_of(answer('{"type": ["ab"]}'), [1])
    assert told[2:] == [
        {"op": "append", "path": "/type/0", "text": "a"},
        {"op": "append", "path": "/type/0", "text": "b"},
    ]


def test_names_are_escaped_in_paths() -> None:
    told = ops_of(answer('{"a/b~c": {"": 1}}'))
    assert [op["path"] for op in told] == ["", "/a~1b~0c", "/a~1b~0c/"]


@pytest.mark.parametrize(
    "spelled", ["\\u0000", "\\ud83d", "\\ude42", "\\ud83dx", "\\ud83d\\n", "\ud83d"]
)
def test_an_unstorable_character_is_replaced(spelled: str) -> None:
    for sizes in ([1], [1000]):
        document = fold(ops_of(answer(f'{{"a": "{spelled}"}}'), sizes))
        assert document["a"].startswith("\ufffd")


# the envelope ------------------------------------------------------------------------------------


def test_operations_wait_until_the_intent_is_known() -> None:
    parser = ReplyParser()
    assert parser.feed('{"response": {"answer": "Yes') == []
    assert parser.feed(', and no"}, "intent": "quest') == []
    assert parser.intent is None
    assert parser.feed('ion"') == [
        {"op": "open", "path": "", "kind": "object"},
        {"op": "append", "path": "/answer", "text": "Yes, and no"},
    ]
    assert parser.intent == "question"


def test_an_unknown_intent_is_reported_as_it_is() -> None:
    heard = Heard(answer('{"a": 1}', '"poem"'))
    assert heard.outcome == ("poem", {"a": 1})


def test_other_members_of_the_envelope_are_read_and_ignored() -> None:
    text = '{"note": ["x", {"type": "y"}], "intent": "a", "n": -1, "response": {"b": 2}, "z": "z"}'
    assert Heard(text, [1]).outcome == ("a", {"b": 2})


def test_an_answer_with_nothing_in_it_is_incomplete() -> None:
    for text in ("", "  \n"):
        heard = Heard(text)
        assert (heard.parser.complete, heard.parser.prose, heard.ops) == (False, False, [])


def test_an_answer_that_breaks_off_keeps_its_operations() -> None:
    heard = Heard('{"intent": "question", "response": {"answer": "It is in \\u00')
    assert heard.outcome is None
    assert fold(heard.ops) == {"answer": "It is in "}


@pytest.mark.parametrize(
    "fence", ["```", "```json", "```json\n", "``` \r\n", "```\n\n  ", "```" + " " * 16]
)
@pytest.mark.parametrize("end", ["```", "\n```\n", "", "\n"])
def test_a_fence_around_the_answer_is_skipped(fence: str, end: str) -> None:
    for sizes in ([1], [1000]):
        assert Heard(fence + answer('{"a": 1}') + end, sizes).outcome == ("question", {"a": 1})


@pytest.mark.parametrize(
    "text", ["`", "``", "```", "```py\n{}", "```json", "`{`", "[1]", '"a"', "```" + " " * 17 + "{}"]
)
def test_text_that_resembles_a_fence_or_json_is_prose(text: str) -> None:
    for sizes in ([1], [1000]):
        heard = Heard(text, sizes)
        assert heard.parser.prose
        assert heard.outcome == ("general", {"markdown": text})


def test_prose_streams_as_it_comes() -> None:
    parser = ReplyParser()
    assert parser.feed("  ``") == []
    assert parser.feed("`python\n") == [
        {"op": "open", "path": "", "kind": "object"},
        {"op": "append", "path": "/markdown", "text": "```python\n"},
    ]
    assert parser.feed('{"intent"') == [{"op": "append", "path": "/markdown", "text": '{"intent"'}]
    assert not parser.complete
    assert parser.close() == []
    assert parser.complete


# refusals ----------------------------------------------------------------------------------------

NESTED = DEPTH_LIMIT - 2  # below the envelope and the response


@pytest.mark.parametrize(
    ("text", "kind", "position"),
    [
        ("{}", "an envelope without its members", 1),
        ('{"intent": "a"}', "an envelope without its members", 14),
        ('{"response": {}}', "an envelope without its members", 15),
        ('{"intent": 1', "an intent that is no string", 11),
        ('{"response": [', "a response that is no object", 13),
        ('{"response": null', "a response that is no object", 13),
        ("{1", "no key", 1),
        ('{"a" 1', "no colon", 5),
        ('{"a": x', "no value", 6),
        ('{"a": nul ', "no value", 6),
        ('{"a": 01,', "no value", 6),
        ('{"a": [,', "no value", 7),
        ('{"a": [1,]', "no value", 9),
        ('{"a": 1,}', "no key", 8),
        ('{"a": [1}', "no comma and no end", 8),
        ('{"a": {"b": 1]', "no comma and no end", 13),
        ('{"a": 1, "a"', "a key for the second time", 11),
        ('{"\\u0000": 1, "\\ufffd"', "a key for the second time", 21),
        ('{"a": "\n', "a control character", 7),
        ('{"a": "\\x', "no escape", 7),
        ('{"a": "\\u12g', "no escape", 7),
        (answer("{}") + "x", "text after the end", 38),
        (answer("{}") + "```", "text after the end", 38),
        ("```" + answer("{}") + "``` ```", "text after the end", 45),
        ("```" + answer("{}") + "x", "text after the end", 41),
        ("```" + answer("{}") + "`\n", "text after the end", 41),
    ],
)
def test_a_text_that_is_no_answer_is_refused(text: str, kind: str, position: int) -> None:
    for sizes in ([1], [1000]):
        assert Heard(text, sizes).failure == (kind, position)


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775807", 2**63 - 1),
        ("-0", 0),
        ("1e308", 1e308),
        ("1e-400", 0.0),
        ("0." + "1" * (NUMBER_LIMIT - 2), 1 / 9),
    ],
)
def test_a_number_every_store_holds_is_read(number: str, value: float) -> None:
    document = fold(ops_of(answer(f'{{"n": {number}}}'), [1]))
    assert same(document, {"n": value})


@pytest.mark.parametrize(
    "number",
    [
        *("9223372036854775808", "-9223372036854775809", "1e400", "-1e400", "0." + "1" * 39),
        *("-", "+1", ".5", "1.", "1e", "1e+", "0x1", "00", "1-1", "NaN", "Infinity", "-Infinity"),
    ],
)
def test_any_other_number_is_refused(number: str) -> None:
    for sizes in ([1], [1000]):
        assert Heard(answer(f'{{"n": {number}}}'), sizes).failure is not None


def test_an_answer_is_at_most_so_deep() -> None:
    deepest = "[" * NESTED + "]" * NESTED
    assert Heard(answer(f'{{"a": {deepest}}}')).outcome is not None
    assert Heard(answer(f'{{"a": [{deepest}]}}')).failure == ("too deep", 41 + NESTED)


def test_an_answer_is_at_most_so_long() -> None:
    frame = answer('{"a": "?"}')
    longest = frame.replace("?", "x" * (TEXT_LIMIT - len(frame) + 1))
    assert len(longest) == TEXT_LIMIT
    assert Heard(longest, [100_000]).outcome is not None
    assert Heard(longest + " ", [100_000]).failure == ("too long an answer", TEXT_LIMIT)
    assert Heard("x" * TEXT_LIMIT + "x", [100_000]).failure == ("too long an answer", TEXT_LIMIT)


@pytest.mark.parametrize("code", range(32))
def test_a_control_character_is_refused_unless_escaped(code: int) -> None:
    assert Heard(answer(f'{{"a": "{chr(code)}"}}')).failure is not None
    document = fold(ops_of(answer(f'{{"a": "\\u{code:04X}"}}')))
    assert document == {"a": chr(code) if code else "\ufffd"}


def test_a_refusal_never_quotes_the_answer() -> None:
    with pytest.raises(Malformed) as refused:
        ReplyParser().feed('{"secret": secret')
    assert "secret" not in str(refused.value)


def test_after_a_refusal_earlier_operations_stay_and_no_more_come() -> None:
    parser = ReplyParser()
    told = parser.feed('{"intent": "question", "response": {"answer": "Yes')
    for _ in range(2):
        with pytest.raises(Malformed, match="a control character at character 53"):
            parser.feed(' or\n no"}}')
    assert parser.close() == []
    assert not parser.complete
    assert fold(told) == {"answer": "Yes"}


# folding -----------------------------------------------------------------------------------------


def test_a_fold_goes_on_from_a_document_and_leaves_it_as_it_is() -> None:
    start: dict[str, Any] = {"a": ["x"]}
    ops: list[Operation] = [
        {"op": "append", "path": "/a/0", "text": "y"},
        {"op": "append", "path": "/a/1", "text": "z"},
    ]
    assert fold(ops, start) == {"a": ["xy", "z"]}
    assert start == {"a": ["x"]}


def test_nothing_folds_to_nothing() -> None:
    assert fold([]) is None
    assert fold([], {"a": 1}) == {"a": 1}


HELD = {"s": "x", "n": 1, "z": None, "l": [1], "t": ["x"], "o": {}}


@pytest.mark.parametrize(
    "path", ["", "/s", "/z", "/l/0", "/l/2", "/l/-", "/l/-1", "/l/01", "/l/+1", "/l/x"]
)
def test_values_are_never_replaced_and_arrays_have_no_gaps(path: str) -> None:
    for op in (
        {"op": "open", "path": path, "kind": "array"},
        {"op": "set", "path": path, "value": 1},
    ):
        with pytest.raises(Misfit):
            fold([op], HELD)  # type: ignore[list-item]


@pytest.mark.parametrize(
    "path", ["", "/n", "/z", "/l", "/l/0", "/o", "/s/0", "/s/1", "/q/a", "/t/-1", "s"]
)
def test_only_a_string_is_appended_to(path: str) -> None:
    with pytest.raises(Misfit):
        fold([{"op": "append", "path": path, "text": "x"}], HELD)


@pytest.mark.parametrize("path", ["/s/a", "/n/a", "/n/0", "/z/a", "/q/a", "/l/7/a", "x", "x/y"])
def test_an_operation_without_its_container_does_not_fit(path: str) -> None:
    with pytest.raises(Misfit):
        fold([{"op": "set", "path": path, "value": 1}], HELD)
