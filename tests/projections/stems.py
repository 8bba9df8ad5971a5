"""The stems of the generated texts in plain Python, as PostgreSQL's text search has them.

It is a small dictionary of each language: only of the words that the generated texts have. Another
text may need another word here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

LANGUAGES: Final = {"en": "english", "fr": "french", "es": "spanish", "ar": "arabic"}

_WORD: Final = re.compile(r"""[^ \t\n\\"',;?=-]+""")
_LONGEST: Final = 2_046
_STOPPED: Final[Mapping[str, frozenset[str]]] = {
    "english": frozenset(["a", "and", "do", "he", "in", "is", "it", "no", "so", "the", "why"]),
    "spanish": frozenset(("he", "no")),
}
_LATIN: Final[dict[str, str]] = {"naïve": "naïv", "table": "tabl"}
_STEMS: Final[Mapping[str, dict[str, str]]] = {
    "english": _LATIN | {"empty": "empti"},
    "french": _LATIN,
    "spanish": _LATIN,
    "arabic": {"مرحبا": "مرحب", "بالعالم": "عالم"},
}


def texts(value: Any) -> Iterator[str]:
    """All texts in JSON, in the order in which PostgreSQL keeps the members of an object."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in cast(Iterable[Any], value):
            yield from texts(each)
    elif isinstance(value, dict):
        members = cast(Mapping[str, Any], value)
        for key in sorted(members, key=lambda key: (len(key.encode()), key.encode())):
            yield from texts(members[key])


def stems(language: str, text: str) -> str:
    """The stems of a text with their places; without a language, those of every language."""
    found: dict[str, list[int]] = {}
    for each in (language,) if language else (*LANGUAGES.values(), "simple"):
        last = max((place for places in found.values() for place in places), default=0)
        for stem, place in _stems(each, text):
            found.setdefault(stem, []).append(last + place)
    return " ".join(f"'{stem}':{_listed(found[stem])}" for stem in sorted(found, key=str.encode))


def _stems(language: str, text: str) -> Iterator[tuple[str, int]]:
    words = (word.strip(".").lower() for word in _WORD.findall(text))
    for place, word in enumerate((word for word in words if word), 1):
        if word not in _STOPPED.get(language, ()) and len(word) <= _LONGEST:
            known = _STEMS.get(language)
            yield (word if known is None or word not in known else known[word]), place


def _listed(places: list[int]) -> str:
    return ",".join(map(str, places))
