"""What the service itself says to people, in their language: templates and their variables.

A message travels and is stored as a template's key with its variables, and is rendered where it is
read. The bundles are JSON files, so that a web client can render with the same ones:
`{"contractVersion": "1.0", "templates": {"<key>": "text with {variable}"}}`.

Variables come from anywhere. They are filled in as they are: nothing in them is a template, and no
change of direction in them reaches the text around them.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

import orjson

from domain import questions

Language = Literal["en", "fr", "es", "ar"]
Bundle: TypeAlias = Mapping[str, str]

LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
FALLBACK: Final[Language] = "en"
CONTRACT_VERSION: Final = "1.0"
"""Of the keys and their variables; that of the bundles and of the messages that are stored."""

_RIGHT_TO_LEFT: Final = frozenset({"ar"})

_VARIABLE: Final = re.compile(r"\{(\w+)\}")
_NUMBER: Final = re.compile(r"[-+]?[0-9]+(?:[.,][0-9]+)*")

_TECHNICAL_NAMES: Final = frozenset({"id", "branch", "commit"})
_TECHNICAL_ENDS: Final = ("_id", "_path", "file", "path", "url")

# Embeddings, overrides and isolates: what could end the isolate around it, or turn what follows.
_DIRECTIONS: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
FIRST_STRONG_ISOLATE: Final = "\u2068"
POP_ISOLATE: Final = "\u2069"


def language_of(locale: str) -> Language:
    """The language of a locale such as `ar-EG`, as far as it is spoken here; else English."""
    language = questions.language(locale)
    return language if language in LANGUAGES else FALLBACK


def direction_of(language: Language) -> Literal["ltr", "rtl"]:
    """How the language is written."""
    return "rtl" if language in _RIGHT_TO_LEFT else "ltr"


def bundle(locale: str) -> Bundle:
    """The templates of a locale's language by their keys; not to be changed."""
    return _bundle(language_of(locale))


def bundle_json(locale: str) -> dict[str, object]:
    """The same as in its file, for a client; the caller's own."""
    return {"contractVersion": CONTRACT_VERSION, "templates": dict(bundle(locale))}


def render(template: str, variables: Mapping[str, object], locale: str) -> str:
    """The text of the template with this key, with its variables filled in.

    Where a text could run the wrong way, a value is isolated from it (U+2068, U+2069): paths and
    ids always, and all but numbers in a language that is written from right to left. Raises
    KeyError for a key that there is not, and for a variable that is missing.
    """
    is_right_to_left = language_of(locale) in _RIGHT_TO_LEFT

    def fill(found: re.Match[str]) -> str:
        name = found[1]
        value = _DIRECTIONS.sub("", str(variables[name]))
        if _is_technical(name) or (is_right_to_left and not _NUMBER.fullmatch(value)):
            return f"{FIRST_STRONG_ISOLATE}{value}{POP_ISOLATE}"
        return value

    return _VARIABLE.sub(fill, bundle(locale)[template])


def _is_technical(name: str) -> bool:
    """Whether a variable of this name holds a path or an id."""
    return name in _TECHNICAL_NAMES or name.endswith(_TECHNICAL_ENDS)


@cache
def _bundle(language: Language) -> Bundle:
    read = (files("service.texts") / "bundles" / f"{language}.json").read_bytes()
    return MappingProxyType(orjson.loads(read)["templates"])
