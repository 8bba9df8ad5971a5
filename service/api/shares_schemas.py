"""What shares take and answer."""

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field

from domain.events import ChatMode
from projections.shares import ShareRow
from service.wire import Id, Wire

SHARE_SECONDS: Final = 7 * 86_400
FEWEST_SECONDS: Final = 60
MOST_SECONDS: Final = 90 * 86_400


class ShareRequest(Wire):
    """The user that shares, and for how many seconds the link leads to the plan."""

    user_id: Id
    ttl_seconds: Annotated[int, Field(ge=FEWEST_SECONDS, le=MOST_SECONDS)] = SHARE_SECONDS


class ShareAnswer(Wire):
    """A share. `url` is a path on this service: everyone who has it can read the plan."""

    share_id: str
    url: str
    expires_at: datetime


class ShareEnded(Wire):
    share_id: str


class SharedPlan(Wire):
    """A plan that was shared: `data` is by the contract of its `mode`."""

    mode: ChatMode
    data: Any
    timestamp: datetime
    shared_at: datetime
    expires_at: datetime


def shared_plan(envelope: dict[str, Any], row: ShareRow) -> SharedPlan:
    """The plan of a reply's envelope, and nothing else of it."""
    return SharedPlan(
        mode=envelope["mode"],
        data=envelope["data"],
        timestamp=datetime.fromisoformat(envelope["timestamp"]),
        shared_at=row.shared_at,
        expires_at=row.expires_at,
    )
