"""The read models: what is shown, rebuilt from the log at any time. This list is their registry."""

from typing import Final

from projections.accounts import ACCOUNTS
from projections.consumption import CONSUMPTION
from projections.projection import Projection
from projections.projects import MEMBERS, PROJECTS
from projections.replies import REPLIES
from projections.sessions import SESSIONS
from projections.timeline import TIMELINE

PROJECTIONS: Final[tuple[Projection, ...]] = (
    TIMELINE,
    SESSIONS,
    ACCOUNTS,
    CONSUMPTION,
    PROJECTS,
    MEMBERS,
    REPLIES,
)
