"""Prompts and their versions."""

from collections.abc import Callable

from domain.deciders import prompt
from service.eventlog.stream_ids import prompt_stream
from tests.projections.actions.append import Append
from tests.projections.actions.known import Actions, Known
from tests.projections.actions.values import PROJECTS, TEXTS, USERS


class Prompts(Known):
    """Prompts and their versions."""

    def _of_prompts(self) -> Actions:
        return {
            self._create_prompt: 3,
            self._add_version: 5,
            self._change_prompt: 4,
            self._close_prompt: 1,
            self._erase_prompt: 2,
        }

    def _create_prompt(self, append: Append) -> None:
        prompt_id, project_id = self._id("q", append), self._one(PROJECTS)
        stream = prompt_stream(prompt_id, project_id)
        append.decide(
            stream,
            lambda state: prompt.create(
                state,
                prompt_id=prompt_id,
                project_id=project_id,
                user_id=self._one(USERS),
                name=self._one(TEXTS),
            ),
        )
        append.decide(stream, self._version)
        self._prompts.append((append.tenant_id, project_id, prompt_id))

    def _add_version(self, append: Append) -> None:
        self._in_prompt(append, self._version)

    def _version(self, state: prompt.Prompt) -> prompt.Decided:
        return prompt.add_version(
            state,
            user_id=self._one(USERS),
            text=self._one((*TEXTS, "Write {{what}} for {{who}}, then {{what}}")),
            note=self._one((None, "shorter")),
            source=self._one((None, prompt.Source(session_id="s1", message_id="r1"))),
        )

    def _change_prompt(self, append: Append) -> None:
        details = prompt.Details(name=self._one(TEXTS), is_archived=self._random.random() < 0.3)
        self._in_prompt(append, lambda state: prompt.change(state, details=details, revisions=None))

    def _close_prompt(self, append: Append) -> None:
        self._in_prompt(append, prompt.request_erasure)

    def _erase_prompt(self, append: Append) -> None:
        self._in_prompt(append, prompt.erase)

    def _in_prompt(
        self, append: Append, decision: Callable[[prompt.Prompt], prompt.Decided]
    ) -> None:
        mine = [each for each in self._prompts if each[0] == append.tenant_id]
        if mine:
            _, project_id, prompt_id = self._one(mine)
            append.decide(prompt_stream(prompt_id, project_id), decision)
