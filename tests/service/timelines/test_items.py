"""Items of a timeline have an author, the message that they answer, and a language."""

import asyncio
from typing import Any

import pytest

from service.texts.templates import direction_of, preferred
from service.wire import BEGINNING
from tests.running import LiveService
from tests.service import watching
from tests.service.api.test_build_views import rows

LABELS = {"en": "Build this", "fr": "Réaliser ce plan", "es": "Construir esto"}
ARABIC = "ابنِ هذه الخطة"


async def items(run: LiveService, language: str = "", **asked: Any) -> list[dict[str, Any]]:
    headers = {"Accept-Language": language} if language else {}
    answer = await run.client.get(
        "/v1/project/p1/timeline", params={"userId": "u1", **asked}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def first_label(item: dict[str, Any]) -> str:
    return str(item["actions"][0]["label"])


async def test_a_reply_says_what_it_answers_and_a_message_who_wrote_it(run: LiveService) -> None:
    final = (await run.chat("Add a login page", locale="ar-EG")).json()
    reply, message, greeting = await items(run)
    assert greeting["aiResponse"]["data"]["variables"] == {"project_name": "A project"}
    assert message["userId"] == "u1"
    assert reply["inReplyTo"] == message["id"]
    for each in (reply, message):
        assert (each["locale"], each["direction"]) == ("ar-EG", "rtl")
    said = reply["aiResponse"]
    assert said["billedSeconds"] == final["metadata"]["billed_seconds"]
    assert 0 <= said["firstTextMs"] <= said["duration"]


async def test_the_labels_of_actions_are_in_the_reader_s_language(run: LiveService) -> None:
    await run.chat("Add a login page", locale="ar")
    assert first_label((await items(run))[0]) == ARABIC, "the item's own language"
    for locale, expected in LABELS.items():
        assert first_label((await items(run, locale=locale))[0]) == expected
        assert first_label((await items(run, f"de, {locale};q=0.5"))[0]) == expected
    asked = {"userId": "u1", "locale": "xx"}
    answer = await run.client.get("/v1/project/p1/timeline", params=asked)
    assert answer.headers["Content-Language"] == "en", "told, where there are no texts"


async def test_each_watcher_has_labels_in_its_own_language(run: LiveService) -> None:
    path, start = "/v1/project/p1/timeline/stream", BEGINNING
    async with (
        watching.opened(run, path, since=start, userId="u1", locale="fr") as french,
        watching.opened(run, path, since=start, userId="u1") as own,
    ):
        asking = asyncio.create_task(run.chat("Add a login page", locale="es"))
        seen = [(await each.read(3))[-1][1] for each in (french, own)]
        await asking
    assert [first_label(each) for each in seen] == [LABELS["fr"], LABELS["es"]]
    (page,) = await items(run, locale="fr", limit=1)
    assert {key: value for key, value in seen[0].items() if key != "prev"} == page


async def test_the_item_and_the_view_give_a_failed_reply_the_same_status(
    run: LiveService, url: str
) -> None:
    await run.chat("Hello [[offline: refusal]]")
    reply = (await items(run))[0]
    assert (reply["status"], reply["aiResponse"]["billedSeconds"]) == ("failed", 0)
    shown = {row["item_id"]: row for row in await rows(url, "project_timeline")}
    assert shown[reply["id"]]["timeline_status"] == "failed"
    assert shown[reply["id"]]["in_reply_to"] == reply["inReplyTo"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("fr-CH, fr;q=0.9, en;q=0.8, *;q=0.5", "fr"),
        ("en;q=0.1, ar-EG;q=0.9", "ar"),
        ("de, es;q=0.3", "es"),
        *((each, None) for each in ("", "*", "de", "fr;q=0", "fr;q=2", "fr;x=1", ",;,", "xx-fr")),
    ],
)
def test_a_header_prefers_a_language(header: str, expected: str | None) -> None:
    assert preferred(header) == expected


def test_a_language_has_its_direction_also_without_texts() -> None:
    assert [direction_of(each) for each in ("ar-EG", "he", "FA", "fr", "xx")] == [
        *("rtl", "rtl", "rtl", "ltr", "ltr")
    ]
