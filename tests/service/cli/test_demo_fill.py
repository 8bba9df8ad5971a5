"""A year in an empty database: it keeps all laws, it is always the same, and it can be cut."""

import re
from datetime import UTC, datetime
from itertools import islice

import pytest

from service.cli.demo.year import Year
from service.replay.importing import AnotherLog, import_entries, rebuild_read_models
from service.replay.reading import Entry
from tests.projections.generated import owning
from tests.service.cli.conftest import Command


def year(seed: int = 1, messages: int = 150, days: int = 365) -> list[Entry]:
    return list(Year("demo", seed=seed, messages=messages, days=days).entries())


def test_the_same_seed_makes_the_same_year() -> None:
    assert year() == year()
    assert year() != year(seed=2)


def test_a_year_has_so_many_messages_and_lies_in_the_past() -> None:
    made = Year("demo", seed=1, messages=150, days=30)
    times = [each.event.recorded_at for each in made.entries()]
    assert made.sent == 150
    assert times == sorted(times)
    assert datetime(2025, 1, 1, tzinfo=UTC) <= times[0]
    assert times[-1] < datetime(2025, 3, 1, tzinfo=UTC)


def test_nothing_runs_when_the_year_has_ended() -> None:
    """A service that starts on the year has nothing to recover."""
    types = [each.event.type for each in year(messages=600)]

    def count(*names: str) -> int:
        return sum(types.count(name) for name in names)

    assert count("ReplyStarted") == count("ReplyCompleted", "ReplyFailed") == 600
    assert count("BuildQueued") == count("BuildSucceeded", "BuildFailed") > 0
    assert count("RunQueued") == count("RunSucceeded", "RunFailed") > 0
    assert count("ProjectLocked") == count("ProjectUnlocked")


async def test_a_cut_fill_goes_on_and_another_year_is_refused(url: str) -> None:
    whole = year()
    async with owning(url) as owner:
        cut = await import_entries(owner, iter(islice(whole, 500)))
        rest = await import_entries(owner, iter(whole))
        assert (cut.stored, rest.known, rest.stored) == (500, 500, len(whole) - 500)
        again = await import_entries(owner, iter(whole))
        assert (again.known, again.stored) == (len(whole), 0)
        with pytest.raises(AnotherLog):
            await import_entries(owner, iter(year(seed=2)))
        await rebuild_read_models(owner, lambda _: lambda _at, _end: None)


def test_the_command_fills_a_database_without_a_fault(command: Command, url: str) -> None:
    here = {"THROUGHLINE_DATABASE_URL": url}
    code, said = command("demo", "fill", "--messages", "120", "--days", "90", **here)
    assert code == 0, said
    assert re.search(r"^120 messages: \d+ events stored$", said, re.M)
    code, said = command("events", "verify", **here)
    assert code == 0, said
    assert said.count(": right\n") == len(said.splitlines())
    code, said = command("demo", "fill", "--messages", "120", "--seed", "7", **here)
    assert code == 2
    assert said.count("\n") == 1
    assert "other events" in said
    assert "THROUGHLINE_DATA_DIR" in said
    assert command("demo", "fill", "--days", "366", **here)[0] == 2
