"""The read models, which can be rebuilt from the log at any time, and their registry."""

from typing import Final

from projections.accounts import ACCOUNTS
from projections.builds import BUILD_EVENTS, BUILDS
from projections.consumption import CONSUMPTION
from projections.drafts import DRAFTS
from projections.projection import Projection
from projections.projects import MEMBERS, PROJECTS
from projections.prompts import PROMPT_VERSIONS, PROMPTS
from projections.replies import REPLIES
from projections.runs import RUN_CANDIDATES, RUN_STEPS, RUNS
from projections.sessions import SESSIONS
from projections.shares import SHARES
from projections.timeline import TIMELINE
from projections.versions import VERSIONS
from projections.words import WORDS

PROJECTIONS: Final[tuple[Projection, ...]] = (
    TIMELINE,
    SESSIONS,
    ACCOUNTS,
    CONSUMPTION,
    PROJECTS,
    MEMBERS,
    REPLIES,
    BUILDS,
    BUILD_EVENTS,
    VERSIONS,
    DRAFTS,
    SHARES,
    WORDS,
    PROMPTS,
    PROMPT_VERSIONS,
    RUNS,
    RUN_STEPS,
    RUN_CANDIDATES,
)
