"""The proof of the three promises at its small size; `make prove` runs the large size."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

import scripts
from scripts.prove.check import Check, Found
from scripts.prove.checks import CHECKS, FOUND, verdict
from scripts.prove.observed import Observed
from service.postgres.connections import Connection
from tests.sizes import SEED

ROOT = Path(scripts.__path__[0]).parent


@pytest.mark.slow
async def test_the_promises_hold_under_load_and_every_control_finds_its_damage() -> None:
    program = (sys.executable, "-m", "scripts.prove", "--size", "small", "--seed", str(SEED))
    process = await asyncio.create_subprocess_exec(
        *program, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    observed = (await process.communicate())[0].decode()
    assert process.returncode == 0, observed
    for check in CHECKS:
        line = rf"^{re.escape(check.name)} \| [1-9][\d,]* \| 0 \| found$"
        assert re.search(line, observed, re.MULTILINE), check.name


async def _find(_: Observed, __: Connection) -> Found:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("found", "control", "wrong"),
    [
        (Found(3, []), FOUND, []),
        (Found(3, ["one is lost"]), FOUND, ["a check: one is lost"]),
        (Found(0, []), FOUND, ["a check: nothing was inspected"]),
        (Found(3, []), "not found", ["a check: its control was not found"]),
    ],
    ids=["sound", "a breach", "nothing inspected", "a control that finds nothing"],
)
def test_the_report_marks_a_breach_and_a_check_that_proves_nothing(
    found: Found, control: str, wrong: list[str]
) -> None:
    assert verdict(Check(name="a check", find=_find), found, control) == wrong


def test_every_check_has_one_control_and_a_name_of_its_own() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert (check.damage is None) != (check.distort is None), check.name
