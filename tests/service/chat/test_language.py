"""Replies are in the requested language. The service checks Arabic while a reply streams."""

import pytest

from service.chat import turn
from service.model.offline.app import OfflineModel
from service.model.offline.requests import Fault
from tests.running import Event, LiveService, running
from tests.service import law

WRONG = "راجع المشروع كله [[offline: wrong_language{times}]]"


def resets(events: list[Event]) -> list[str]:
    return [data["reason"] for name, data, _ in events if name == "reset"]


@pytest.mark.parametrize("locale", ["en", "fr-CA", "es", "ar-EG"])
async def test_the_model_is_asked_for_the_locale_s_language(run: LiveService, locale: str) -> None:
    final = law.lawful(await run.stream("Hello", locale=locale))
    assert f"Reply in {locale[:2]}." in str(run.model.requests[-1]["system"])
    assert final["metadata"]["warnings"] == []


async def test_a_reply_in_the_wrong_language_is_stopped_reset_and_requested_again(
    run: LiveService, url: str
) -> None:
    events = await run.stream(WRONG.format(times=" times=1"), locale="ar")
    final = law.lawful(events)
    assert resets(events) == ["language"]
    assert (final["subtype"], final["metadata"]["warnings"]) == ("success", [])
    assert run.model.calls == 2
    assert "not in Arabic" in str(run.model.requests[-1]["messages"][-1])
    assert run.model.aborted == 1, "the first answer was not read to its end"
    assert final["metadata"]["billed_seconds"] == 1, "the first attempt is not billed"
    await law.ended_as_shown(run, url, final)


async def test_a_second_reply_in_the_wrong_language_is_accepted_with_a_warning(
    run: LiveService, url: str
) -> None:
    events = await run.stream(WRONG.format(times=""), locale="ar")
    final = law.lawful(events)
    assert resets(events) == ["language"]
    assert run.model.calls == 2
    assert (final["subtype"], final["metadata"]["warnings"]) == ("success", ["wrong_language"])
    await law.ended_as_shown(run, url, final)


async def test_a_second_reply_that_the_model_refuses_is_discarded_with_a_documented_reason(
    url: str,
) -> None:
    model = OfflineModel(script=[Fault("wrong_language"), Fault("refusal", after=8)])
    async with running(url, model) as live:
        await live.project()
        await live.credit("u1")
        events = await live.stream("راجع المشروع كله", locale="ar")
    final = law.lawful(events)
    assert resets(events) == ["language", "provider"]
    assert (final["subtype"], final["error"]["code"]) == ("error", "refused")


async def test_the_language_of_a_french_reply_is_not_checked(run: LiveService) -> None:
    events = await run.stream("Hello [[offline: wrong_language]]", locale="fr")
    assert resets(events) == []
    assert law.lawful(events)["metadata"]["warnings"] == []


async def test_a_reader_of_a_silent_model_is_told_once_that_it_thinks(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "THINKING_SECONDS", 0)
    model = law.GatedModel()
    async with running(url, model) as live:
        await live.project()
        await live.credit()
        events: list[Event] = []
        async for event in law.read_stream(live, "Hello"):
            events.append(event)
            if event[0] == "notice":
                model.go.set()
    law.lawful(events)
    codes = [data["code"] for name, data, _ in events if name == "notice"]
    assert codes == ["plan_thinking"]
