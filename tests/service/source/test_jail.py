"""Attacks on the jail of a project's source: nothing outside is returned, nothing is written."""

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.source import jail, results, walk
from service.source.jail import Source, Sources
from service.source.results import SourceRefused
from service.source.secrets import is_secret_name

CANARY = "canary-7f3a"
BURSTS, READS = 30, 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tenant's project, another tenant's project, and a file beside both."""
    root = tmp_path / "sources" / "t1" / "shop"
    (root / "src" / "deep").mkdir(parents=True)
    (root / "README.md").write_text("# Shop\n\nTea and more tea.\n")
    (root / "src" / "app.py").write_text("def greet():\n    return 'Tea'\n")
    (root / "src" / "deep" / "x.py").write_text("x = 1\n")
    other = tmp_path / "sources" / "t2" / "blog"
    other.mkdir(parents=True)
    (other / "post.md").write_text(CANARY)
    (tmp_path / "outside.txt").write_text(CANARY)
    return tmp_path / "sources"


@pytest.fixture
def root(folder: Path) -> Path:
    return folder / "t1" / "shop"


@pytest.fixture
def source(folder: Path) -> Source:
    found = Sources(folder).of("t1", "shop")
    assert found is not None
    return found


def code(read: Callable[[], object]) -> str:
    with pytest.raises(SourceRefused) as refused:
        read()
    assert CANARY not in str(refused.value)
    assert str(Path(tempfile.gettempdir())) not in str(refused.value)
    return refused.value.code


# reads -------------------------------------------------------------------------------------------


def test_files_are_listed_read_and_searched(source: Source) -> None:
    assert source.list_files().paths == ("README.md", "src/app.py", "src/deep/x.py")
    assert source.list_files("src").paths == ("src/app.py", "src/deep/x.py")
    assert source.list_files("./src/").paths == source.list_files("src").paths
    assert source.read_file("src/app.py").text == "1\tdef greet():\n2\t    return 'Tea'"
    assert source.read_file("README.md", 3, 1).text == "3\tTea and more tea."
    assert source.search_files("TEA").text == (
        "README.md:3: Tea and more tea.\nsrc/app.py:2: return 'Tea'"
    )
    assert source.search_files("tea", "src").text == "src/app.py:2: return 'Tea'"
    assert source.search_files("nowhere").text == "Nothing was found."


def test_a_reference_is_valid_where_the_file_has_its_text(source: Source) -> None:
    assert source.holds("src/app.py", 2, "return  'Tea'")
    assert source.holds("src/app.py", 1, "def greet():\n    return 'Tea'\n")
    assert not source.holds("src/app.py", 1, "return 'Tea'")
    assert not source.holds("src/app.py", 2, "return 'Coffee'")
    assert not source.holds("src/app.py", 2, "return 'Tea'\nmore")
    assert not source.holds("src/app.py", 2, " \n ")
    assert not source.holds("src/app.py", 0, "def greet():")
    assert not source.holds("src/app.py", -1, "def greet():")
    assert not source.holds("nothing.py", 1, "x")


def test_long_results_are_cut(source: Source, root: Path) -> None:
    (root / "long.txt").write_text("".join(f"{'x' * 60} {n}\n" for n in range(5_000)))
    excerpt = source.read_file("long.txt", 10, 5_000)
    assert (excerpt.first, excerpt.total) == (10, 5_000)
    assert len(excerpt.lines) <= jail.MOST_LINES
    assert len(excerpt.text) <= results.MOST_CHARACTERS + 100
    assert excerpt.text.endswith("(There is more.)")
    found = source.search_files("x")
    assert len(found.matches) == jail.MOST_FOUND
    assert found.is_cut
    (root / "wide.txt").write_text("y" * 100_000)
    assert len(source.search_files("yy").matches[0].snippet) == jail.LONGEST_SNIPPET
    assert len(source.read_file("wide.txt").text) < 100


def test_lines_are_counted_as_an_editor_counts_lines(source: Source, root: Path) -> None:
    (root / "odd.txt").write_bytes("a\x0bb\u2028c\r\nd\n".encode())
    assert source.read_file("odd.txt").lines == ("a\x0bb\u2028c", "d")


def test_a_long_list_of_files_is_truncated(
    source: Source, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jail, "MOST_LISTED", 2)
    assert source.list_files().is_cut
    monkeypatch.setattr(walk, "MOST_ENTRIES", 3)
    (root / "one-more.txt").touch()
    assert source.list_files().is_cut


def test_folders_of_dependencies_are_not_walked(source: Source, root: Path) -> None:
    (root / "node_modules" / "left").mkdir(parents=True)
    (root / "node_modules" / "left" / "pad.js").write_text("pad")
    assert "node_modules/left/pad.js" not in source.list_files().paths
    assert source.read_file("node_modules/left/pad.js").lines == ("pad",)


def test_the_depth_of_a_tree_is_limited(source: Source, root: Path) -> None:
    (root / "/".join(["d"] * 60)).mkdir(parents=True)
    assert source.list_files().is_cut


# nothing outside ---------------------------------------------------------------------------------

OUTSIDE = [
    "..",
    "../",
    "../../t2/blog/post.md",
    "src/../../../t2/blog/post.md",
    "src/..",
    "/etc/passwd",
    "//etc/passwd",
    "./../shop/README.md",
    "src//app.py",
    "src/./app.py",
    "..\\..\\outside.txt",
    "README.md\0",
    "\0",
    "a" * 2_000,
    "/".join("a" * 1_000),
    "\ud800",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leads_outside_is_refused(source: Source, path: str) -> None:
    reads: list[Callable[[], object]] = [lambda: source.read_file(path)]
    if path.strip("./"):
        reads += [lambda: source.list_files(path), lambda: source.search_files("tea", path)]
    for read in reads:
        assert code(read) == "outside"
    assert not source.holds(path, 1, CANARY)


def test_a_name_that_is_too_long_for_the_system_is_not_found(source: Source) -> None:
    assert code(lambda: source.read_file("a" * 900)) == "not_found"


@pytest.mark.parametrize("target", ["file", "folder", "loop", "absolute"])
def test_no_link_is_followed(source: Source, root: Path, folder: Path, target: str) -> None:
    links = {
        "file": "../../t2/blog/post.md",
        "folder": "../../t2/blog",
        "loop": "link",
        "absolute": str(folder.parent),
    }
    (root / "link").symlink_to(links[target])
    for path in ("link", "link/post.md", "link/outside.txt"):
        assert code(lambda path=path: source.read_file(path)) == "not_found"  # type: ignore[misc]
    assert code(lambda: source.list_files("link")) == "not_found"
    assert "link" not in source.list_files().text
    assert source.search_files(CANARY).matches == ()


def test_a_link_inside_the_project_is_not_followed_either(source: Source, root: Path) -> None:
    (root / "again").symlink_to("src")
    assert code(lambda: source.read_file("again/app.py")) == "not_found"
    assert source.list_files().paths == ("README.md", "src/app.py", "src/deep/x.py")


@pytest.mark.parametrize(
    ("tenant", "source_root"),
    [
        ("t1", "../t2/blog"),
        ("t1", "/etc"),
        ("t1", ".."),
        ("t1", "."),
        ("t1", "nothing"),
        ("t1", "linked"),
        ("t1", "linked/blog"),
        ("t1", "shop/README.md"),
        ("t1", ""),
        ("t1", None),
        ("../sources/t1", "shop"),
        ("..", "t2"),
        (".", "t1"),
        ("", "t1/shop"),
        ("t1/shop", "src"),
        ("t3", "shop"),
    ],
)
def test_a_project_s_folder_is_inside_its_tenant_s_folder(
    folder: Path, tenant: str, source_root: str | None
) -> None:
    (folder / "t1" / "linked").symlink_to("../t2")
    assert Sources(folder).of(tenant, source_root) is None


def test_without_a_folder_there_is_no_source(tmp_path: Path) -> None:
    assert Sources(None).of("t1", "shop") is None
    assert Sources(tmp_path / "nothing").of("t1", "shop") is None


def test_a_tenant_sees_only_its_own_source(folder: Path) -> None:
    mine, theirs = Sources(folder).of("t1", "shop"), Sources(folder).of("t2", "blog")
    assert mine is not None
    assert theirs is not None
    assert theirs.read_file("post.md").lines == (CANARY,)
    assert code(lambda: mine.read_file("post.md")) == "not_found"


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["..", ".", "src", "t2", "", "a"])).map("/".join)
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_path_returns_a_file_outside(source: Source, path: str) -> None:
    for read in (source.read_file, source.list_files, lambda p: source.search_files(CANARY, p)):
        with suppress(SourceRefused):
            assert CANARY not in read(path).text


# files that are not regular text -----------------------------------------------------------------


@pytest.fixture
def short() -> Iterator[Path]:
    """A short path, because a socket's name has a short limit."""
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "t" / "p").mkdir(parents=True)
        yield Path(made)


def test_a_file_that_is_not_regular_is_refused_at_once(short: Path) -> None:
    root = short / "t" / "p"
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(root / "socket"))
    names = ["pipe", "folder", "socket"]
    if os.geteuid() == 0:
        os.mknod(root / "zero", 0o666 | 0o020000, os.makedev(1, 5))
        names.append("zero")
    source = Sources(short).of("t", "p")
    assert source is not None
    for name in names:
        found = code(lambda name=name: source.read_file(name))  # type: ignore[misc]
        assert found in ("not_a_file", "not_found"), name
    assert source.list_files().paths == ()
    server.close()


def test_huge_and_binary_files_are_refused(source: Source, root: Path) -> None:
    (root / "huge.txt").write_bytes(b"x" * (jail.LARGEST_FILE + 1))
    (root / "fits.txt").write_bytes(b"x\n" * (jail.LARGEST_FILE // 2))
    (root / "sparse.txt").touch()
    os.truncate(root / "sparse.txt", 1 << 40)
    (root / "nul.txt").write_bytes(b"text" * 5_000 + b"\0")
    (root / "latin.txt").write_bytes(b"caf\xe9")
    assert code(lambda: source.read_file("huge.txt")) == "too_large"
    assert code(lambda: source.read_file("sparse.txt")) == "too_large"
    assert source.read_file("fits.txt").total == jail.LARGEST_FILE // 2
    assert code(lambda: source.read_file("nul.txt")) == "binary"
    assert code(lambda: source.read_file("latin.txt")) == "binary"
    assert source.search_files("text").matches == ()


def test_a_file_that_grows_while_it_is_read_is_not_read_for_ever(
    source: Source, root: Path
) -> None:
    growing, done = root / "growing.txt", threading.Event()

    def grow() -> None:
        with growing.open("a") as file:
            while not done.is_set():
                file.write("x" * 65_536)
                file.flush()
                if file.tell() > 64 << 20:
                    file.truncate(0)
                    file.seek(0)

    growing.touch()
    writer = threading.Thread(target=grow)
    writer.start()
    try:
        for _ in range(50):
            with suppress(SourceRefused):
                assert len(source.read_file("growing.txt").text) <= results.MOST_CHARACTERS + 100
    finally:
        done.set()
        writer.join()


# secrets -----------------------------------------------------------------------------------------

SECRETS = [
    ".env",
    ".ENV",
    ".env.production",
    "prod.env",
    ".envrc",
    "server.pem",
    "Server.KEY",
    "id_rsa",
    "id_ed25519.bak",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".git-credentials",
    ".my.cnf",
    ".vault-token",
    ".psql_history",
    "kubeconfig",
    "prod.tfvars",
    "passwords.kdbx",
    "store.jks",
    "login.p12",
    "login.pfx",
    "putty.ppk",
    ".docker/config.json",
    ".kube/config",
    ".gnupg/secring.gpg",
    "credentials",
    "credentials.json",
    "Secrets.yaml",
    "terraform.tfstate.backup",
    "service-account-prod.json",
    ".git/config",
    ".ssh/known_hosts",
    "src/.aws/config",
    ".env/inner.txt",
]


@pytest.mark.parametrize("path", SECRETS)
def test_secrets_are_not_listed_read_or_searched(source: Source, root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(CANARY)
    assert code(lambda: source.read_file(path)) == "secret"
    assert path not in source.list_files().paths
    assert source.search_files(CANARY).matches == ()
    assert not source.holds(path, 1, CANARY)
    if "/" in path and not path.startswith("src"):
        assert code(lambda: source.list_files(path.split("/")[0])) == "secret"


@pytest.mark.parametrize("kind", ["", "RSA ", "OPENSSH ", "EC ", "ENCRYPTED "])
def test_a_private_key_is_a_secret_in_a_file_of_any_name(
    source: Source, root: Path, kind: str
) -> None:
    key = f"-----BEGIN {kind}PRIVATE KEY-----\n{CANARY}\n-----END {kind}PRIVATE KEY-----\n"
    (root / "notes.txt").write_text(f"Look:\n{key}")
    assert code(lambda: source.read_file("notes.txt")) == "secret"
    assert source.search_files(CANARY).matches == ()


TOKENS = [
    "aws_secret_access_key = " + "a/B+" * 10,
    'AWS_SECRET_ACCESS_KEY: "' + "a1B2" * 10 + '"',
    "AKIA" + "Q" * 16,
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2_" * 5,
    "glpat-" + "a1-_" * 5,
    "xoxb-" + "1234567890",
    "sk_live_" + "a1B2" * 4,
    "sk-ant-" + "a1B2" * 5,
    "npm_" + "a1B2" * 9,
    "pypi-AgE" + "a1B2" * 5,
    "AGE-SECRET-KEY-1" + "QPZR" * 5,
    "PuTTY-User-Key-File-3: ssh-ed25519",
]


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_is_a_secret_in_a_file_of_any_name(source: Source, root: Path, token: str) -> None:
    (root / "notes.txt").write_text(f"{CANARY}\n{token}\n")
    assert code(lambda: source.read_file("notes.txt")) == "secret"
    assert source.search_files(CANARY).matches == ()


@pytest.mark.parametrize(
    "line",
    [
        'os.environ["AWS_SECRET_ACCESS_KEY"]',
        "aws_secret_access_key = ${AWS_SECRET_ACCESS_KEY}",
        "task-ant-colony-optimisation-of-the-shortest-path",
        'token = "ghp_..."',
    ],
)
def test_code_that_only_names_a_token_is_shown(source: Source, root: Path, line: str) -> None:
    (root / "notes.txt").write_text(line)
    assert line in source.read_file("notes.txt").text


@pytest.mark.parametrize("name", ["environment.py", "keys.md", "monkey", "env.py", "public.crt"])
def test_a_file_that_only_sounds_like_a_secret_is_shown(name: str) -> None:
    assert not is_secret_name((name,))


# races -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swapped", ["src", "src/app.py"])
def test_a_file_that_is_swapped_for_a_link_in_between_is_not_followed(
    source: Source, root: Path, folder: Path, swapped: str
) -> None:
    """A folder or file alternates with a link to a place outside that has the same names."""
    trap = folder.parent / "trap"
    (trap / "deep").mkdir(parents=True)
    (trap / "app.py").write_text(CANARY)
    real, kept = root / swapped, root.parent / "kept"
    target = trap if swapped == "src" else trap / "app.py"

    def swap(done: threading.Event) -> None:
        while not done.is_set():
            real.rename(kept)
            real.symlink_to(target)
            real.unlink()
            kept.rename(real)

    for _ in range(BURSTS):
        done = threading.Event()
        attacker = threading.Thread(target=swap, args=(done,))
        attacker.start()
        try:
            for _ in range(READS):
                with suppress(SourceRefused):
                    assert CANARY not in source.read_file("src/app.py").text
            with suppress(SourceRefused):
                assert CANARY not in source.search_files(CANARY).text + source.list_files().text
        finally:
            done.set()
            attacker.join()
        assert "Tea" in source.read_file("src/app.py").text, "the race broke no later read"


def test_reads_write_nothing_and_close_every_file(source: Source, root: Path) -> None:
    def state() -> list[tuple[str, int, int]]:
        return sorted(
            (str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*")
        )

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before, open_before = state(), descriptors()
    for path in ("README.md", "src", "src/app.py", "nothing", "../x", ".env", "src/nothing/x"):
        for read in (source.read_file, source.list_files, lambda p: source.search_files("tea", p)):
            with suppress(SourceRefused):
                read(path)
    assert (state(), descriptors()) == (before, open_before)


# the cached structure ----------------------------------------------------------------------------


def aged(root: Path) -> None:
    """Set the time of the last change of all folders to a minute ago."""
    for path in (root, *(each for each in root.rglob("*") if each.is_dir())):
        then = path.stat().st_mtime - 60
        os.utime(path, (then, then))


def test_the_structure_is_walked_again_only_after_a_change(folder: Path, root: Path) -> None:
    all_of_them = Sources(folder)
    source = all_of_them.of("t1", "shop")
    assert source is not None
    aged(root)
    for _ in range(3):
        source.list_files()
        source.search_files("tea")
    assert all_of_them.walks == 1
    (root / "src" / "deep" / "new.py").write_text("new = 1\n")
    assert "src/deep/new.py" in source.list_files().paths
    assert all_of_them.walks == 2
    (root / "src" / "deep" / "new.py").unlink()
    assert "src/deep/new.py" not in source.list_files().paths


def test_a_folder_that_has_just_changed_is_not_cached(folder: Path, root: Path) -> None:
    """Two changes in one tick of the clock look like one, so a young folder is always walked."""
    all_of_them = Sources(folder)
    source = all_of_them.of("t1", "shop")
    assert source is not None
    for n in range(50):
        (root / f"f{n}.txt").touch()
        assert f"f{n}.txt" in source.list_files().paths


def test_the_cache_of_structures_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jail, "MOST_CACHED", 2)
    all_of_them = Sources(folder)
    for n in range(5):
        (folder / "t1" / f"p{n}").mkdir()
        os.utime(folder / "t1" / f"p{n}", (1, 1))
        source = all_of_them.of("t1", f"p{n}")
        assert source is not None
        source.list_files()
    assert len(all_of_them._known) == 2
