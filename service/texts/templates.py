"""The texts of the service in each language: templates and their variables.

A message is stored and sent as a template's key with its variables, and each reader renders it. The
bundles are JSON files, so that a web client can render with the same templates:
`{"contractVersion": "1.0", "templates": {"<key>": "text with {variable}"}}`.

The values of variables are not trusted. They are filled in as they are: a value is never read as a
template, and a change of direction in it does not reach the text around it.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

import orjson

from domain.replies import questions

Language = Literal["en", "fr", "es", "ar"]
Bundle: TypeAlias = Mapping[str, str]

LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
FALLBACK: Final[Language] = "en"
CONTRACT_VERSION: Final = "1.0"
"""The version of the keys and their variables, in the bundles and in stored messages."""

_RIGHT_TO_LEFT: Final = frozenset(
    ("ar", "ckb", "dv", "fa", "he", "iw", "ps", "sd", "syr", "ug", "ur", "yi")
)
"""The languages that are written from right to left. Only some of them have a bundle."""

Direction = Literal["ltr", "rtl"]
_MOST_LANGUAGES: Final = 20
"""The most entries of an Accept-Language header that are read."""
_WEIGHT: Final = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")

_VARIABLE: Final = re.compile(r"\{(\w+)\}")
_NUMBER: Final = re.compile(r"[-+]?[0-9]+(?:[.,][0-9]+)*")

_TECHNICAL_NAMES: Final = frozenset({"id", "branch", "commit"})
_TECHNICAL_ENDS: Final = ("_id", "_path", "file", "path", "url")

# Embeddings, overrides and isolates. They could end the isolate around a value.
_DIRECTIONS: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
FIRST_STRONG_ISOLATE: Final = "\u2068"
POP_ISOLATE: Final = "\u2069"


def language_of(locale: str) -> Language:
    """The language of a locale, `ar` for `ar-EG`; English for a language without a bundle."""
    language = questions.language(locale)
    return language if language in LANGUAGES else FALLBACK


def has_bundle(locale: str) -> bool:
    """Whether the service has texts in the locale's language."""
    return questions.language(locale) in LANGUAGES


def direction_of(locale: str) -> Direction:
    """The direction in which the locale's language is written."""
    return "rtl" if questions.language(locale) in _RIGHT_TO_LEFT else "ltr"


def preferred(accept_language: str) -> Language | None:
    """The language with a bundle that an Accept-Language header prefers; None without any."""
    wanted: dict[Language, float] = {}
    for entry in accept_language.split(",")[:_MOST_LANGUAGES]:
        tag, _, parameter = (part.strip() for part in entry.partition(";"))
        weight = _WEIGHT.fullmatch(parameter)
        if has_bundle(tag) and (weight or not parameter):
            wanted.setdefault(language_of(tag), float(weight[1]) if weight else 1.0)
    best = max(wanted, key=lambda each: wanted[each], default=None)
    return best if best is not None and wanted[best] > 0 else None


def bundle(locale: str) -> Bundle:
    """The templates of a locale's language by key. Callers must not change it."""
    return _bundle(language_of(locale))


def render(template: str, variables: Mapping[str, object], locale: str) -> str:
    """The text of the template with this key, with its variables filled in.

    A value is isolated (U+2068, U+2069) where the text could run in the wrong direction: a path or
    an id always, and every value but numbers in a language that is written from right to left.
    Raises KeyError for an unknown key and for a missing variable.
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
