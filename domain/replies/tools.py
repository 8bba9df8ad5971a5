"""What a planner may look at while it plans. Nothing here changes anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

ROUNDS: Final = 6
"""How often a planner may look before it has to answer."""

LOOKS_A_ROUND: Final = 8
MOST_CHARACTERS: Final = 120_000
"""How much it may have been shown, before it has to answer."""

_PATH: Final = {"type": "string", "description": "A path in the project, such as src/app.py."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A read-only tool, as the model gets it: `inputs` are JSON schemas by name."""

    name: str
    description: str
    inputs: Mapping[str, Any]
    required: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of its input."""
        return {
            "type": "object",
            "properties": dict(self.inputs),
            "required": list(self.required),
            "additionalProperties": False,
        }


SOURCE: Final = (
    Tool(
        name="list_files",
        description="The project's files below a folder, or all of them.",
        inputs={"path": _PATH},
    ),
    Tool(
        name="read_file",
        description="Lines of a file of the project, with their numbers.",
        inputs={
            "path": _PATH,
            "first_line": {"type": "integer", "description": "From 1; 1 unless given."},
            "lines": {"type": "integer", "description": "At most 400; 200 unless given."},
        },
        required=("path",),
    ),
    Tool(
        name="search_files",
        description="The lines that hold a text, whatever its case, in the project or a folder.",
        inputs={"text": {"type": "string", "description": "What to find."}, "path": _PATH},
        required=("text",),
    ),
)
"""Looks at the project's code."""

HISTORY: Final = (
    Tool(
        name="version_history",
        description="The versions of the project that were deployed, newest first.",
        inputs={},
    ),
    Tool(
        name="build_errors",
        description="The builds of the project that failed last, and why.",
        inputs={},
    ),
)
"""Looks at what was built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """The model asks for a look. `input` is what it wrote, whatever that is."""

    id: str
    name: str
    input: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A look and what it showed, or why it showed nothing."""

    use: ToolUse
    text: str
    is_error: bool = False
