"""What the calls on the messages of a session take and answer."""

from typing import Literal, Self

from pydantic import model_validator

from domain.deciders.session import AppendedRole
from projections.timeline import TimelinePage
from service.api.chat_schemas import Said
from service.api.schemas import ActingQuery, PageSize, PastQuery
from service.chat.admission import AppendedMessage
from service.timelines.items import TimelineItem, item
from service.wire import Cursor, Locale, Wire


class MessageRequest(Said):
    """What is said in a session. It gets a reply, or with `reply` false it is appended as it is,
    and the model is not asked.

    An appended message has one of the roles `user` and `assistant`, and takes no `chatMode`,
    `onBusy`, `context`, `versionId` or `buildId`. Only a message of the role `user` gets a reply.
    """

    role: AppendedRole = "user"
    reply: bool = True

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if self.reply and self.role == "assistant":
            raise ValueError("the role assistant is for an appended message: send `reply` false")
        of_reply = {"chat_mode", "on_busy", "context", "version_id", "build_id"}
        if not self.reply and of_reply & self.model_fields_set:
            raise ValueError("an appended message takes only userId, message, role and locale")
        return self


class Appended(Wire):
    """A message that a client appended."""

    message_id: str
    session_id: str
    role: AppendedRole
    source: Literal["client"] = "client"


class MessagesQuery(PastQuery):
    """A page of the messages of a session: the newest, or those next to a cursor.

    `locale` is the language of the labels of actions; its default is the language of
    Accept-Language.
    """

    limit: PageSize = 20
    before: Cursor | None = None
    after: Cursor | None = None
    locale: Locale | None = None


class SessionStreamQuery(ActingQuery):
    """`after` resumes the stream, as the header Last-Event-ID does.

    With `replies` it also carries the events of the session's running replies: without ids, each
    with the `messageId` of its reply. `locale` is as on a page.
    """

    replies: bool = False
    after: Cursor | None = None
    locale: Locale | None = None


class SessionMessages(Wire):
    """A page, oldest first. `before` leads to older messages, `after` to newer ones, and `hasMore`
    tells of more in the direction that was asked for."""

    messages: list[TimelineItem]
    has_more: bool
    before: str | None = None
    after: str | None = None


def messages(page: TimelinePage, locale: str | None) -> SessionMessages:
    """A page of messages with its cursors, for a reader of this locale."""
    found = [item(row, locale) for row in reversed(page.rows)]
    return SessionMessages(
        messages=found,
        has_more=page.has_more,
        before=found[0].cursor if found else None,
        after=found[-1].cursor if found else None,
    )


def appended(message: AppendedMessage, role: AppendedRole) -> Appended:
    """The answer for an appended message."""
    return Appended(message_id=message.message_id, session_id=message.session_id, role=role)
