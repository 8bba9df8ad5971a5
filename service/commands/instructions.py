"""How the replies of a session are made: the text of a prompt with its values, and settings."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from domain.deciders import prompt, session
from domain.deciders.session import UsedPrompt
from domain.errors import InstructionsFixed, SessionUnknown, ValuesUnknown
from domain.modes import MODES
from projections.prompts import VersionRow
from service.commands.projects import require_actor
from service.eventlog.stream_ids import project_stream, prompt_stream, session_stream
from service.eventlog.transactions import Transaction


def instructed(version: VersionRow, answers: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a session's instructions that a version of a prompt decides.

    Raises ValuesMissing, ValuesUnknown, PromptTooLong.
    """
    return {
        "instructions": prompt.fill(version.text or "", answers),
        "prompt": UsedPrompt(
            prompt_id=version.prompt_id,
            prompt_version_id=version.prompt_version_id,
            number=version.number,
            answers=dict(answers),
        ),
    }


async def instruct(
    transaction: Transaction,
    *,
    project_id: str,
    session_id: str,
    user_id: str,
    version: VersionRow | None,
    answers: Mapping[str, str] | None,
    settings: dict[str, Any],
) -> None:
    """Change how the replies of a session are made: what is None stays as it is.

    `version` is the version that is asked for, else the version of the session when the request
    was read. Values that the version does not need are left out, unless they are sent.

    Raises NotAMember, ViewerOnly, SessionUnknown, InstructionsFixed, PromptUnknown, ValuesMissing,
    ValuesUnknown, PromptTooLong.
    """
    stream = session_stream(session_id, project_id)
    await transaction.recall(project_stream(project_id), stream)
    await require_actor(transaction, project_id, user_id)
    state = await transaction.load(stream)
    if (state.project_id, state.user_id) != (project_id, user_id):
        raise SessionUnknown
    if MODES[state.mode].contracts:
        raise InstructionsFixed(mode=state.mode)
    decided = _present(state) | settings
    if version is None and answers is not None:
        raise ValuesUnknown(names=", ".join(answers))
    if version is not None:
        prompt.require_known(await transaction.load(prompt_stream(version.prompt_id)))
        decided |= instructed(version, _answers(state, version, answers))
    await transaction.decide(stream, partial(session.instruct, **decided))


def _present(state: session.Session) -> dict[str, Any]:
    return {
        "instructions": state.instructions,
        "model": state.model,
        "max_tokens": state.max_tokens,
        "settings": state.settings,
        "prompt": state.prompt,
    }


def _answers(
    state: session.Session, version: VersionRow, answers: Mapping[str, str] | None
) -> Mapping[str, str]:
    """The values that were sent, else the values of the session that the version needs."""
    if answers is not None:
        return answers
    known: Mapping[str, str] = (state.prompt.answers if state.prompt else None) or {}
    return {name: known[name] for name in version.placeholders if name in known}
