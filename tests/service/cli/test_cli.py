"""The product as a new user meets it: start it, run the lines that it prints, stop it."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self
from urllib.parse import urlsplit

import psutil
import pytest
import typer

from projections import PROJECTIONS
from service import cli
from service.postgres.embedded import Server
from service.settings import Settings
from service.wire import BEGINNING
from tests.documents import DOCS, README, rows, shell
from tests.running import UNSAFE

THROUGHLINE = Path(sys.executable).parent / "throughline"


class Served:
    """A running `throughline serve` and its output."""

    def __init__(self, folder: Path, errors: IO[bytes]) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTEST_VERSION"},
            "THROUGHLINE_DATA_DIR": str(folder / "data"),
            "THROUGHLINE_PORT": "0",
        }
        self.process = subprocess.Popen(
            [THROUGHLINE, "serve"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        self.printed = self._until("Ctrl-C")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the service if a failed test has left it running."""
        if self.process.poll() is None:
            self.stop(signal.SIGTERM)

    def _until(self, word: str) -> str:
        assert self.process.stdout is not None
        printed = ""
        for line in self.process.stdout:
            printed += line
            if word in line:
                return printed
        raise AssertionError(f"it ended early: {printed}")

    def shell(self, line: str) -> str:
        """Run a line in a shell, as a user pastes it."""
        return subprocess.run(
            ["bash", "-c", line],
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another throughline command beside the service."""
        return subprocess.run(
            [THROUGHLINE, *arguments],
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def lines(self) -> list[str]:
        """The shell lines of the output."""
        return re.findall(r"^  (.+)$", self.printed, re.MULTILINE)

    def until(self, *words: str, project_id: str = "demo") -> bool:
        """Watch the timeline until an item has all these words."""
        path = f"/v1/project/{project_id}/timeline/stream?userId=ada"
        header = self.command("sign", "GET", path).stdout.strip()
        address = re.search(r"listens on (\S+)", self.printed)
        assert address is not None
        command = ["curl", "-sN", "--max-time", "60", "-H", header, address[1] + path]
        # From the beginning of the log, so that the stream misses nothing, at any time of the call.
        command += ["-H", f"Last-Event-ID: {BEGINNING}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            for line in watching.stdout:
                if all(word in line for word in words):
                    watching.kill()
                    return True
        return False

    def stop(self, how: signal.Signals) -> int:
        """End the service with a signal; returns the exit code."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(how)
        code = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
        return code


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="throughline-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.slow
def test_a_first_run_works_as_printed_and_a_second_finds_its_data(folder: Path) -> None:
    with (folder / "errors").open("wb") as errors:
        with Served(folder, errors) as first:
            signs_in(first)
            stream, timeline, bill, convert, ask = first.lines()
            streamed = first.shell(stream)
            assert streamed.startswith(": throughline\n\nretry: 1000\nid: ")
            final = json.loads(streamed.rpartition("data: ")[2])
            assert final["subtype"] == "success"
            readme_shows(stream, streamed)
            items = json.loads(first.shell(timeline))["items"]
            assert items[0]["aiResponse"]["data"] == final["data"]
            session = json.loads(first.shell(bill))
            assert session["billing"]["aiSeconds"] == final["metadata"]["billed_seconds"]
            asked = json.loads(first.shell(ask))
            assert first.until('"kind":"run","status":"succeeded"', asked["runId"])
            built = json.loads(first.shell(convert))
            assert built["status"] == "queued"
            assert first.until('"type":"deployment"', built["buildId"])
            shell_lines_of_the_documents_work(first)
            items = json.loads(first.shell(timeline))["items"]
            happened = [each for each in items if each["kind"] != "system_message"]
            assert [each["kind"] for each in happened[:3]] == [
                "deployment",
                "build_reference",
                "user_message",
            ]
            assert {each["status"] for each in happened[:3]} == {"deployed"}
            is_filled = first.until('"type":"deployment"', project_id="tea")
            assert is_filled, warnings(folder / "errors")
            key = re.search(r"Demo key: demo / (\S+)", first.printed)
            assert first.stop(signal.SIGINT) == 0

        with Served(folder, errors) as second:
            again = json.loads(second.shell(second.lines()[1]))["items"]
            assert again == items
            assert key is not None
            assert key[0] in second.printed
            commands_work_beside(second)
            assert second.stop(signal.SIGTERM) == 0
    code = first.printed.partition("?code=")[2].partition("\n")[0]
    logs_have_no_texts_or_secrets(folder / "errors", key[1], code)


def warnings(errors: Path) -> list[str]:
    """What a service logged that is more than information."""
    lines = errors.read_text().splitlines()
    return [line for line in lines if '"level":"info"' not in line]


def signs_in(served: Served) -> None:
    """The first line that is printed is a link, and the command `link` prints another link."""
    first = re.match(r"\s*Open (http://\S+)/\?code=(\S+)\n.* link --user ada\n", served.printed)
    assert first is not None
    address, code = first.groups()
    link = ("link", "--user", "ada", "--url")
    another = served.command(*link, address, "--project", "demo")
    assert another.returncode == 0, another.stderr
    assert another.stdout.startswith(f"{address}/?code=")
    call = f"curl -s {address}/v1/browser-sessions -H 'Content-Type: application/json'"
    for each in (code, another.stdout.strip().partition("=")[2]):
        body = json.dumps({"code": each})
        answer = served.shell(f"{call} -H 'Sec-Fetch-Site: same-origin' -d '{body}'")
        assert json.loads(answer)["userId"] == "ada"
    unknown = served.command(*link, address, "--project", "none")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("throughline: The service refuses: ")
    nobody = served.command(*link, "http://127.0.0.1:1")
    assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1)


def readme_shows(command: str, streamed: str) -> None:
    """The README has the printed command, and a reply with the events and keys of this reply."""
    (block,) = re.findall(r"^```console\n(.*?)^```$", README.read_text(), re.M | re.S)
    lines, _, shown = block.partition(": throughline\n")
    written = re.sub(r"\s*\\\n\s*|\n", " ", lines.replace("$ B=", "B=").replace("\n$ ", "; "))
    assert plain(written) == plain(command)
    happened = [frame.split("\n")[-2:] for frame in streamed.split("\n\n")[1:] if frame]
    for name, data in re.findall(r"^event: (\w+)\ndata: (.+)$", shown, re.M):
        of_name = [line for event, line in happened if event == f"event: {name}"]
        keys = set(re.findall(r'"(\w+)":', data))
        assert any(keys <= set(re.findall(r'"(\w+)":', line)) for line in of_name), name


def plain(command: str) -> str:
    """A shell command without the parts that differ: the program's path, the port, spaces."""
    command = re.sub(r"'[^' ]*throughline'", "throughline", command)
    return re.sub(r"\s+", " ", re.sub(r"(127\.0\.0\.1):\d+", r"\1", command)).strip()


CURL = """
curl() {
  local seconds=60; case "$*" in */timeline/stream*|*/sessions/*/stream*) seconds=2;; esac
  command curl --max-time $seconds -w '%{stderr}answered %{http_code} %{url}\\n' "$@"
}
"""
"""A live timeline has no end, so it is cut. Each call says on standard error how it ended."""

OTHERS = ("contributing.md", "embedding.md", "replay.md", "tutorial.md")
"""Pages whose shell lines other tests run."""

USERS_PAGES = tuple(page for page in sorted(DOCS.glob("*.md")) if page.name not in OTHERS)
"""Pages with shell lines for a running service. The README has a line that `serve` prints."""


def shell_lines_of_the_documents_work(served: Served) -> None:
    """The shell lines of each page, pasted into one shell, all get an answer that is no problem."""
    address = re.search(r"listens on (\S+)", served.printed)
    key = re.search(r"Demo key: (\S+) / (\S+)", served.printed)
    assert address is not None
    assert key is not None
    answered: list[str] = []
    for page in USERS_PAGES:
        script = shell(page).replace(".venv/bin/throughline", str(THROUGHLINE))
        script = signed_quickly(script.replace("http://127.0.0.1:8400", address[1]))
        done = subprocess.run(
            ["bash", "-uc", f"KEY_ID={key[1]}; SECRET={key[2]}; {CURL}\n{script}"],
            env=served.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        calls = re.findall(r"^answered (\d+) (.+)$", done.stderr, re.M)
        assert [call for call in calls if not call[0].startswith("2")] == [], done.stdout
        rest = re.sub(r"^(answered|curl: \(28\)) .*\n", "", done.stderr, flags=re.M)
        assert rest == "", page
        answered += [urlsplit(url).path for _, url in calls]
    assert len(answered) >= 10
    assert {"/v1/chat-plan/convert-to-build", "/v1/project/shop/timeline/stream"} <= {*answered}


def signed_quickly(script: str) -> str:
    """The script with the documented shell function that signs, from the examples of sessions on.

    The function is quicker than the command, which signs the lines before.
    """
    function = re.search(r"^sign\(\) \{ # sign METHOD.*?^\}\n", script, re.M | re.S)
    return script if function is None else script.replace("\nidea=", f"\n{function[0]}idea=", 1)


def commands_work_beside(served: Served) -> None:
    """The other commands use the running service's database."""
    status = served.command("projections", "status")
    assert status.returncode == 0, status.stderr
    assert status.stdout.count("live") >= len([each for each in PROJECTIONS if each.is_inline])
    for verb in ("verify", "rebuild", "verify"):
        done = served.command("projections", verb, "all")
        assert done.returncode == 0, done.stderr
    assert done.stdout.count(" agrees with the log") == len(PROJECTIONS)
    replayed = [json.loads(line) for line in served.command("events", "replay").stdout.splitlines()]
    assert [event["position"] for event in replayed] == list(range(1, len(replayed) + 1))
    assert replayed[0]["type"] == "ProjectRegistered"
    of_demo = served.command("events", "replay", "--tenant", "demo", "--format", "cloudevents")
    exported = [json.loads(line) for line in of_demo.stdout.splitlines()]
    assert [each["type"] for each in exported] == [each["type"] for each in replayed]
    assert "demo" in served.command("keys").stdout
    assert served.command("projections", "rebuild", "nothing").returncode == 2
    assert served.command("sign", "GET", "/x", "--key", "nobody").returncode == 2


def logs_have_no_texts_or_secrets(errors: Path, *secrets: str) -> None:
    """Every log line is JSON with its request's id, and has no text of users and no secret."""
    text = errors.read_text()
    assert "login page" not in text
    assert [each for each in secrets if each in text] == []
    assert "userId=" not in text
    requests = [json.loads(line) for line in text.splitlines() if '"event":"request"' in line]
    assert {each["operation"] for each in requests} >= {
        *("postChatPlan", "getTimeline", "getSession"),
        *("convertToBuild", "claimBuild", "reportBuild"),
        *("createRun", "claimRun", "reportRun"),
    }
    assert all(each["request_id"] for each in requests)


def test_an_unsafe_database_is_refused(server: Server) -> None:
    done = subprocess.run(
        [THROUGHLINE, "serve"],
        env={**os.environ, "THROUGHLINE_DATABASE_URL": server.url, "THROUGHLINE_PORT": "0"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert all(setting in done.stderr for setting in UNSAFE)


def test_the_operations_page_has_a_row_for_every_setting_and_for_nothing_else() -> None:
    variables: set[str] = set()
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        variables.add(alias if isinstance(alias, str) else f"THROUGHLINE_{name.upper()}")
        assert field.description
    listed = {row[0].strip("`") for row in rows(DOCS / "operations.md") if row[0].isupper()}
    assert listed == variables


def test_the_operations_page_lists_every_command() -> None:
    page = (DOCS / "operations.md").read_text()
    described = set(re.findall(r"^    throughline ([a-z]+(?: [a-z]+)*)", page, re.M))
    commands = set(commands_of(cli.app))
    assert {"serve", "events export", "projections rebuild"} <= commands
    assert commands <= described


def commands_of(group: typer.Typer, *words: str) -> Iterator[str]:
    """The commands of the command line, each with the groups before it."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield " ".join((*words, command.name or command.callback.__name__))
    for each in group.registered_groups:
        assert each.typer_instance is not None
        assert each.name is not None
        yield from commands_of(each.typer_instance, *words, each.name)


def test_an_invalid_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THROUGHLINE_PORT", "a lot")
    with pytest.raises(ValueError, match="port"):
        Settings()
