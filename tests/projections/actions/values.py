"""What the events of generated logs are made of: ids, texts in many scripts, plans."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from domain.deciders import session
from domain.events import (
    BuildPhase,
    ChatMode,
    CreditKind,
    ReportType,
    Role,
    RunReportType,
    SessionMode,
)
from domain.modes import MODES as MODES_OF

TENANTS: Final = ("t1", "t2")
USERS: Final = ("ann", "bob", "عمر", "d'Arc\\")
PROJECTS: Final = ("shop", "blog", "p-3")
MODES: Final = get_args(ChatMode)
ROLES: Final[tuple[Role, ...]] = ("owner", "editor", "viewer")
KINDS: Final[tuple[CreditKind, ...]] = ("paid", "bonus")
PHASES: Final[tuple[BuildPhase, ...]] = get_args(BuildPhase)
RUN_REPORTS: Final[tuple[RunReportType, ...]] = get_args(RunReportType)
REPORT_TYPES: Final[tuple[ReportType, ...]] = get_args(ReportType)
SESSION_MODES: Final[tuple[SessionMode, ...]] = get_args(SessionMode)
FAMILIES: Final[Mapping[str, list[SessionMode]]] = {
    family: [name for name, mode in MODES_OF.items() if mode.family == family]
    for family in {mode.family for mode in MODES_OF.values()}
}
ROLES_OF_APPENDED: Final[tuple[session.AppendedRole, ...]] = ("user", "assistant")
CONTEXTS: Final = (
    session.NOTHING,
    session.About(run_id="r1", step_id="s1", candidate_id="c1"),
    session.About(prompt_id="p1", prompt_version_id="pv1", version_id="v1", build_id="b1"),
)
USED: Final = (
    session.UsedPrompt(prompt_id="q1", prompt_version_id="q1.1", number=1, answers={"a": "ب"}),
    session.UsedPrompt(prompt_id="q1", prompt_version_id="q1.2", number=2),
)
MODELS: Final = ("claude-opus-4", "claude-haiku-4-5", "offline", "unheard-of")
TEXTS: Final = (
    "",
    "Why is the login slow?",
    'He said "no", \\ and \n left\t.',
    "مرحبا بالعالم",
    "naïve 👩‍💻 \u2028 \U0010ffff",
    "'; drop table app.timeline; --",
    "null",
    "x" * 3_000,
)
DATA: Final[tuple[Any, ...]] = (
    {"markdown": "Hello"},
    {"answer": "So", "references": [{"file": "a.py", "line": 3, "snippet": "x = '\"'"}]},
    {"metrics": [{"name": "n", "value": 0.1}, {"name": "m", "value": -1.5e-7}], "findings": []},
    {"deep": [[[[{}]]]], "nothing": None, "yes": True, "big": 2**53, "": "empty key"},
)

PLANS: Final[Mapping[ChatMode, Any]] = {
    "feature": {"summary": "A login", "plan": {"overview": "Do it", "steps": []}},
    "fix": {"issue": {"description": "Broken"}, "solution": {"approach": "Mend it"}},
}
"""What the deciders read of a plan."""
