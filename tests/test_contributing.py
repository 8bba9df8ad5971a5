"""The page for contributors is true: its diffs pass its checks, and a check finds a forgotten step.

The tests work in copies of the source.
"""

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from projections.timeline import TIMELINE
from tests.documents import DOCS, ROOT
from tests.sizes import PROVE

PAGE: Final = DOCS / "contributing.md"
WAYS: Final = ("event", "read-model", "endpoint", "setting")
"""The diffs; each applies after the diffs before it."""

VERSION: Final = "the version"
SCHEMA: Final = "make schema"
LINT: Final = "make lint"
MARKED: Final = "domain/events.py"
"""Without this file no check can run, so only the mark of its text is left out."""

EVERY: Final = "tests/projections/test_every_projection.py"
OF_NOTES: Final = "not test_every_projection or notes or 0-timeline or generated_logs or not_blind"
SOURCE: Final = ("domain/", "projections/", "service/", "sql/")
ALSO: Final = ("tests/test_vocabulary.py", "tests/test_documents.py", "tests/test_floors.py")
WIDE: Final = (
    *("tests/domain", "tests/projections", "tests/sql", "tests/test_documents.py"),
    *("tests/test_generated.py", "tests/test_package_map.py", "tests/test_vocabulary.py"),
    *("tests/service/access", "tests/service/api", "tests/service/http", "tests/service/timelines"),
    *("tests/service/commands/test_erasure.py", "tests/service/cli/test_cli.py"),
)
"""The tests that run with all diffs: ALSO beside the checks of the page, WIDE in `make prove`."""


def diff(way: str) -> Path:
    return DOCS / "contributing" / f"{way}.diff"


def changed(way: str) -> set[str]:
    """The files that a diff changes or adds."""
    return set(re.findall(r"^\+\+\+ b/(.+)$", diff(way).read_text(), re.M))


@dataclass(frozen=True, slots=True)
class Step:
    """A row of the page: its diff, a file or a command, and its check."""

    way: str
    name: str
    check: str

    @property
    def is_tested(self) -> bool:
        """Whether its check is a test."""
        return self.check.startswith("tests/")


def steps() -> list[Step]:
    """The rows of the page's tables, in the order of the page."""
    found: list[Step] = []
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.M):
        if link := re.search(r"\(contributing/([\w-]+)\.diff\)", section):
            rows = re.findall(r"^\| (.+?) \| .+ \| (.+?) \|$", section, re.M)[1:]
            found += [Step(link[1], name.strip("`"), check.strip("`")) for name, check in rows]
    return found


STEPS: Final = steps()
CHECKED: Final = [step for step in STEPS if step.is_tested or step.check == LINT]
FEW: Final = (
    ("event", MARKED),
    ("event", VERSION),
    ("read-model", "tests/projections/fold.py"),
)
LEFT_OUT: Final = [step for step in CHECKED if PROVE or (step.way, step.name) in FEW]
"""The steps that are left out, one at a time."""


PACKAGES: Final = "tests/web/node_modules"
"""What the check of the web client's types needs."""


# Copies of the source ----------------------------------------------------------------------------


def copied(folder: Path) -> Path:
    """A copy of the source, with the environment and the bytecode of the original.

    Files keep their times, so Python takes the bytecode of those that no diff changes.
    """
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    names = [Path(name) for name in run(ROOT, *listed).stdout.splitlines()]
    for parent in {name.parent for name in names}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            shutil.copytree(ROOT / parent / "__pycache__", folder / parent / "__pycache__")
    for name in names:
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / PACKAGES).symlink_to(ROOT / PACKAGES)
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder. Python imports the folder's own packages."""
    environment = {key: each for key, each in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(folder)}
    environment |= {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    # Python takes bytecode for current by the file's size and second: here files change faster.
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("THROUGHLINE_PROVE", "THROUGHLINE_SEED"):
        environment.pop(name, None)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def run_tests(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy, without the plug-ins that take long to import."""
    options = ("-q", "-o", "addopts=", "--disable-plugin-autoload")
    plug_ins = ("-p", "no:cacheprovider", "-p", "anyio.pytest_plugin")
    return run(folder, sys.executable, "-m", "pytest", *options, *plug_ins, *tests)


def make(folder: Path, target: str) -> subprocess.CompletedProcess[str]:
    """Run `make` in a copy. It leaves the environment alone, which is that of the original."""
    return run(folder, "make", "-o", ".venv/.dev", target.removeprefix("make "))


def passes(ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 0, f"{ended.stdout[-3_000:]}\n{ended.stderr[:3_000]}"


def apply(folder: Path, way: str, *options: str) -> None:
    """Apply a diff. `git apply` takes options such as `--exclude=<file>`."""
    ended = run(folder, "git", "apply", *options, str(diff(way)))
    assert ended.returncode == 0, f"{diff(way)} does not fit, see {PAGE}:\n{ended.stderr}"


def raise_version(folder: Path) -> None:
    """Raise the version, as the check of the rules demands."""
    printed = run_tests(folder, "--noconftest", "tests/projections/test_rules.py").stdout
    found = re.search(r'above (\d+), so that .*?(rules="\w+",)', printed, re.S)
    assert found is not None, printed
    old = f'version={found[1]},\n    rules="{TIMELINE.rules}",'
    new = f"version={int(found[1]) + 1},\n    {found[2]}"
    replace(folder / "projections" / "timeline.py", old, new)


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{old} is not once in {file}"
    file.write_text(text.replace(old, new))


# The tests ---------------------------------------------------------------------------------------


def test_the_page_has_a_row_for_every_file_of_a_diff_and_for_no_other_file() -> None:
    for way in WAYS:
        names = [step.name for step in STEPS if step.way == way]
        assert len(names) == len(set(names))
        assert set(names) - {VERSION, SCHEMA} == changed(way)


def test_the_page_counts_the_files() -> None:
    source = {
        way: sum(
            name.startswith(SOURCE) and name.endswith((".py", ".sql")) for name in changed(way)
        )
        for way in WAYS
    }
    assert source == {"event": 5, "read-model": 3, "endpoint": 2, "setting": 2}
    assert len(changed("event")) == 8


def test_every_check_that_the_page_names_exists() -> None:
    for step in STEPS:
        path, _, name = step.check.partition("::")
        if name:
            assert f"def {name}(" in (ROOT / path).read_text(), step


@pytest.mark.slow
def test_all_checks_pass_with_every_step_of_the_page(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for way in WAYS:
        apply(folder, way)
    raise_version(folder)
    passes(make(folder, SCHEMA))
    passes(make(folder, LINT) if PROVE else run(folder, ".venv/bin/ruff", "check", "."))
    named = {step.check for step in STEPS if step.is_tested and EVERY not in step.check}
    few = (*named, *ALSO, EVERY, "-k", OF_NOTES)
    passes(run_tests(folder, *(WIDE if PROVE else few)))


@pytest.mark.slow
@pytest.mark.parametrize("step", LEFT_OUT, ids=lambda step: f"{step.way} {step.name}")
def test_a_forgotten_step_fails_its_check(step: Step, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for way in WAYS[: WAYS.index(step.way)]:
        apply(folder, way)
    if step.name == MARKED:
        apply(folder, step.way)
        replace(folder / MARKED, "    note: Text\n", "    note: str\n")
    else:
        apply(folder, step.way, f"--exclude={step.name}")
    # The checks of FEW need no fixture, and without conftest.py they start sooner.
    options = () if PROVE else ("--noconftest",)
    ended = make(folder, LINT) if step.check == LINT else run_tests(folder, *options, step.check)
    assert ended.returncode != 0, f"{step.check} does not see that it is forgotten"
    if step.is_tested:
        # Where the step is missing already for conftest.py, no test begins.
        failed = rf"^(FAILED|ERROR) {step.check.partition('::')[0]}"
        failed += "|^ImportError while loading conftest"
        assert re.search(failed, ended.stdout + ended.stderr, re.M)
    assert not re.search(r"fixture '\w+' not found", ended.stdout)
