"""The tools with which the model reads a project: its code, its versions, its failed builds.

Reading code is blocking work, so it goes to one of the few threads of the loop's own pool.
"""

import asyncio
from typing import Any, Final, cast

from domain.events import Context
from domain.replies.tools import HISTORY, SOURCE, Tool, ToolCall, ToolUse
from projections import builds, versions
from projections.projects import ProjectRow
from service.eventlog.errors import DATABASE_AWAY
from service.eventlog.store import END
from service.postgres.connections import Pool, tenant_transaction
from service.source.jail import Source, Sources
from service.source.results import SourceRefused

SECONDS: Final = 10.0
"""How long one tool call may take."""

SUMMARY_CHARACTERS: Final = 120
_NEWEST: Final = 10
_PARAMETERS: Final = {tool.name: set(tool.inputs) for tool in (*SOURCE, *HISTORY)}


class BadInput(Exception):
    """The model called a tool in a way that makes no sense."""


class ProjectTools:
    """What one turn may read of its project. Owned by its task."""

    def __init__(
        self, sources: Sources, pool: Pool, project: ProjectRow, *, tenant_id: str
    ) -> None:
        self._sources = sources
        self._pool = pool
        self._project = project
        self._tenant_id = tenant_id
        self._source: Source | None = None

    async def open(self) -> tuple[Tool, ...]:
        """Find the project's source; returns the tools that have something to read."""
        if self._project.source_root is not None:
            self._source = await asyncio.to_thread(
                self._sources.of, self._tenant_id, self._project.source_root
            )
        return (
            *(SOURCE if self._source is not None else ()),
            *(HISTORY if self._project.last_build_id is not None else ()),
        )

    async def call(self, use: ToolUse) -> ToolCall:
        """Call a tool for the model. A call that fails has an error as its result."""
        try:
            async with asyncio.timeout(SECONDS):
                return ToolCall(use=use, text=await self._result(use.name, use.input))
        except (BadInput, SourceRefused) as refused:
            return ToolCall(use=use, text=str(refused), is_error=True)
        except (TimeoutError, *DATABASE_AWAY):
            return ToolCall(use=use, text="This cannot be looked at now.", is_error=True)

    async def contains(self, file: str, line: int, snippet: str) -> bool:
        """Whether the project's source has this text there."""
        if self._source is None:
            return False
        try:
            async with asyncio.timeout(SECONDS):
                return await asyncio.to_thread(self._source.holds, file, line, snippet)
        except TimeoutError:
            return False

    async def exists(self, path: str) -> bool:
        """Whether the project has this file or folder; true where its source cannot be seen."""
        if self._source is None:
            return True
        try:
            async with asyncio.timeout(SECONDS):
                return await asyncio.to_thread(self._source.has, path)
        except TimeoutError:
            return True

    async def context(self, asked: tuple[Context, ...]) -> list[str]:
        """What the model gets without a call, as the user asked; calls that fail are left out."""
        names = {"project_structure": "list_files"}
        results: list[str] = []
        for each in asked:
            call = await self.call(ToolUse(id=each, name=names.get(each, each), input={}))
            if not call.is_error:
                results.append(f"{each.replace('_', ' ').capitalize()}:\n{call.text}")
        return results

    async def _result(self, name: str, given: Any) -> str:
        if name not in _PARAMETERS:
            raise BadInput("There is no such tool.")
        asked = _asked(given)
        if asked is None or not asked.keys() <= _PARAMETERS[name]:
            raise BadInput(f"{name} takes {', '.join(sorted(_PARAMETERS[name])) or 'nothing'}.")
        match name:
            case "version_history":
                return await self._versions()
            case "build_errors":
                return await self._build_errors()
            case _:
                return await self._code(name, asked)

    async def _code(self, name: str, given: dict[str, Any]) -> str:
        if self._source is None:
            raise BadInput("The project's source cannot be seen.")
        path, text = given.get("path", ""), given.get("text", "")
        first, lines = given.get("first_line", 1), given.get("lines", 200)
        if not isinstance(path, str) or not isinstance(text, str):
            raise BadInput("path and text are texts.")
        if type(first) is not int or type(lines) is not int:
            raise BadInput("first_line and lines are whole numbers.")
        match name:
            case "list_files":
                return (await asyncio.to_thread(self._source.list_files, path)).text
            case "search_files":
                return (await asyncio.to_thread(self._source.search_files, text, path)).text
            case _:
                return (await asyncio.to_thread(self._source.read_file, path, first, lines)).text

    async def _versions(self) -> str:
        async with tenant_transaction(self._pool, self._tenant_id) as connection:
            found = await versions.newest(
                connection,
                tenant_id=self._tenant_id,
                project_id=self._project.project_id,
                before=END,
                limit=_NEWEST,
            )
        lines = [f"{each.version_id}  {each.deployed_at:%Y-%m-%d %H:%M} UTC" for each in found]
        return "\n".join(lines) or "Nothing was deployed yet."

    async def _build_errors(self) -> str:
        async with tenant_transaction(self._pool, self._tenant_id) as connection:
            found = await builds.of_project(
                connection,
                tenant_id=self._tenant_id,
                project_id=self._project.project_id,
                status="failed",
                before=END,
                limit=_NEWEST,
            )
        lines = [f"{each.queued_at:%Y-%m-%d %H:%M} UTC  {each.error}" for each in found]
        return "\n".join(lines) or "No build has failed."


def _asked(given: Any) -> dict[str, Any] | None:
    """The input of a tool call, if it is an object."""
    return cast(dict[str, Any], given) if isinstance(given, dict) else None


def summary(use: ToolUse) -> str:
    """What a tool call reads, in a few words, for the readers of the reply."""
    said = " ".join(str(each) for each in (_asked(use.input) or {}).values())
    return f"{use.name} {said}".strip()[:SUMMARY_CHARACTERS]
