"""`throughline events`: the page of the commands as written, and what each command refuses."""

import asyncio
import re
import shlex
import sys
from collections.abc import Callable
from importlib import import_module
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio
import orjson
import psycopg
import pytest
from rich.console import Console

from projections import PROJECTIONS
from service.cli import main
from service.cli.events.output import Form, Printer
from service.cli.events.tail import print_live
from service.replay.archive import ArchiveReader, dumped, line
from service.replay.reading import EventFilter
from tests.documents import DOCS, code, shell
from tests.projections.generated import World, writing
from tests.service.eventlog.logs import event, running_log
from tests.service.replay.test_delivery import Receiver, receiving

PAGE: Final = DOCS / "replay.md"
KEYS: Final = '{"k1":{"secret":"a-secret-of-sixteen-characters","tenant":"t1","scopes":["read"]}}'
Run: TypeAlias = Callable[..., tuple[int, bytes, str]]


@pytest.fixture
def run(
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
) -> Run:
    """Run a command in this process, in a folder of its own; returns its exit code, what it wrote
    to stdout, and what it wrote to stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THROUGHLINE_HMAC_KEYS", KEYS)

    def execute(*arguments: str, database: str = url) -> tuple[int, bytes, str]:
        monkeypatch.setenv("THROUGHLINE_DATABASE_URL", database)
        monkeypatch.setattr(sys, "argv", ["throughline", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capfdbinary.readouterr()
        return int(ended.value.code or 0), written.out, written.err.decode()

    return execute


def fill(url: str, count: int = 120) -> None:
    """A generated log, and the events that the page names."""

    async def append() -> None:
        async with writing(url) as log:
            await log.append(World(7).appends(count))
            await log.append(
                [[event("s", tenant="acme")], [event("s")._replace(project_id="demo")]]
            )

    anyio.run(append)


def lines(written: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in written.splitlines()]


def positions(written: bytes) -> list[int]:
    return [each["position"] for each in lines(written)]


def test_the_commands_of_the_page_work_as_written(
    run: Run,
    url: str,
    new_database: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(url)
    new_url = new_database()
    written: dict[str, bytes] = {}
    with receiving() as receiver:
        for line in filter(None, shell(PAGE).splitlines()):
            words = shlex.split(
                line.replace("https://example.org/events", receiver.url), comments=True
            )
            is_new = words[0].startswith("THROUGHLINE_DATABASE_URL=")
            arguments = words[2:] if is_new else words[1:]
            if "tail" in arguments and "--no-follow" not in arguments:
                arguments.append("--no-follow")  # a follower ends with Ctrl-C
            code, out, err = run(*arguments, database=new_url if is_new else url)
            assert code == 0, (line, err)
            written[line.partition("#")[0].strip()] = out
        all_sent(receiver, written["throughline events replay --from 1 --to 20 --format json"])
        again = ("--url", receiver.url, "--checkpoint", "sent.json")
        assert run("events", "replay", *again)[2].endswith(": 0 events taken\n")
        assert run("events", "replay", *again, "--tenant", "t1")[0] == 2, "other events"
    assert {line.split()[-1] for line in written if "import" in line} == {"log.ndjson"}
    checked = written["throughline events verify"].decode().splitlines()
    assert len(checked) == 6 + len(PROJECTIONS)
    assert all(line.endswith(": right") for line in checked)
    assert positions(written["throughline events tail"])[-1] == head(url)
    whole = (tmp_path / "log.ndjson").read_bytes()
    assert run("events", "export", "copy.ndjson", database=new_url)[0] == 0
    assert (tmp_path / "copy.ndjson").read_bytes() == whole, "the import made the same log"
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(whole)))
    again_imported = run("events", "import", "-", database=new_url)[1]
    assert b"stdin: 0 events imported, %d were in the log already\n" % head(url) in again_imported
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(whole[:-9])))
    assert run("events", "import", "-")[2].startswith("throughline: stdin was cut")
    assert lines((tmp_path / "acme.ndjson").read_bytes())[1]["tenant"] == "acme"
    assert (tmp_path / "log.ndjson").stat().st_mode & 0o777 == 0o600


def all_sent(receiver: Receiver, shown: bytes) -> None:
    """The receiver has the whole log. `json` is printed on several lines."""
    count = len(receiver.ids())
    assert receiver.ids() == list(range(1, count + 1))
    assert count > 120
    assert shown.count(b'\n  "position": ') == 20


def head(url: str) -> int:
    with psycopg.connect(url) as connection:
        (found,) = connection.execute("select max(position) from app.event").fetchone() or (0,)
    return int(found)


def test_the_page_shows_an_archive_as_it_is() -> None:
    archive = code(PAGE, "json").encode()
    reader = ArchiveReader(BytesIO(archive))
    reader.check(lambda _at, _end: None)
    ((append_id, shown),) = reader.entries()
    assert (
        dumped(reader.header) + line(shown, append_id) + archive.splitlines(keepends=True)[-1]
        == archive
    )


def test_the_options_select_events(run: Run, url: str) -> None:
    fill(url)
    everything = lines(run("events", "replay")[1])
    assert [each["position"] for each in everything] == list(range(1, head(url) + 1))
    session = next(each["stream"] for each in everything if each["stream"].startswith("session-"))
    middle = everything[50]
    for arguments, selected in (
        (["--tenant", "t1"], lambda each: each["tenant"] == "t1"),
        (["--project", "shop"], lambda each: each.get("projectId") == "shop"),
        (["--session", session[8:]], lambda each: each["stream"] == session),
        (["--stream", session], lambda each: each["stream"] == session),
        (["--type", "UserMessagePosted", "--type", "TimeConsumed"],
         lambda each: each["type"] in ("UserMessagePosted", "TimeConsumed")),
        (["--from", "40", "--to", "60"], lambda each: 40 <= each["position"] <= 60),
        (["--from", middle["recordedAt"]], lambda each: each["recordedAt"] >= middle["recordedAt"]),
        (["--to", middle["recordedAt"]], lambda each: each["recordedAt"] <= middle["recordedAt"]),
        (["--from", "1h"], lambda _: True),
        (["--to", "1h"], lambda _: False),
        (["--to", "9999-12-31T23:59:59.999999Z"], lambda _: True),
        (["--from", "2000-01-01", "--tenant", "t2", "--type", "TimeReserved"],
         lambda each: (each["tenant"], each["type"]) == ("t2", "TimeReserved")),
    ):  # fmt: skip
        wanted = [each["position"] for each in everything if selected(each)]
        assert positions(run("events", "replay", *arguments)[1]) == wanted, arguments
        tailed = [each for each in arguments if each != "--to"]
        if tailed == arguments and "--from" not in arguments:
            found = positions(run("events", "tail", "--no-follow", "-n", "3", *arguments)[1])
            assert found == wanted[-3:], arguments


def test_each_format_shows_the_same_events(run: Run, url: str) -> None:
    fill(url, 20)
    shown = run("events", "replay", "--to", "2", "--format", "json")[1]
    assert orjson.loads(b"[" + shown.replace(b"\n}\n{", b"\n},{") + b"]") == lines(
        run("events", "replay", "--to", "2")[1]
    )
    last = run("events", "replay", "--tenant", "acme", "--format", "cloudevents")[1]
    assert lines(last)[0]["source"] == "/tenants/acme"
    assert lines(last)[0]["prev"] is None
    after = lines(run("events", "replay", "--from", "2", "--format", "cloudevents")[1])
    assert [each["prev"].partition(".")[0] for each in after[:2]] == ["1", "2"]
    table = run("events", "replay", "--format", "table")[1].decode().splitlines()
    assert [int(row.split()[0]) for row in table] == list(range(1, head(url) + 1))


def test_no_text_of_the_log_controls_a_terminal(run: Run, url: str) -> None:
    async def append() -> None:
        async with writing(url) as log:
            named = event("\x1b[2J", state='{"text":"\u009b31m"}'.encode())
            await log.append([[named]])

    anyio.run(append)
    for form in ("table", "json"):
        shown = run("events", "replay", "--format", form)[1].decode()
        assert "\x1b" not in shown
        assert "\u009b" not in shown
        assert "\\u009b31m" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("replay --from yesterday", "--from yesterday: give a position, a time"),
        ("replay --to 5x", "--to 5x: give a position, a time"),
        ("replay --speed fast", "fast is no speed. Use original, max, or a factor"),
        ("replay --checkpoint c", "--checkpoint needs --url"),
        ("replay --url ftp://x", "--url must begin with http:// or https://"),
        ("replay --url http://x --key k9", "there is no key k9; known are k1"),
        ("tail --session a --stream b", "--session and --stream exclude each other"),
        ("export there.ndjson", "there.ndjson exists. Name another file"),
        ("export none.ndjson --resume", "there is no file none.ndjson to resume"),
        ("export - --resume", "stdout takes new exports as ndjson only"),
        ("export there.ndjson --resume --format parquet", "a Parquet file cannot be resumed"),
        ("export there.ndjson --resume", "there.ndjson is no archive of events"),
        ("import there.ndjson", "there.ndjson is no archive of events"),
        ("import none.ndjson", "there is no file none.ndjson"),
    ],
)
def test_a_wrong_use_is_refused_with_what_to_do(
    run: Run, tmp_path: Path, arguments: str, said: str
) -> None:
    (tmp_path / "there.ndjson").write_text("something else\n")
    code, _, err = run("events", *arguments.split())
    assert code == 2
    assert said in re.sub(r"\s*[│╭╰─╮╯]*\s+", " ", err)
    assert (tmp_path / "there.ndjson").read_text() == "something else\n"


def test_a_cut_export_is_resumed_with_the_same_options_alone(
    run: Run, url: str, tmp_path: Path
) -> None:
    fill(url, 40)
    file = tmp_path / "part.ndjson"
    arguments = ("events", "export", str(file), "--tenant", "t1", "--from", "3")
    assert run(*arguments)[0] == 0
    whole = file.read_bytes()
    for end in (0, 20, len(whole) // 2, len(whole)):
        file.write_bytes(whole[:end])
        assert run(*arguments, "--resume")[0] == 0
        assert file.read_bytes() == whole
    file.write_bytes(whole[:-80])
    code, _, err = run(*arguments[:3], "--tenant", "t2", "--from", "3", "--resume")
    assert code == 2
    assert "Give the options with which it was begun" in err
    code, _, err = run(*arguments[:5], "--from", "2h", "--resume")
    assert code == 2
    assert f"{file} begins with another event. Give it as --from 3." in err
    assert run("events", "import", str(file))[2].startswith(f"throughline: {file} was cut")


class Shown(BytesIO):
    """A terminal that tells when something was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.news = asyncio.Event()

    def flush(self) -> None:
        """What was written is there to see."""
        if self.getvalue():
            self.news.set()


async def test_a_tail_prints_the_chosen_events_as_they_happen(url: str) -> None:
    async with running_log(url) as log:
        shown = Shown()
        printer = Printer(Form.NDJSON, "", file=shown)
        wanted = EventFilter(tenant_id="t1", types=("X",))
        tail = asyncio.create_task(print_live(log.live_log, wanted, 0, printer))
        await log.writer.append([event("a", tenant="t2")])
        await log.writer.append([event("b", kind="Y")])
        await log.writer.append([event("c")])
        async with asyncio.timeout(10):
            await shown.news.wait()
        tail.cancel()
        assert [each["stream"] for each in lines(shown.getvalue())] == ["c"]


def test_an_unknown_type_is_told_and_a_known_one_is_not(run: Run) -> None:
    code, _, err = run("events", "replay", "--type", "UserMessagPosted", "--type", "TimeReserved")
    assert code == 0
    assert err == "throughline: UserMessagPosted is no type of this service's events.\n"


def test_an_export_goes_to_stdout(run: Run, url: str) -> None:
    fill(url, 20)
    code, out, err = run("events", "export", "-", "--from", "5")
    assert code == 0
    header, *exported, trailer = lines(out)
    assert (header["after"], trailer["events"]) == (4, len(exported))
    assert err == f"stdout: {len(exported)} events after position 4 up to {head(url)}\n"


def test_a_verification_that_finds_a_fault_has_exit_code_1(run: Run, url: str) -> None:
    fill(url, 20)
    with psycopg.connect(url) as connection:
        connection.execute("alter table app.event disable trigger user")
        connection.execute("delete from app.event where position = 2")
    code, out, _ = run("events", "verify")
    assert code == 1
    assert b"positions: wrong\n  position 3 follows 1: positions between are missing\n" in out


def on_screen(written: str) -> list[str]:
    """The lines that a terminal shows after this was written to it."""
    rows, at = [""], 0
    for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", written):
        if part == "\n":
            at += 1
            rows += [""] if at == len(rows) else []
        elif part == "\x1b[1A":
            at -= 1
        elif part == "\x1b[2K":
            rows[at] = ""
        elif part[0] not in "\x1b\r":
            rows[at] += part
    return [row for row in rows if row]


def test_a_terminal_keeps_the_results_and_no_bar(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = StringIO()
    for module, name in (("verify", "out"), ("progress", "err")):
        console = Console(file=screen, force_terminal=True, width=100, highlight=False)
        monkeypatch.setattr(import_module(f"service.cli.events.{module}"), name, console)
    assert run("events", "verify")[0] == 0
    assert "\x1b[2K" in screen.getvalue(), "a bar was shown"
    shown = on_screen(screen.getvalue())
    assert len(shown) == 6 + len(PROJECTIONS)
    assert all(re.fullmatch(r"[a-z_ ]+: right", line) for line in shown), shown


def test_a_missing_pyarrow_is_named_with_its_extra(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = run("events", "export", "x.parquet", "--format", "parquet")
    assert code == 2
    assert "pip install pyarrow" in err
    assert list(tmp_path.iterdir()) == []


def test_a_parquet_file_has_the_log(run: Run, url: str, tmp_path: Path) -> None:
    async def append() -> None:
        async with writing(url) as log:
            await log.append([[event("odd", state=b"\xff")]])

    anyio.run(append)
    fill(url, 60)
    assert run("events", "export", "x.parquet", "--format", "parquet")[0] == 0
    table = import_module("pyarrow.parquet").read_table(tmp_path / "x.parquet")
    everything = lines(run("events", "replay")[1])
    assert table["position"].to_pylist() == [each["position"] for each in everything]
    assert [str(each) for each in table["append_id"].to_pylist()] == [
        each["appendId"] for each in everything
    ]
    states = table["state"].to_pylist()
    assert (states[0], table["state_bytes"].to_pylist()[0]) == (None, b"\xff")
    assert [orjson.loads(each) for each in states[1:]] == [each["state"] for each in everything[1:]]
    assert orjson.loads(table.schema.metadata[b"throughline"])["format"] == "throughline-events/1"
