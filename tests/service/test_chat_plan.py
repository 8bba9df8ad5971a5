"""A message and its reply over HTTP: streamed or whole, in every intent and every language."""

import asyncio
from typing import Any

import pytest

from service.offline import OfflineModel
from service.offline_replies import INTENTS, LANGUAGES, Intent, Language, reply, subject_of
from tests.running import Running, events_of, running
from tests.service import law

MESSAGES: dict[Intent, str] = {
    "question": "How does the login work?",
    "feature": "Add a search field to the list",
    "fix": "Fix the crash when the list is empty",
    "analysis": "Review the module that sends mail",
    "general": "Good morning",
}
SSE = {"Accept": "text/event-stream"}


def body(message: str) -> dict[str, Any]:
    return {"userId": "u1", "projectId": "p1", "message": message}


async def ready(live: Running) -> None:
    await live.project()
    await live.credit()


@pytest.mark.parametrize("language", LANGUAGES)
async def test_what_is_shown_is_what_is_said_in_every_intent(url: str, language: Language) -> None:
    async with running(url) as live:
        await ready(live)
        finals = []
        for intent in INTENTS:
            events = await live.stream(MESSAGES[intent], locale=language)
            finals.append(law.lawful(events))
            said = reply(intent, language, subject_of(MESSAGES[intent]))["response"]
            assert (finals[-1]["subtype"], finals[-1]["mode"]) == ("success", intent)
            assert finals[-1]["data"] == said
            assert [name for name, _, _ in events].count("chunk") > 1
            assert next(data for name, data, _ in events if name == "intent") == {"mode": intent}
        await law.ended_as_told(live, url, *finals)
