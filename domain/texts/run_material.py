"""The text about a run that a session gets: the results, or one step, at a bounded length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from json import dumps
from typing import Final

from domain.events import Json

RESULTS: Final = "run_results"
STEP: Final = "run_step"
"""The kinds of material."""

MOST_CHARACTERS: Final = 20_000
"""The most characters of a material."""

MOST_CANDIDATES: Final = 100
MOST_STEPS: Final = 50

_SUMMARY: Final = 5_000
_FINDINGS: Final = 3_000
_ONE: Final = 1_500
"""The most characters of a summary, of all findings, and of one step or candidate."""

_CUT: Final = " …"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a run."""

    title: str
    prompt: str | None
    output: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A candidate with its scores by name."""

    candidate_id: str
    title: str
    scores: dict[str, int | float]
    data: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A run that has ended. The candidates are in the order in which the text shows them."""

    run_id: str
    title: str
    status: str
    error: str | None
    summary: str | None
    findings: Sequence[str]
    candidates: Sequence[Candidate]
    steps: Sequence[Step]


def results_text(run: Results) -> str:
    """The results of a run: summary, findings, candidates, steps, as far as they fit."""
    text = ""
    for part in _parts(run):
        if len(text) + len(part) + len(_CUT) > MOST_CHARACTERS:
            return text + _CUT.strip()
        text += f"{part}\n"
    return text.rstrip("\n")


def step_text(step: Step) -> str:
    """The prompt and the output of one step. Each of them has at least half of the room."""
    prompt, output = step.prompt or "(not reported)", step.output or "(not reported)"
    half = (MOST_CHARACTERS - len(step.title) - 100) // 2
    output = _cut(output, 2 * half - min(half, len(prompt)))
    prompt = _cut(prompt, 2 * half - len(output))
    return f"Step: {step.title}\n\nPrompt:\n{prompt}\n\nOutput:\n{output}"


def _parts(run: Results) -> Iterator[str]:
    yield f"Run {run.run_id}: {_cut(run.title, 500)}"
    yield f"Status: {run.status}"
    if run.error:
        yield f"Error: {_cut(run.error, _ONE)}"
    if run.summary:
        yield f"Summary: {_cut(run.summary, _SUMMARY)}"
    if run.findings:
        yield "Findings:"
        yield _cut("\n".join(f"- {each}" for each in run.findings), _FINDINGS)
    if run.candidates:
        yield "Candidates:"
        yield from (_cut(_candidate(each), _ONE) for each in run.candidates)
    if run.steps:
        yield "Steps:"
        yield from (_cut(_step(each), _ONE) for each in run.steps)


def _candidate(candidate: Candidate) -> str:
    scores = ", ".join(f"{name} {value}" for name, value in candidate.scores.items())
    line = f"- {candidate.title} ({candidate.candidate_id}): {scores or 'no scores'}"
    if not candidate.data:
        return line
    return f"{line}\n  {dumps(candidate.data, ensure_ascii=False)}"


def _step(step: Step) -> str:
    return f"- {step.title}: {step.output or 'no output'}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - len(_CUT)] + _CUT
