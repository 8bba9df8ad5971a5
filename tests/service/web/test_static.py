"""The files of the web client, as they are served."""

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
    assert LOADED in answer.text
    assert (await shared.client.get("/healthz")).headers["content-security-policy"] != static.POLICY


async def test_each_file_of_the_client_is_served_as_it_is(shared: LiveService) -> None:
    for path in static.FOLDER.rglob("*"):
        if path.is_file():
            answer = await got(shared, f"/client/{path.relative_to(static.FOLDER).as_posix()}")
            assert answer.content == path.read_bytes()
            assert answer.headers["content-type"] == static.MEDIA_TYPES[path.suffix]


async def test_a_browser_that_has_the_file_gets_no_second_copy(shared: LiveService) -> None:
    first = await got(shared, LOADED)
    again = await got(shared, LOADED, **{"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    other = await got(shared, LOADED, **{"If-None-Match": '"other"'})
    assert other.content == first.content


async def test_head_answers_without_the_file(shared: LiveService) -> None:
    async with httpx.AsyncClient(base_url=shared.client.base_url) as anybody:
        head, whole = await anybody.head("/"), await anybody.get("/")
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
