"""What differs between two texts: word by word as data, and line by line as a unified diff.

Equal beginnings and ends are set apart first. What is left is compared only where that takes a
bounded time: by words, else by lines, else as a whole.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, Literal

OpKind = Literal["equal", "insert", "delete"]

MOST_WORK: Final = 50_000_000
"""The most comparisons of one diff: a second for the worst texts."""

_CONTEXT: Final = 3
_WORD: Final = re.compile(r"\S+\s*|\s+")
"""A word with the space after it. Spaces alone would be equal to too many others."""


@dataclass(frozen=True, slots=True)
class Op:
    """A piece of text that both texts have, or that one of them has."""

    op: OpKind
    text: str


Span = tuple[str, int, int, int, int]
"""A step as `difflib` has it: its kind, then a part of the old and a part of the new sequence."""


def word_ops(old: str, new: str) -> list[Op]:
    """The steps from the old text to the new one. Equal and deleted pieces together are the old
    text, equal and inserted pieces the new one."""
    for pieces in (_WORD.findall, _lines):
        before, after = pieces(old), pieces(new)
        spans = _spans(before, after)
        if spans is not None:
            return list(_ops(before, after, spans))
    return list(_ops([old], [new], [("replace", 0, 1, 0, 1)]))


def unified(old: str, new: str, old_name: str, new_name: str) -> str:
    """The unified diff of two texts, by lines; empty where they are equal."""
    before, after = old.split("\n"), new.split("\n")
    spans = _spans(before, after)
    if spans is None:
        spans = [("replace", 0, len(before), 0, len(after))]
    lines: list[str] = []
    for group in _Found(spans).get_grouped_opcodes(_CONTEXT):
        first, last = group[0], group[-1]
        lines.append(f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@")
        for kind, a, b, c, d in group:
            if kind == "equal":
                lines += [f" {line}" for line in before[a:b]]
            else:
                lines += [f"-{line}" for line in before[a:b]]
                lines += [f"+{line}" for line in after[c:d]]
    return "\n".join((f"--- {old_name}", f"+++ {new_name}", *lines, "")) if lines else ""


class _Found(SequenceMatcher[str]):
    """Steps that are known, for their groups."""

    def __init__(self, spans: list[Span]) -> None:
        super().__init__()
        self._spans = spans

    def get_opcodes(self) -> list[Any]:
        """The steps."""
        return self._spans


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _range(start: int, end: int) -> str:
    """The lines of a part, as a unified diff names them."""
    length = end - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"


def _spans(old: Sequence[str], new: Sequence[str]) -> list[Span] | None:
    """The steps between two sequences; None where finding them could take too long."""
    shorter = min(len(old), len(new))
    start = next((n for n in range(shorter) if old[n] != new[n]), shorter)
    rest = shorter - start
    end = next((n for n in range(rest) if old[-1 - n] != new[-1 - n]), rest)
    before, after = old[start : len(old) - end], new[start : len(new) - end]
    if _work(before, after) > MOST_WORK:
        return None
    found = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    spans: list[Span] = [("equal", 0, start, 0, start)] if start else []
    spans += [(kind, a + start, b + start, c + start, d + start) for kind, a, b, c, d in found]
    if end:
        spans.append(("equal", len(old) - end, len(old), len(new) - end, len(new)))
    return spans


def _work(old: Sequence[str], new: Sequence[str]) -> int:
    """The most comparisons for two sequences: each match is looked for among all equal pairs."""
    counted = Counter(new)
    pairs = sum(times * counted[piece] for piece, times in Counter(old).items())
    return (len(old) + pairs) * min(len(old), len(new))


def _ops(old: Sequence[str], new: Sequence[str], spans: Sequence[Span]) -> Iterator[Op]:
    for kind, a, b, c, d in spans:
        if kind == "equal":
            yield Op("equal", "".join(old[a:b]))
            continue
        if a < b:
            yield Op("delete", "".join(old[a:b]))
        if c < d:
            yield Op("insert", "".join(new[c:d]))
