"""The views for analysts: each is described, each read model has one, and no column vanishes."""

import json
from typing import Final

import psycopg

from projections import PROJECTIONS
from scripts import views
from scripts.package_map import between

WITHOUT: Final = {
    "replies": "A reply is an item of project_timeline. This table says which process writes it.",
    "words": "The index of the search. The texts are in project_timeline.",
}
"""The read models without a view, with the reason."""


def test_every_read_model_has_a_view_or_a_reason() -> None:
    assert {each.name for each in PROJECTIONS if not each.views} == WITHOUT.keys()


def test_the_page_has_the_views_of_the_database(template: str) -> None:
    assert views.described(template).keys() == set(views.VIEWS)
    written = between(views.PAGE.read_text(), views.BEGIN, views.END, views.part(template))
    assert views.PAGE.read_text() == written, "run make schema"


def test_a_column_never_vanishes_and_keeps_its_type(template: str) -> None:
    assert lost(template) == [], "add what is gone to the view again: analysts read it"
    assert views.COLUMNS.read_text() == views.written(views.published(template)), "run make schema"


def test_a_column_that_is_gone_stays_in_the_file_and_is_found(url: str) -> None:
    kept = views.published(url)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("alter view analytics.project_versions rename column position to place")
        owner.execute("drop view analytics.prompts")
    assert lost(url) == [
        *("project_versions.position bigint",),
        *(f"prompts.{name} {kind}" for name, kind in kept["prompts"].items()),
    ]
    assert views.published(url)["prompts"] == kept["prompts"]
    assert views.published(url)["project_versions"].keys() == {
        *kept["project_versions"],
        "place",
    }


def lost(url: str) -> list[str]:
    """The published columns that the database does not have, or has with another type."""
    present = {
        f"{view}.{name} {kind}"
        for view, (_, columns) in views.described(url).items()
        for name, kind, _ in columns
    }
    recorded = json.loads(views.COLUMNS.read_text())
    every = [f"{v}.{name} {kind}" for v, names in recorded.items() for name, kind in names.items()]
    return [each for each in every if each not in present]
