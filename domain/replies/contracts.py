"""The contracts of a reply: the members of each kind of answer, in Python and as JSON schema.

A contract is used twice: as the schema of the model's structured output, and as the check before a
reply is stored. The docstrings of the classes below are the descriptions in
that schema, so they are written for the model as much as for the reader.

An optional field is absent, never null. So a reader of a stored reply has one case to handle, and
the schema needs no union for each optional field.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, Literal, get_origin

from pydantic import MISSING, BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from domain.events import ReplyMode as ReplyMode

CONTRACT_VERSION: Final = "chat-plan-stream/1"

FAULTS_SHOWN: Final = 20  # more would fill the log


class BrokenContract(ValueError):
    """A reply breaks its contract. Each fault is `pointer: kind`, without text of the reply."""

    def __init__(self, mode: ReplyMode, faults: tuple[str, ...]) -> None:
        super().__init__(f"{mode}: {'; '.join(faults)}")
        self.mode = mode
        self.faults = faults


class Contract(BaseModel):
    """An object of a reply: camelCase on the wire, nothing coerced, nothing unknown, frozen."""

    model_config = ConfigDict(
        alias_generator=to_camel, strict=True, extra="forbid", frozen=True, allow_inf_nan=False
    )


# question ----------------------------------------------------------------------------------------


class Reference(Contract):
    """A place in the project's source that shows what was said."""

    file: str
    line: int
    snippet: str


class QuestionResponse(Contract):
    """Intent `question`: an answer in Markdown about the project as it is."""

    answer: str
    references: list[Reference] | MISSING = MISSING
    related_topics: list[str] | MISSING = MISSING


# feature -----------------------------------------------------------------------------------------


class Step(Contract):
    """One step of a plan; `order` counts from 1, `files` are paths in the project. A file that the
    step creates is in `newFiles` as well."""

    order: int
    title: str
    description: str
    files: list[str]
    estimated_effort: Literal["low", "medium", "high"]
    new_files: list[str] | MISSING = MISSING


class Dependency(Contract):
    """A package the plan adds."""

    name: str
    version: str | MISSING = MISSING
    reason: str


class Plan(Contract):
    """How a feature is to be built."""

    overview: str
    steps: list[Step]
    dependencies: list[Dependency]
    risks: list[str]
    alternatives: list[str] | MISSING = MISSING


class FeaturePlanResponse(Contract):
    """Intent `feature`: a plan for something new; `buildPrompt` is the order to build it."""

    summary: str
    feasibility: Literal["simple", "moderate", "complex"]
    plan: Plan
    build_prompt: str | MISSING = MISSING


# fix ---------------------------------------------------------------------------------------------


class Issue(Contract):
    """What is wrong, as the user meets it."""

    description: str
    severity: Literal["low", "medium", "high", "critical"]
    category: str


class Change(Contract):
    """What happens to one file."""

    file: str
    change_type: Literal["modify", "create", "delete"]
    description: str


class Solution(Contract):
    """How it is put right, and how one sees that it is."""

    approach: str
    changes: list[Change]
    testing_strategy: str


class FixPlanResponse(Contract):
    """Intent `fix`: a plan to mend what is broken; `buildPrompt` is the order to mend it."""

    issue: Issue
    root_cause: str
    solution: Solution
    prevention_tips: list[str] | MISSING = MISSING
    build_prompt: str | MISSING = MISSING


# analysis ----------------------------------------------------------------------------------------


class Finding(Contract):
    """One thing that was found."""

    category: str
    title: str
    description: str
    impact: str | MISSING = MISSING
    recommendations: list[str] | MISSING = MISSING


class Metric(Contract):
    """One measured thing."""

    name: str
    value: str | float


class Visualization(Contract):
    """A picture to draw: `values` go with `labels`, one to one."""

    type: Literal["chart", "graph", "table"]
    title: str
    labels: list[str]
    values: list[float]


class AnalysisResponse(Contract):
    """Intent `analysis`: what a look at the whole project showed."""

    overview: str
    findings: list[Finding]
    metrics: list[Metric] | MISSING = MISSING
    visualizations: list[Visualization] | MISSING = MISSING


# general -----------------------------------------------------------------------------------------


class GeneralResponse(Contract):
    """Intent `general`: anything else, in Markdown."""

    markdown: str


# improvement -------------------------------------------------------------------------------------


class ImprovementResponse(Contract):
    """Intent `improvement`: what can be better in a prompt, and the whole improved prompt;
    `changes` are what was changed, a line each."""

    analysis: str
    improved_prompt: str
    changes: list[str] | MISSING = MISSING


# all of them -------------------------------------------------------------------------------------

CONTRACTS: Final[Mapping[ReplyMode, type[BaseModel]]] = {
    "question": QuestionResponse,
    "feature": FeaturePlanResponse,
    "fix": FixPlanResponse,
    "analysis": AnalysisResponse,
    "general": GeneralResponse,
    "improvement": ImprovementResponse,
}

MAIN_TEXT: Final[Mapping[ReplyMode, str]] = {
    "question": "/answer",
    "feature": "/summary",
    "fix": "/rootCause",
    "analysis": "/overview",
    "general": "/markdown",
    "improvement": "/analysis",
}
"""The JSON pointer of each mode's main prose, for readers that show one text alone."""


def _fields() -> Iterator[tuple[str, Any]]:
    """The wire name and the annotation of every field of every object of a reply."""
    for model in Contract.__subclasses__():
        for name, field in model.model_fields.items():
            yield field.alias or name, field.annotation


NAMES: Final = frozenset(name for name, _ in _fields())
"""Every wire name of the contracts. All other words of a reply are the model's."""

ATOMIC: Final = frozenset(name for name, kind in _fields() if get_origin(kind) is Literal)
"""The names whose strings come from a closed set. Such a string is streamed whole, as half a word
has no meaning. The name is enough: none of these names is prose in another contract."""


class _Plain(GenerateJsonSchema):
    """A schema without titles of fields, which would repeat the names of the fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


@cache
def reply_schema(contracts: tuple[ReplyMode, ...]) -> dict[str, Any]:
    """The JSON schema of an answer, `{intent, response}`, for the provider's structured output.

    The answer is by one of these contracts.

    The intent comes first, so that a reader of the stream knows the contract before its contents.
    The provider allows neither `oneOf` nor a discriminator, so the schema cannot tie the intent to
    the kind of response: `check` does. An optional field is left out of `required`.
    """
    refs, shared = models_json_schema(
        [(CONTRACTS[each], "validation") for each in contracts], schema_generator=_Plain
    )
    return {
        "type": "object",
        "properties": {
            "intent": {"type": "string", "enum": list(contracts)},
            "response": {"anyOf": list(refs.values())},
        },
        "required": ["intent", "response"],
        "additionalProperties": False,
        **shared,
    }


def check(mode: ReplyMode, data: object) -> None:
    """Check a complete reply, JSON as Python values, against its mode's contract.

    Raises BrokenContract, without pydantic's exception as its cause, which contains the reply.
    """
    if faults := _faults(CONTRACTS[mode], data):
        raise BrokenContract(mode, faults)


def _faults(contract: type[BaseModel], data: object) -> tuple[str, ...]:
    try:
        contract.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        described = dict.fromkeys(f"{_pointer(fault['loc'])}: {fault['type']}" for fault in found)
        return tuple(described)[:FAULTS_SHOWN]
    return ()


def _pointer(location: tuple[int | str, ...]) -> str:
    """The JSON Pointer of a fault, without names of the model: the log must not have its text."""
    return "".join(f"/{part}" for part in location if isinstance(part, int) or part in NAMES)
