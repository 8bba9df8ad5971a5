"""Replies and conversations as Markdown that one would paste into a ticket.

What comes from a model may hold anything, and a reply that was cut off may lack anything. So what
belongs in one line is made safe to stand there, prose of several lines stays as it is but leaves
nothing open behind it, and what is missing is left out.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Final, TypeAlias, cast

from domain.events import ChatMode, Json

Members: TypeAlias = Mapping[str, Json]
Blocks: TypeAlias = Iterator[str]
"""Parts of a document, with an empty line between each two. An empty one is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What somebody said, in Markdown. `at` has a time zone."""

    who: str
    at: datetime
    text: str


def reply(mode: ChatMode, data: Json) -> str:
    """A reply's data as a document. It may be incomplete or wrong in any way: it never raises."""
    return _document(_WRITERS[mode](_members(data)))


def conversation(title: str, entries: Iterable[Entry]) -> str:
    """What was said, in the order given, each under its author and time (UTC).

    The headings of an entry are lowered, so that they stay below the entry's own.
    """
    return _document(_conversation(title, entries))


def _document(blocks: Blocks) -> str:
    parts = [block for block in blocks if block]
    return "\n\n".join(parts) + "\n" if parts else ""


# documents ---------------------------------------------------------------------------------------


def _conversation(title: str, entries: Iterable[Entry]) -> Blocks:
    yield _heading(1, title)
    for entry in entries:
        at = entry.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        yield _heading(2, f"{entry.who} ({at})")
        yield _lowered(_prose(entry.text), levels=2)


def _question(data: Members) -> Blocks:
    yield _prose(data.get("answer"))
    yield from _section("References", map(_reference, _objects(data.get("references"))))
    yield from _section("Related topics", _bullets(data.get("relatedTopics")))


def _reference(reference: Members) -> str:
    location = _joined(":", _text(reference.get("file")), _text(reference.get("line")))
    snippet = _text(reference.get("snippet")).strip("\n")
    if "\n" in snippet:
        return _item(_joined("\n\n", _code(location), _fenced(snippet)))
    return _item(_joined(": ", _code(location), _code(snippet)))


def _feature(data: Members) -> Blocks:
    plan = _members(data.get("plan"))
    yield _prose(data.get("summary"))
    yield _fact("Feasibility", _line(data.get("feasibility")))
    yield from _headed("Overview", [_prose(plan.get("overview"))])
    yield from _headed("Steps", _steps(plan.get("steps")))
    yield from _section("Dependencies", map(_dependency, _objects(plan.get("dependencies"))))
    yield from _section("Risks", _bullets(plan.get("risks")))
    yield from _section("Alternatives", _bullets(plan.get("alternatives")))
    yield from _headed("Build prompt", [_fenced(_text(data.get("buildPrompt")))])


def _steps(steps: Json) -> Blocks:
    for position, step in enumerate(_objects(steps), 1):
        number = _text(step.get("order")) or str(position)
        yield _heading(3, f"{number}. {_text(step.get('title'))}")
        yield _prose(step.get("description"))
        yield _fact("Files", _joined(", ", *map(_code, _texts(step.get("files")))))
        yield _fact("Effort", _line(step.get("estimatedEffort")))


def _dependency(dependency: Members) -> str:
    package = _joined(" ", *(_code(_text(dependency.get(key))) for key in ("name", "version")))
    return _item(_joined(": ", package, _line(dependency.get("reason"))))


def _fix(data: Members) -> Blocks:
    issue, solution = _members(data.get("issue")), _members(data.get("solution"))
    yield from _headed("Issue", _issue(issue))
    yield from _headed("Root cause", [_prose(data.get("rootCause"))])
    yield from _headed("Solution", _solution(solution))
    yield from _section("Prevention", _bullets(data.get("preventionTips")))
    yield from _headed("Build prompt", [_fenced(_text(data.get("buildPrompt")))])


def _issue(issue: Members) -> Blocks:
    yield _prose(issue.get("description"))
    yield _fact("Severity", _line(issue.get("severity")))
    yield _fact("Category", _line(issue.get("category")))


def _solution(solution: Members) -> Blocks:
    yield _prose(solution.get("approach"))
    changes = map(_change, _objects(solution.get("changes")))
    yield from _section("Changes", changes, level=3)
    yield from _headed("Testing", [_prose(solution.get("testingStrategy"))], level=3)


def _change(change: Members) -> str:
    subject = _joined(" ", _line(change.get("changeType")), _code(_text(change.get("file"))))
    description = _prose(change.get("description"))
    if "\n" in description:
        return _item(_joined("\n\n", subject, description), box=True)
    return _item(_joined(": ", subject, _line(description)), box=True)


def _analysis(data: Members) -> Blocks:
    yield _prose(data.get("overview"))
    yield from _headed("Findings", _findings(data.get("findings")))
    metrics = [(each.get("name"), each.get("value")) for each in _objects(data.get("metrics"))]
    yield from _headed("Metrics", [_table("Name", "Value", metrics)])
    yield from _headed("Visualizations", _visualizations(data.get("visualizations")))


def _findings(findings: Json) -> Blocks:
    for finding in _objects(findings):
        yield _heading(3, _text(finding.get("title")))
        yield _prose(finding.get("description"))
        yield _fact("Category", _line(finding.get("category")))
        yield _fact("Impact", _line(finding.get("impact")))
        tasks = _bullets(finding.get("recommendations"), box=True)
        yield from _section("Recommendations", tasks, level=4)


def _visualizations(visualizations: Json) -> Blocks:
    for shown in _objects(visualizations):
        yield _heading(3, _text(shown.get("title")))
        yield _fact("Type", _line(shown.get("type")))
        rows = zip_longest(_texts(shown.get("labels")), _texts(shown.get("values")), fillvalue="")
        yield _table("Label", "Value", rows)


def _general(data: Members) -> Blocks:
    yield _prose(data.get("markdown"))


_WRITERS: Final[Mapping[ChatMode, Callable[[Members], Blocks]]] = {
    "question": _question,
    "feature": _feature,
    "fix": _fix,
    "analysis": _analysis,
    "general": _general,
}


# what there is of the data -----------------------------------------------------------------------


def _members(value: Json) -> Members:
    return cast(Members, value) if isinstance(value, dict) else {}


def _items(value: Json) -> list[Json]:
    return list(cast(Iterable[Json], value)) if isinstance(value, list) else []


def _objects(value: Json) -> list[Members]:
    return [_members(item) for item in _items(value)]


def _text(value: Json) -> str:
    """A text with `\\n` between its lines, or a number; nothing in the place of anything else."""
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _texts(value: Json) -> list[str]:
    return [_text(item) for item in _items(value)]


# blocks ------------------------------------------------------------------------------------------


def _headed(title: str, blocks: Iterable[str], level: int = 2) -> Blocks:
    """Blocks under a heading, if there are any."""
    parts = [block for block in blocks if block]
    if parts:
        yield _heading(level, title)
        yield from parts


def _section(title: str, items: Iterable[str], level: int = 2) -> Blocks:
    """A list under a heading, if it has items."""
    return _headed(title, ["\n".join(item for item in items if item)], level)


def _heading(level: int, text: str) -> str:
    # Marks at the end would be taken for the heading's own.
    line = re.sub(r"(?<![^ ])(#+)$", r"\\\1", _line(text))
    return f"{'#' * level} {line}" if line else ""


def _fact(name: str, line: str) -> str:
    return f"**{name}:** {line}" if line else ""


def _bullets(value: Json, *, box: bool = False) -> list[str]:
    return [_item(_line(text), box=box) for text in _texts(value)]


def _item(text: str, *, box: bool = False) -> str:
    """An item of a list, or with a box a task; further lines stay within it."""
    if not text:
        return ""
    first, *others = text.split("\n")
    start = f"- [ ] {first}" if box else f"- {_at_start(first)}"
    return "\n".join([start, *(f"  {line}" if line else "" for line in others)])


def _table(name: str, value: str, rows: Iterable[tuple[Json, Json]]) -> str:
    cells = [(_cell(left), _cell(right)) for left, right in rows]
    lines = [f"| {left} | {right} |" for left, right in cells if left or right]
    return "\n".join([f"| {name} | {value} |", "| --- | --- |", *lines]) if lines else ""


def _fenced(text: str) -> str:
    """A block of code that holds any text."""
    text = text.strip("\n")
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}\n{text}\n{fence}" if text.strip() else ""


def _prose(value: Json) -> str:
    """Markdown of several lines as it is, and what closes the code that it leaves open."""
    text = _text(value).strip("\n")
    return _joined("\n", text, _Reader().read(text)) if text.strip() else ""


# lines -------------------------------------------------------------------------------------------

# A tag, unless it is code. A pair of backtick runs is code, whatever their lengths: near enough.
_TAG: Final = re.compile(r"(?<!`)(`+[^`]*`+)|<(?=[A-Za-z/!?])")

_BLOCK_START: Final = re.compile(
    r"""(?: \#{1,6}(?=\ |$) | [-+*](?=\ |$) | > | `{3,}(?=[^`]*$) | ~{3,} | \[[^]]*\]:
        | [-_*](?:\ ?[-_*])+$ | (?P<number>\d{1,9})[.)](?=\ |$) )""",
    re.VERBOSE,
)


def _line(value: Json) -> str:
    """One line of Markdown without tags; all white space is a space."""
    flat = " ".join(_text(value).split())
    return _TAG.sub(lambda found: found[1] or r"\<", flat)


def _at_start(line: str) -> str:
    """The line where a block may begin: it begins none."""
    if not (found := _BLOCK_START.match(line)):
        return line
    end = found.end("number") if found["number"] else 0
    return f"{line[:end]}\\{line[end:]}"


def _cell(value: Json) -> str:
    """A line in a table. How many backslashes end one is read in different ways: one is not."""
    return re.sub(r"(?<!\\)\\*\|", r"\\|", _line(value))


def _code(text: str) -> str:
    """A line as code, whatever is in it."""
    flat = " ".join(text.split())
    mark = "`" * (_longest_run(flat) + 1)
    space = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{mark}{space}{flat}{space}{mark}" if flat else ""


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _joined(between: str, *parts: str) -> str:
    return between.join(part for part in parts if part)


# reading Markdown --------------------------------------------------------------------------------

_MARKER: Final = r"(?:[-+*]|\d{1,9}[.)])"
_ITEM: Final = re.compile(rf"( *{_MARKER})(?= |$)( *)")
_RULE: Final = re.compile(r"[ \t]*([-_*])[ \t]*(?:\1[ \t]*){2,}")
_FENCE: Final = re.compile(
    rf"(?P<prefix>[ \t>]*(?:{_MARKER}[ \t>]+)*)(?P<run>`{{3,}}(?=[^`]*$)|~{{3,}})"
)
_FENCE_END: Final = re.compile(r"[ \t>]*(?P<run>`{3,}|~{3,})[ \t]*")
_RAW: Final = re.compile(r" {0,3}<(!--|(?:pre|script|style|textarea)(?=[\s>]|$))", re.IGNORECASE)
_HASHES: Final = re.compile(r"( {0,3})(#{1,6})(?=[ \t]|$)")
_UNDERLINE: Final = re.compile(r"( {0,3})(=+|-+)[ \t]*")


@dataclass(frozen=True, slots=True)
class _Fence:
    """A fence that is open. `column` is where the list item begins that it is in, or 0."""

    prefix: str
    run: str
    column: int

    @property
    def end(self) -> str:
        """The line that closes it."""
        return re.sub(r"[^ \t>]", " ", self.prefix) + self.run

    @property
    def is_quoted(self) -> bool:
        return ">" in self.prefix

    def is_left_by(self, line: str) -> bool:
        """Whether the line is outside of the quote or item that the fence is in."""
        if not line.strip():
            return False
        return not line.lstrip().startswith(">") if self.is_quoted else _indent(line) < self.column

    def is_closed_by(self, line: str) -> bool:
        found = _FENCE_END.fullmatch(line)
        if not found or not found["run"].startswith(self.run):
            return False
        return self.is_quoted or (">" not in line and _indent(line) - self.column <= 3)


class _Reader:
    """Reads Markdown by lines, as far as needed to know which of them are code, and what is open.

    The end of a list or a quote ends what is open in it, so where they end is read as well: well
    enough for what people and models write, and for that cut off anywhere.
    """

    def __init__(self) -> None:
        self._fence: _Fence | None = None
        self._raw = ""  # what ends the raw HTML that is open
        self._columns: list[int] = []  # where the items begin that are open, each in the one before
        self._after_blank = True

    def read(self, text: str) -> str:
        """What closes the text; nothing if nothing is open at its end."""
        for line in text.split("\n"):
            self.is_code(line)
        return self._fence.end if self._fence else self._raw

    def is_code(self, line: str) -> bool:
        """Whether the next line is code or raw HTML, or begins or ends it."""
        if self._fence and self._fence.is_left_by(line):
            self._fence, self._after_blank = None, True
        if self._fence:
            if self._fence.is_closed_by(line):
                self._fence = None
            return True
        if not self._raw:
            self._begin(line)
        was_raw = bool(self._raw)
        if self._raw and self._raw in line.lower():
            self._raw = ""
        return was_raw or self._fence is not None

    def _begin(self, line: str) -> None:
        fence, raw = _FENCE.match(line), _RAW.match(line)
        self._track_lists(line, is_block=bool(fence or raw or _HASHES.match(line)))
        column = self._columns[-1] if self._columns else 0
        if fence and (fence["prefix"].strip() or _indent(line) - column <= 3):
            self._fence = _Fence(fence["prefix"], fence["run"], column)
        elif raw and not column:
            self._raw = "-->" if raw[1] == "!--" else f"</{raw[1].lower()}>"

    def _track_lists(self, line: str, *, is_block: bool) -> None:
        """A line further left ends an item, unless it goes on with the words of the last one."""
        if not line.strip():
            self._after_blank = True
            return
        indent, wide = _indent(line), line.expandtabs(4)
        item = None if _RULE.fullmatch(line) else _ITEM.match(wide)
        if item or is_block or self._after_blank:
            while self._columns and indent < self._columns[-1]:
                self._columns.pop()
        self._after_blank = False
        while item:
            # What is further away is code in the item, or nothing.
            is_far = len(item[2]) > 4 or item.end() == len(wide)
            self._columns.append(item.end(1) + 1 if is_far else item.end())
            item = None if is_far else _ITEM.match(wide, item.end())


def _indent(line: str) -> int:
    """How many columns of white space the line begins with."""
    wide = line.expandtabs(4)
    return len(wide) - len(wide.lstrip(" "))


def _lowered(text: str, levels: int) -> str:
    """The Markdown with its headings so many levels lower; what is underlined becomes text."""
    reader, lines = _Reader(), list[str]()
    before = ""
    for line in text.split("\n"):
        if reader.is_code(line):
            lowered, before = line, ""
        else:
            lowered = _HASHES.sub(lambda found: _lower(found, levels), line, count=1)
            if before.strip() and _UNDERLINE.fullmatch(line):
                lowered = _UNDERLINE.sub(r"\1\\\2", line)
            before = line
        lines.append(lowered)
    return "\n".join(lines)


def _lower(found: re.Match[str], levels: int) -> str:
    return found[1] + "#" * min(6, len(found[2]) + levels)
