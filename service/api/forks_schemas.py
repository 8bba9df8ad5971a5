"""What forks take."""

from typing import Literal

from service.wire import Id, Wire

ForkMode = Literal["plan", "setup", "analysis", "what_if", "idea", "run_feedback", "prompt"]


class ForkRequest(Wire):
    """The message where the fork leaves the session: a message, or a reply that has ended."""

    user_id: Id
    message_id: Id
    mode: ForkMode | None = None
