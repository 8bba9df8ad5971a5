"""Refusals of the business rules. A docstring is the message, the fields are its variables.

The dataclasses are not frozen, because Python writes the traceback into an exception. The fields'
names are on the wire, so `message_id` is the id of a reply in them.
"""

from dataclasses import asdict, dataclass
from typing import ClassVar


@dataclass(eq=False)
class Refused(Exception):
    """The request was refused."""

    code: ClassVar[str] = "refused"

    @property
    def variables(self) -> dict[str, object]:
        """The variables of the message by name, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (type(self).__doc__ or "").format(**self.variables)


@dataclass(eq=False)
class ProjectUnknown(Refused):
    """There is no such project, or this user is not a member of it."""

    code = "project_not_found"


@dataclass(eq=False)
class NotAMember(ProjectUnknown):
    """There is no such project, or this user is not a member of it."""


@dataclass(eq=False)
class ViewerOnly(Refused):
    """A viewer may only read this project. Ask an owner of the project for the role editor."""

    code = "viewer_only"


@dataclass(eq=False)
class ProjectExists(Refused):
    """The project is registered already. Change its members with PUT and DELETE."""

    code = "project_exists"


@dataclass(eq=False)
class ProjectChanged(Refused):
    """The project was changed since it was read. Read it again, and send its ETag as If-Match."""

    code = "project_changed"


@dataclass(eq=False)
class MemberUnknown(Refused):
    """This user is not a member of the project."""

    code = "member_not_found"


@dataclass(eq=False)
class LastOwner(Refused):
    """A project keeps at least one owner. Make another member an owner first."""

    code = "last_owner"


@dataclass(eq=False)
class SessionUnknown(Refused):
    """There is no such session in this project for this user."""

    code = "session_not_found"


@dataclass(eq=False)
class SessionEnded(Refused):
    """The session is {status} and takes no more messages and builds. Leave sessionId out to begin \
another one."""

    code = "session_ended"
    status: str


@dataclass(eq=False)
class SessionFull(Refused):
    """A session holds {limit} messages. Leave sessionId out to begin one."""

    code = "session_full"
    limit: int


@dataclass(eq=False)
class SessionSpent(Refused):
    """The replies of a session use {limit} tokens. Leave sessionId out to begin another one."""

    code = "session_tokens_spent"
    limit: int


@dataclass(eq=False)
class SessionChanged(Refused):
    """The session was changed since it was read; its ETag is now "{revision}". Read the session \
again, and send its ETag as If-Match."""

    code = "session_changed"
    revision: str


@dataclass(eq=False)
class ModeFixed(Refused):
    """A session of mode {mode} keeps that kind: a plan can become setup, analysis or what_if, an \
idea can become run_feedback. Open another session for another mode."""

    code = "mode_fixed"
    mode: str


@dataclass(eq=False)
class MessageUnknown(Refused):
    """The session has no such message or reply, or the reply has not ended."""

    code = "message_not_found"


@dataclass(eq=False)
class TooManyForks(Refused):
    """The session is the last of {limit} forks, each of the one before. Fork an earlier session, \
or open another session."""

    code = "too_many_forks"
    limit: int


@dataclass(eq=False)
class LimitReached(Refused):
    """Too many messages, or reads of links, in too short a time."""

    name: ClassVar[str] = ""
    quota: int
    window_seconds: int
    retry_after_seconds: int


@dataclass(eq=False)
class UserLimitReached(LimitReached):
    """A user may send {quota} messages in {window_seconds} seconds. Try again in \
{retry_after_seconds} seconds."""

    code = "user_limit_reached"
    name = "user"


@dataclass(eq=False)
class ProjectLimitReached(LimitReached):
    """A project takes {quota} messages in {window_seconds} seconds. Try again in \
{retry_after_seconds} seconds."""

    code = "project_limit_reached"
    name = "project"


@dataclass(eq=False)
class ShareLimitReached(LimitReached):
    """A link can be read {quota} times in {window_seconds} seconds. Try again in \
{retry_after_seconds} seconds."""

    code = "share_limit_reached"
    name = "share"


@dataclass(eq=False)
class AddressLimitReached(LimitReached):
    """An address can read {quota} links in {window_seconds} seconds. Try again in \
{retry_after_seconds} seconds."""

    code = "address_limit_reached"
    name = "address"


@dataclass(eq=False)
class ReplyInProgress(Refused):
    """The session's reply {message_id} is still being written. Wait for its end, cancel it, or \
send onBusy: enqueue or interrupt."""

    code = "reply_in_progress"
    message_id: str


@dataclass(eq=False)
class ReplyUnknown(Refused):
    """There is no such reply, or this user may not see its project."""

    code = "reply_not_found"


@dataclass(eq=False)
class ReplyNotEnded(Refused):
    """The reply is still being written. Wait for its end."""

    code = "reply_not_ended"


@dataclass(eq=False)
class PlanUnknown(Refused):
    """This reply holds no plan: only a whole reply to a feature or a fix does."""

    code = "plan_not_found"


@dataclass(eq=False)
class ShareUnknown(Refused):
    """There is no such share, or it has ended, or this user may not see its project."""

    code = "share_not_found"


@dataclass(eq=False)
class PlanMissing(Refused):
    """The session holds no plan yet. Ask for a feature or a fix first."""

    code = "plan_missing"


@dataclass(eq=False)
class BuildInProgress(Refused):
    """The project is being built ({build_id}). Wait for the end of the build."""

    code = "build_in_progress"
    build_id: str


@dataclass(eq=False)
class BuildUnknown(Refused):
    """There is no such build, or this user may not see its project."""

    code = "build_not_found"


@dataclass(eq=False)
class VersionUnknown(Refused):
    """The project has no such version. Leave versionId out to ask about the current version."""

    code = "version_not_found"


@dataclass(eq=False)
class PromptUnknown(Refused):
    """There is no such prompt, or this user may not see its project."""

    code = "prompt_not_found"


@dataclass(eq=False)
class PromptVersionUnknown(Refused):
    """There is no such version of a prompt in this project. List the versions of the prompt."""

    code = "prompt_version_not_found"


@dataclass(eq=False)
class PromptRetired(Refused):
    """The prompt is archived. Restore the prompt first."""

    code = "prompt_archived"


@dataclass(eq=False)
class PromptChanged(Refused):
    """The prompt was changed since it was read; its ETag is now "{revision}". Read the prompt \
again, and send its ETag as If-Match."""

    code = "prompt_changed"
    revision: str


@dataclass(eq=False)
class ValuesMissing(Refused):
    """These placeholders of the prompt have no value: {names}. Send a text for each in values; an \
empty text is a value."""

    code = "values_missing"
    names: str


@dataclass(eq=False)
class ValuesUnknown(Refused):
    """The prompt has no placeholder with these names: {names}. Leave them out of values."""

    code = "values_unknown"
    names: str


@dataclass(eq=False)
class PromptTooLong(Refused):
    """The prompt with its values has more than {limit} characters. Send shorter values."""

    code = "prompt_too_long"
    limit: int


@dataclass(eq=False)
class InstructionsFixed(Refused):
    """A session of mode {mode} has no settings and no prompt of its own. Open a session of mode \
prompt."""

    code = "instructions_fixed"
    mode: str


@dataclass(eq=False)
class ImprovementUnknown(Refused):
    """This reply holds no improved prompt: only a whole reply of a session of mode idea or \
run_feedback does."""

    code = "improvement_not_found"


@dataclass(eq=False)
class OwnersOnly(Refused):
    """Only the author of the prompt and the owners of the project may erase the prompt. Ask an \
owner, or archive the prompt."""

    code = "owner_only"


@dataclass(eq=False)
class BuildTaken(Refused):
    """Another worker has claimed this build. Take the next one."""

    code = "build_claimed"


@dataclass(eq=False)
class BuildEnded(Refused):
    """The build has {status}. Take another one."""

    code = "build_ended"
    status: str


@dataclass(eq=False)
class BuildFull(Refused):
    """A build keeps {limit} events. Report its end alone."""

    code = "build_full"
    limit: int


@dataclass(eq=False)
class RunUnknown(Refused):
    """There is no such run, or this user may not see its project."""

    code = "run_not_found"


@dataclass(eq=False)
class StepUnknown(Refused):
    """The run has no such step. Read its steps, and send the stepId of one of them."""

    code = "step_not_found"


@dataclass(eq=False)
class CandidateUnknown(Refused):
    """The run has no such candidate. Read its candidates, and send the candidateId of one of \
them."""

    code = "candidate_not_found"


@dataclass(eq=False)
class RunTaken(Refused):
    """Another engine has claimed this run. Take the next one."""

    code = "run_claimed"


@dataclass(eq=False)
class RunEnded(Refused):
    """The run has {status}. Take another one."""

    code = "run_ended"
    status: str


@dataclass(eq=False)
class RunNotEnded(Refused):
    """The run has not ended ({status}). Wait for its end, or cancel the run."""

    code = "run_not_ended"
    status: str


@dataclass(eq=False)
class RunFull(Refused):
    """A run keeps {limit} events. Report its end alone."""

    code = "run_full"
    limit: int


@dataclass(eq=False)
class SessionPrivate(Refused):
    """The session is private, and all members of the project would see the run. Leave sessionId \
out, or name another session."""

    code = "session_private"


@dataclass(eq=False)
class KeyReused(Refused):
    """This Idempotency-Key was used for another request. Use a new key for a new request."""

    code = "idempotency_key_reused"


@dataclass(eq=False)
class BalanceInsufficient(Refused):
    """This may need {needed_seconds} AI seconds and {available_seconds} are available."""

    code = "insufficient_balance"
    needed_seconds: int
    available_seconds: int


@dataclass(eq=False)
class ReservationSettled(Refused):
    """The reservation was settled or released before."""

    code = "reservation_settled"
