"""The references of an answer, compared with the project's source: only correct ones are shown.

A reference is written a piece at a time, so it waits until it is whole; then it is looked up in the
source. References that are not there are left out, and the others are numbered anew, so that what
is shown is still what the operations say.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

from domain.operations import Operation, fold

Contains = Callable[[str, int, str], Awaitable[bool]]
"""Whether a file of the project has this text in this line."""

_BELOW: Final = re.compile(r"/references/(\d+)(/.*)?")


class References:
    """Owned by its generation. `left_out` counts the references that are not in the source.

    `_waiting` has the operations of one reference, the one at index `_at` of those that the model
    wrote; `_kept` counts the references that were shown.
    """

    def __init__(self, contains: Contains) -> None:
        self._contains = contains
        self._waiting: list[Operation] = []
        self._at = ""
        self._kept = 0
        self.left_out = 0

    async def pass_on(self, ops: Sequence[Operation]) -> list[Operation]:
        """The operations that may be shown now."""
        passed: list[Operation] = []
        for op in ops:
            below = _BELOW.fullmatch(op["path"])
            at = below[1] if below else ""
            if at != self._at:
                passed += await self.close()
            self._at = at
            if below:
                self._waiting.append(cast(Operation, {**op, "path": below[2] or ""}))
            else:
                passed.append(op)
        return passed

    async def close(self) -> list[Operation]:
        """The reference that waits, if it is in the source."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return []
        if not await self._is_correct(fold(waiting)):
            self.left_out += 1
            return []
        path = f"/references/{self._kept}"
        self._kept += 1
        return [cast(Operation, {**op, "path": path + op["path"]}) for op in waiting]

    async def _is_correct(self, reference: Any) -> bool:
        match reference:
            case {"file": str(file), "line": int(line), "snippet": str(snippet)}:
                return await self._contains(file, line, snippet)
            case _:
                return False
