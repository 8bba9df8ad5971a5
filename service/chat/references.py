"""The references of an answer, held against the project's source: only what is there is passed on.

A reference is written a piece at a time, so it waits until it is whole; then it is looked up. Those
that are not in the source are left out, and the others close ranks, so that what is shown is still
what the operations say.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

from domain.operations import Operation, fold

Holds = Callable[[str, int, str], Awaitable[bool]]
"""Whether a file of the project has this text in this line."""

_BELOW: Final = re.compile(r"/references/(\d+)(/.*)?")


class References:
    """Owned by its conversation. `left_out` counts those that are not in the source."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._held: list[Operation] = []
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
                self._held.append(cast(Operation, {**op, "path": below[2] or ""}))
            else:
                passed.append(op)
        return passed

    async def close(self) -> list[Operation]:
        """The reference that was held, if it is in the source."""
        held, self._held = self._held, []
        if not held:
            return []
        if not await self._is_there(fold(held)):
            self.left_out += 1
            return []
        place = f"/references/{self._kept}"
        self._kept += 1
        return [cast(Operation, {**op, "path": place + op["path"]}) for op in held]

    async def _is_there(self, reference: Any) -> bool:
        match reference:
            case {"file": str(file), "line": int(line), "snippet": str(snippet)}:
                return await self._holds(file, line, snippet)
            case _:
                return False
