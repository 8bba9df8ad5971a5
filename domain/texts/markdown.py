"""Replies and conversations as Markdown, for example for a ticket.

The text of a model may contain any Markdown, and a reply that was cut off may lack any member. So a
value that belongs in one line is escaped, prose of several lines stays as it is but gets the end of
a code block that it leaves open, and a missing member is left out.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Final, TypeAlias, cast

from domain.events import Json, ReplyMode
from domain.texts.markdown_reader import MarkdownReader, lowered
from domain.texts.markdown_titles import Titles, titles_of

Members: TypeAlias = Mapping[str, Json]
Blocks: TypeAlias = Iterator[str]
"""Parts of a document. An empty line goes between two parts; empty parts are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A message or reply in Markdown, its author `who`, and its time `at`, with a time zone."""

    who: str
    at: datetime
    text: str


def reply(mode: ReplyMode, data: Json, locale: str = "en") -> str:
    """A reply's data as a document, with headings in the locale's language.

    Never raises, even for incomplete or malformed data.
    """
    return _document(_WRITERS[mode](_members(data), titles_of(locale)))


def conversation(title: str, entries: Iterable[Entry], locale: str = "en") -> str:
    """The entries in the order given, each under a heading with its author and time (UTC).

    The headings inside an entry are lowered below the entry's own heading.
    """
    whole = heading(title) + "".join(said(entry, locale) for entry in entries)
    return whole.removeprefix("\n")


def heading(title: str) -> str:
    """The beginning of a conversation: its title as a heading, nothing for an empty title."""
    return _document(iter([_heading(1, title)]))


def said(entry: Entry, locale: str = "en") -> str:
    """An entry of a conversation, after what the document has so far."""
    return f"\n{_document(_said(entry, titles_of(locale)))}"


def _document(blocks: Blocks) -> str:
    parts = [block for block in blocks if block]
    return "\n\n".join(parts) + "\n" if parts else ""


# documents ---------------------------------------------------------------------------------------


def _said(entry: Entry, titles: Titles) -> Blocks:
    at = entry.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    who = titles.apart(entry.who)
    yield _heading(2, f"{titles.mark}{who} ({titles.apart(at)})")
    yield lowered(_prose(entry.text), levels=2)


def _question(data: Members, titles: Titles) -> Blocks:
    yield _prose(data.get("answer"))
    yield from _section(
        titles["References"],
        (_reference(each, titles) for each in _objects(data.get("references"))),
    )
    yield from _section(titles["Related topics"], _bullets(data.get("relatedTopics")))


def _reference(reference: Members, titles: Titles) -> str:
    location = _joined(":", _text(reference.get("file")), _text(reference.get("line")))
    snippet = _text(reference.get("snippet")).strip("\n")
    if "\n" in snippet:
        return _item(_joined("\n\n", titles.apart(_code(location)), _fenced(snippet)))
    line = _joined(": ", *(titles.apart(_code(each)) for each in (location, snippet)))
    return _item(titles.mark + line if line else "")


def _feature(data: Members, titles: Titles) -> Blocks:
    plan = _members(data.get("plan"))
    yield _prose(data.get("summary"))
    yield _fact(titles, "Feasibility", titles[_line(data.get("feasibility"))])
    yield from _headed(titles["Overview"], [_prose(plan.get("overview"))])
    yield from _headed(titles["Steps"], _steps(plan.get("steps"), titles))
    yield from _section(
        titles["Dependencies"],
        (_dependency(each, titles) for each in _objects(plan.get("dependencies"))),
    )
    yield from _section(titles["Risks"], _bullets(plan.get("risks")))
    yield from _section(titles["Alternatives"], _bullets(plan.get("alternatives")))
    yield from _headed(titles["Build prompt"], [_fenced(_text(data.get("buildPrompt")))])


def _steps(steps: Json, titles: Titles) -> Blocks:
    for position, step in enumerate(_objects(steps), 1):
        number = _text(step.get("order")) or str(position)
        yield _heading(3, f"{number}. {_text(step.get('title'))}")
        yield _prose(step.get("description"))
        yield _fact(titles, "Files", _files(step.get("files"), titles))
        yield _fact(titles, "New files", _files(step.get("newFiles"), titles))
        yield _fact(titles, "Effort", titles[_line(step.get("estimatedEffort"))])


def _files(files: Json, titles: Titles) -> str:
    return _joined(", ", *(titles.apart(_code(each)) for each in _texts(files)))


def _dependency(dependency: Members, titles: Titles) -> str:
    package = _joined(" ", *(_code(_text(dependency.get(key))) for key in ("name", "version")))
    return _item(_joined(": ", titles.apart(package), _line(dependency.get("reason"))))


def _fix(data: Members, titles: Titles) -> Blocks:
    issue, solution = _members(data.get("issue")), _members(data.get("solution"))
    yield from _headed(titles["Issue"], _issue(issue, titles))
    yield from _headed(titles["Root cause"], [_prose(data.get("rootCause"))])
    yield from _headed(titles["Solution"], _solution(solution, titles))
    yield from _section(titles["Prevention"], _bullets(data.get("preventionTips")))
    yield from _headed(titles["Build prompt"], [_fenced(_text(data.get("buildPrompt")))])


def _issue(issue: Members, titles: Titles) -> Blocks:
    yield _prose(issue.get("description"))
    yield _fact(titles, "Severity", titles[_line(issue.get("severity"))])
    yield _fact(titles, "Category", _line(issue.get("category")))


def _solution(solution: Members, titles: Titles) -> Blocks:
    yield _prose(solution.get("approach"))
    changes = (_change(each, titles) for each in _objects(solution.get("changes")))
    yield from _section(titles["Changes"], changes, level=3)
    yield from _headed(titles["Testing"], [_prose(solution.get("testingStrategy"))], level=3)


def _change(change: Members, titles: Titles) -> str:
    file = titles.apart(_code(_text(change.get("file"))))
    subject = _joined(" ", titles[_line(change.get("changeType"))], file)
    description = _prose(change.get("description"))
    if "\n" in description:
        return _item(_joined("\n\n", subject, description), box=True)
    return _item(_joined(": ", subject, _line(description)), box=True)


def _analysis(data: Members, titles: Titles) -> Blocks:
    yield _prose(data.get("overview"))
    yield from _headed(titles["Findings"], _findings(data.get("findings"), titles))
    metrics = [(each.get("name"), each.get("value")) for each in _objects(data.get("metrics"))]
    yield from _headed(titles["Metrics"], [_table(titles["Name"], titles["Value"], metrics)])
    yield from _headed(
        titles["Visualizations"], _visualizations(data.get("visualizations"), titles)
    )


def _findings(findings: Json, titles: Titles) -> Blocks:
    for finding in _objects(findings):
        yield _heading(3, _text(finding.get("title")))
        yield _prose(finding.get("description"))
        yield _fact(titles, "Category", _line(finding.get("category")))
        yield _fact(titles, "Impact", _line(finding.get("impact")))
        tasks = _bullets(finding.get("recommendations"), box=True)
        yield from _section(titles["Recommendations"], tasks, level=4)


def _visualizations(visualizations: Json, titles: Titles) -> Blocks:
    for shown in _objects(visualizations):
        yield _heading(3, _text(shown.get("title")))
        yield _fact(titles, "Type", _line(shown.get("type")))
        rows = zip_longest(_texts(shown.get("labels")), _texts(shown.get("values")), fillvalue="")
        yield _table(titles["Label"], titles["Value"], rows)


def _general(data: Members, _: Titles) -> Blocks:
    yield _prose(data.get("markdown"))


def _improvement(data: Members, titles: Titles) -> Blocks:
    yield _prose(data.get("analysis"))
    yield from _headed(titles["Improved prompt"], [_fenced(_text(data.get("improvedPrompt")))])
    yield from _section(titles["Changes"], _bullets(data.get("changes")))


_WRITERS: Final[Mapping[ReplyMode, Callable[[Members, Titles], Blocks]]] = {
    "question": _question,
    "feature": _feature,
    "fix": _fix,
    "analysis": _analysis,
    "general": _general,
    "improvement": _improvement,
}


# reading the data -------------------------------------------------------------------------------


def _members(value: Json) -> Members:
    return cast(Members, value) if isinstance(value, dict) else {}


def _items(value: Json) -> list[Json]:
    return list(cast(Iterable[Json], value)) if isinstance(value, list) else []


def _objects(value: Json) -> list[Members]:
    return [_members(item) for item in _items(value)]


def _text(value: Json) -> str:
    """A string with `\\n` between its lines, or a number as text; "" for any other value."""
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _texts(value: Json) -> list[str]:
    return [_text(item) for item in _items(value)]


# blocks ------------------------------------------------------------------------------------------


def _headed(title: str, blocks: Iterable[str], level: int = 2) -> Blocks:
    """Blocks under a heading; nothing where all blocks are empty."""
    parts = [block for block in blocks if block]
    if parts:
        yield _heading(level, title)
        yield from parts


def _section(title: str, items: Iterable[str], level: int = 2) -> Blocks:
    """A list under a heading; nothing where the list has no items."""
    return _headed(title, ["\n".join(item for item in items if item)], level)


def _heading(level: int, text: str) -> str:
    # Markdown drops number signs at the end of a heading.
    line = re.sub(r"(?<![^ ])(#+)$", r"\\\1", _line(text))
    return f"{'#' * level} {line}" if line else ""


def _fact(titles: Titles, name: str, line: str) -> str:
    return f"**{titles[name]}{titles.colon}** {line}" if line else ""


def _bullets(value: Json, *, box: bool = False) -> list[str]:
    return [_item(_line(text), box=box) for text in _texts(value)]


def _item(text: str, *, box: bool = False) -> str:
    """An item of a list, with `box` a task. Further lines are indented, so they stay in it."""
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
    """A fenced block of code. The fence is longer than any run of backticks in the text."""
    text = text.strip("\n")
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}\n{text}\n{fence}" if text.strip() else ""


def _prose(value: Json) -> str:
    """Markdown of several lines, unchanged, and the end of the code block that it leaves open."""
    text = _text(value).strip("\n")
    return _joined("\n", text, MarkdownReader().read(text)) if text.strip() else ""


# lines -------------------------------------------------------------------------------------------

# A tag outside of code. Simplified: a pair of backtick runs is code, even of unequal lengths.
_TAG: Final = re.compile(r"(?<!`)(`+[^`]*`+)|<(?=[A-Za-z/!?])")

_BLOCK_START: Final = re.compile(
    r"""(?: \#{1,6}(?=\ |$) | [-+*](?=\ |$) | > | `{3,}(?=[^`]*$) | ~{3,} | \[[^]]*\]:
        | [-_*](?:\ ?[-_*])+$ | (?P<number>\d{1,9})[.)](?=\ |$) )""",
    re.VERBOSE,
)


def _line(value: Json) -> str:
    """One line of Markdown: tags are escaped, each run of white space becomes a space."""
    flat = " ".join(_text(value).split())
    return _TAG.sub(lambda found: found[1] or r"\<", flat)


def _at_start(line: str) -> str:
    """The line with an escape, if it would begin a block such as a list or a quote."""
    if not (found := _BLOCK_START.match(line)):
        return line
    end = found.end("number") if found["number"] else 0
    return f"{line[:end]}\\{line[end:]}"


def _cell(value: Json) -> str:
    """A line for a table. Exactly one backslash escapes a bar: renderers disagree about more."""
    return re.sub(r"(?<!\\)\\*\|", r"\\|", _line(value))


def _code(text: str) -> str:
    """Any text as code in one line."""
    flat = " ".join(text.split())
    mark = "`" * (_longest_run(flat) + 1)
    space = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{mark}{space}{flat}{space}{mark}" if flat else ""


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _joined(between: str, *parts: str) -> str:
    return between.join(part for part in parts if part)
