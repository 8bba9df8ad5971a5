"""The documents are whole and true: links, names of calls, codes, events and read models."""

import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from domain.errors import LimitReached, Refused
from domain.events import EVENT_TYPES
from projections import PROJECTIONS
from service.app import OPERATIONS
from service.eventlog.errors import NotServed, Stored, Unavailable
from service.http.problems import REFUSALS
from service.ops import metrics
from tests.documents import DOCS, PAGES, README, ROOT, anchors, links, rows

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    wrong: list[str] = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pages
def test_every_relative_link_and_anchor_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_and_a_broken_anchor_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b`-c, d\n\n[x](page.md#a-b-c-d) [y](#a-b-c-d) [w](https://example.org/#no)\n\n"
        "| a |\n|---|\n| [in a table](gone.md) |\n\n[z](page.md#no) `[in code](gone.md)`\n"
    )
    assert broken(page) == ["gone.md", "page.md#no"]


def test_every_page_is_linked_from_another_page() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in links(page)
        if not link.startswith("#")
    }
    assert set(PAGES) <= linked


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(README.read_text().splitlines()) <= 150


def test_the_picture_of_the_data_names_events_and_read_models_that_exist() -> None:
    picture = re.search(r"## The way of the data\n\n```\n(.*?)```", README.read_text(), re.S)
    assert picture is not None
    named = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", picture[1])) - {"PostgreSQL"}
    assert named <= EVENT_TYPES.keys()
    assert named >= {"MessageAdmitted", "RequestCompleted", "TimeReserved", "ReplyCompleted"}
    words = set(re.findall(r"\w+", picture[1].partition("read models:")[2]))
    assert {each.name for each in PROJECTIONS} <= words


def test_the_api_page_has_every_call_with_its_scopes() -> None:
    listed = {
        row[0]: (set(row[2].split(", ")), row[3] == "x")
        for row in rows(DOCS / "api.md")
        if len(row) == 4 and row[0].startswith("`")
    }
    assert listed == {
        f"`{each.method} {each.path}`": (set(each.scopes), each.browsers) for each in OPERATIONS
    }


def test_the_api_page_has_every_code_of_a_refusal_with_its_status() -> None:
    listed = {
        (row[0], row[1].strip("`"))
        for row in rows(DOCS / "api.md")
        if len(row) == 3 and re.fullmatch(r"\d{3}", row[0]) and row[1].startswith("`")
    }
    refusals = {kind for kind in REFUSALS if kind not in (Refused, LimitReached)}
    assert {(str(REFUSALS[kind]), kind.code) for kind in refusals} == listed


def test_the_api_page_has_every_code_of_a_503_with_what_is_stored() -> None:
    def concrete(kind: type[NotServed]) -> list[type[NotServed]]:
        return [kind, *(each for child in kind.__subclasses__() for each in concrete(child))]

    listed = {
        (row[0].strip("`"), row[1])
        for row in rows(DOCS / "api.md")
        if len(row) == 3 and row[1] in get_args(Stored)
    }
    raised = set(concrete(NotServed)) - {NotServed, Unavailable}
    assert {(kind.code, kind.stored) for kind in raised} == listed


def test_the_operations_page_has_every_metric() -> None:
    page = (DOCS / "operations.md").read_text()
    table = re.search(r"^\| metric \|.*?\n\n", page, re.M | re.S)
    assert table is not None
    listed = re.findall(r"^\| `(\w+)` \|", table[0], re.M)
    collected = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    names = {sample.name for each in collected for sample in each.describe()}
    totals = {each._name for each in collected if isinstance(each, Counter)}
    assert names >= totals
    assert {f"throughline_{name}" for name in listed} == {
        f"{name}_total" if name in totals else name for name in names
    }


def test_every_retired_word_has_one_row_and_a_better_word() -> None:
    table = rows(DOCS / "words.md")
    retired = table[table.index(["retired", "say"]) + 2 :]
    assert all(re.fullmatch(r"`\w+`", word) and better for word, better in retired)
    assert len({word for word, _ in retired}) == len(retired)
