"""The files of the web client, as they are served."""

import posixpath
import re
from pathlib import Path

import httpx
import pytest

from service.web import static
from tests.running import LiveService
from tests.service.http.raw import exchange, request

LOADED = "/client/page.js"


async def got(live: LiveService, path: str, **headers: str) -> httpx.Response:
    """The answer to somebody without a key."""
    async with httpx.AsyncClient(base_url=live.client.base_url) as anybody:
        return await anybody.get(path, headers=headers)


async def test_the_page_is_open_to_everyone_and_may_run_its_own_scripts_alone(
    shared: LiveService,
) -> None:
    answer = await got(shared, "/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers.get_list("content-security-policy") == [static.POLICY]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert f"/client/v-{static.VERSION}/page.js" in answer.text
    assert (await shared.client.get("/healthz")).headers["content-security-policy"] != static.POLICY


async def test_each_file_of_the_client_is_served(shared: LiveService) -> None:
    """tests/web/test_served.py compares script and style with their sources."""
    files = [path for path in static.FOLDER.rglob("*") if path.is_file()]
    assert files
    async with httpx.AsyncClient(base_url=shared.client.base_url) as anybody:
        for path in files:
            name = path.relative_to(static.FOLDER).as_posix()
            answer = await anybody.get(f"/client/{name}")
            assert answer.content == static.FILES[name].content
            if path.suffix not in (".css", ".js"):
                assert answer.content == path.read_bytes()
            assert answer.headers["content-type"] == static.MEDIA_TYPES[path.suffix]
            assert answer.headers["cache-control"] == "no-cache"


async def test_the_page_names_all_modules_that_it_loads_and_a_browser_keeps_them(
    shared: LiveService,
) -> None:
    """A module that the page loads later, when its view is opened, is not among them."""
    page = (await got(shared, "/")).text
    named = re.findall(r'modulepreload" href="(.+?)"', page)
    base = f"/client/v-{static.VERSION}/"
    waiting, loaded = [f"{base}page.js"], set[str]()
    async with httpx.AsyncClient(base_url=shared.client.base_url) as anybody:
        while waiting:
            path = waiting.pop()
            loaded.add(path)
            answer = await anybody.get(path)
            assert "immutable" in answer.headers["cache-control"], path
            assert answer.content == static.FILES[path.removeprefix(base)].content
            imports = re.findall(r"^(?:im|ex)port[^'\n]*'(\..+?)'", answer.text, re.M)
            waiting += {posixpath.normpath(f"{path}/../{each}") for each in imports} - loaded
    assert sorted(named) == sorted(loaded)
    assert f"{base}gallery/gallery.js" not in loaded


async def test_a_file_of_another_version_is_served_and_not_kept(shared: LiveService) -> None:
    answer = await got(shared, "/client/v-0123456789abcdef/page.js")
    assert answer.content == static.FILES["page.js"].content
    assert answer.headers["cache-control"] == "no-cache"


def test_the_version_changes_with_each_file() -> None:
    files = dict(static.FILES)
    versions = {static.version_of(files)}
    for path in static.FILES:
        del files[path]
        versions.add(static.version_of(files))
    assert len(versions) == len(static.FILES) + 1


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        ("gzip, deflate, br, zstd", True),
        ("br;q=1, GZIP;q=0.5", True),
        ("gzip;q=0, identity", False),
        ("br, xgzip", False),
        ("", False),
    ],
)
async def test_a_file_is_packed_for_a_browser_that_takes_it(
    shared: LiveService, accepted: str, is_packed: bool
) -> None:
    answer = await got(shared, LOADED, **{"Accept-Encoding": accepted})
    assert answer.headers.get("content-encoding") == ("gzip" if is_packed else None)
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["etag"].endswith('-gzip"') is is_packed
    assert answer.content == static.FILES["page.js"].content


async def test_a_browser_that_has_the_file_gets_no_second_copy(shared: LiveService) -> None:
    first = await got(shared, LOADED)
    again = await got(shared, LOADED, **{"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    other = await got(shared, LOADED, **{"If-None-Match": '"other"'})
    assert other.content == first.content


async def test_head_answers_without_the_file(shared: LiveService) -> None:
    async with httpx.AsyncClient(base_url=shared.client.base_url) as anybody:
        plain = {"Accept-Encoding": "identity"}
        head, whole = [await ask("/", headers=plain) for ask in (anybody.head, anybody.get)]
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == whole.headers["etag"]
    assert head.headers["content-length"] == str(len(whole.content))


@pytest.mark.parametrize(
    "path",
    [
        "/client/",
        "/client",
        "/client/nothing.js",
        "/client/../static.py",
        "/client/%2e%2e/static.py",
        "/client/..%2fstatic.py",
        "/client/%2fetc/passwd",
        "/client//page.js",
        "/client/page.js/",
        "/client/./page.js",
        "/index.html",
    ],
)
async def test_nothing_else_is_served(shared: LiveService, path: str) -> None:
    (answer,) = await exchange(shared, request("GET", path, headers=[("Connection", "close")]))
    assert answer.problem["code"] == "not_found"


def test_a_file_of_an_unknown_kind_is_not_served(tmp_path: Path) -> None:
    for name in ("page.js", "page.js.map", ".hidden", "elements/plan.js", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert static.client_files(tmp_path).keys() == {"page.js", "elements/plan.js"}
