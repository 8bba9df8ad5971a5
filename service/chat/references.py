"""The places in the source that a reply names. Only places that exist are shown.

- A question's references must have their text in their line.
- A step of a plan names files. A file that is to be created is also in the `newFiles` of this step,
  or of an earlier one. Every other file must be there.
- A change of a fix creates its file, or changes or deletes one that must be there, or that an
  earlier change creates.

An entry is written a piece at a time, so it waits until it is whole; then it is looked up. What is
not there is left out, and the entries after it are numbered anew, so that what is shown is still
what the operations say.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

from domain.events import ReplyMode
from domain.replies.operations import Operation, fold

Contains = Callable[[str, int, str], Awaitable[bool]]
"""Whether a file of the project has this text in this line."""

Exists = Callable[[str], Awaitable[bool]]
"""Whether the project has this file or folder; true where that cannot be known."""

_ENTRY: Final[dict[ReplyMode, re.Pattern[str]]] = {
    "question": re.compile(r"(?P<group>)(?P<list>/references)/(?P<at>\d+)(?P<rest>/.*)?"),
    "feature": re.compile(
        r"(?P<group>/plan/steps/\d+)(?P<list>/files|/newFiles)/(?P<at>\d+)(?P<rest>/.*)?"
    ),
    "fix": re.compile(r"(?P<group>)(?P<list>/solution/changes)/(?P<at>\d+)(?P<rest>/.*)?"),
}
"""The paths of entries, by the mode of the reply. The entries of a group wait for its end."""

_REFERENCES: Final = "/references"
_NEW: Final = "/newFiles"


class References:
    """Owned by its generation. `left_out` counts the entries that are not in the source.

    `_waiting` has the operations of each entry that is not decided: by the path of its list, and by
    the index that the model gave the entry. All of them are below `_group`. `_kept` counts the
    entries of each list that were shown. `_new` are the files that the reply creates.
    """

    def __init__(self, contains: Contains, exists: Exists) -> None:
        self._contains = contains
        self._exists = exists
        self._group = ""
        self._waiting: dict[tuple[str, str], list[Operation]] = {}
        self._kept: dict[str, int] = {}
        self._new: set[str] = set()
        self.left_out = 0

    async def pass_on(self, mode: ReplyMode | None, ops: Sequence[Operation]) -> list[Operation]:
        """The operations that may be shown now, of a reply in this mode."""
        pattern = _ENTRY.get(mode) if mode is not None else None
        if pattern is None:
            return list(ops)
        passed: list[Operation] = []
        for op in ops:
            entry = pattern.fullmatch(op["path"])
            if self._is_over(op["path"], entry):
                passed += await self.close()
            if entry is None:
                passed.append(op)
                continue
            self._group = entry["group"]
            key = (entry["group"] + entry["list"], entry["at"])
            waiting = self._waiting.setdefault(key, [])
            waiting.append(cast(Operation, {**op, "path": entry["rest"] or ""}))
        return passed

    def _is_over(self, path: str, entry: re.Match[str] | None) -> bool:
        """Whether what waits is whole: the next operation is outside of it."""
        if not self._waiting:
            return False
        if self._group:
            return path != self._group and not path.startswith(f"{self._group}/")
        return entry is None or (entry["list"], entry["at"]) not in self._waiting

    async def close(self) -> list[Operation]:
        """The entries that wait, as far as they are in the source."""
        waiting, self._waiting = self._waiting, {}
        entries = [(path, fold(ops), ops) for (path, _), ops in waiting.items()]
        self._new |= {
            entry for path, entry, _ in entries if path.endswith(_NEW) and isinstance(entry, str)
        }
        shown: list[Operation] = []
        for path, entry, ops in entries:
            if not await self._is_correct(path, entry):
                self.left_out += 1
                continue
            at = self._kept.get(path, 0)
            self._kept[path] = at + 1
            shown += [cast(Operation, {**op, "path": f"{path}/{at}{op['path']}"}) for op in ops]
        return shown

    async def _is_correct(self, path: str, entry: Any) -> bool:
        """Whether an entry of this list may be shown. An entry of a plan that has another form may:
        that breaks the contract of the reply."""
        match entry:
            case {"file": str(file), "line": int(line), "snippet": str(snippet)}:
                return await self._contains(file, line, snippet)
            case _ if path == _REFERENCES:
                return False
            case {"file": str(file), "changeType": "create"}:
                self._new.add(file)
                return True
            case {"file": str(file), "changeType": str()} | str(file):
                return path.endswith(_NEW) or file in self._new or await self._exists(file)
            case _:
                return True
