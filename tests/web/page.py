"""The page in Chromium: signed in by a link, and watched for everything that must not happen."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, Request, Response, expect

from tests.running import LiveService

AXE: Final = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_MS: Final = 20_000
expect.set_options(timeout=PATIENCE_MS)

VIOLATIONS: Final = """
async () => {
    const moving = document.getAnimations().filter(
        each => each.effect.getComputedTiming().endTime !== Infinity);
    await Promise.allSettled(moving.map(each => each.finished));
    const { violations } = await axe.run(document, { resultTypes: ["violations"] });
    return violations.map(each => `${each.id}: ${each.nodes.map(node => node.target).join(" ")}`);
}
"""


@dataclass
class Opened:
    """The page of a user, with what went wrong in it."""

    page: Page
    address: str
    live: LiveService
    problems: list[str] = field(default_factory=list[str])

    async def go(self, place: str) -> None:
        """Show an address of the page, such as `#/projects/p1`."""
        await self.page.evaluate("place => { location.hash = place }", place)

    def button(self, name: str) -> Locator:
        """The button of this name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def session(self, name: str) -> Locator:
        """The row of the session of this name in the list."""
        return self.page.locator(".session", has_text=name)

    async def ask(self, text: str) -> None:
        """Write a message, and send it."""
        await self.page.get_by_role("textbox", name="Message").fill(text)
        await self.page.keyboard.press("Enter")

    async def until_answered(self) -> None:
        """Wait until the last reply has ended."""
        await self.button("Ask again").last.wait_for()
        await self.button("Stop").wait_for(state="hidden")

    async def choose(self, session: str, entry: str) -> None:
        """Choose an entry of the menu of a session in the list."""
        row = self.session(session)
        await row.hover()
        await row.get_by_role("button").click()
        await self.page.get_by_role("menuitem", name=entry, exact=True).click()

    async def set(self, setting: str, value: str) -> None:
        """Choose the language (`locale`) or the theme at the foot of the page."""
        await self.page.locator(f".foot [data-setting={setting}]").select_option(value)

    async def violations(self) -> list[str]:
        """What axe-core finds in the page when everything is loaded and nothing moves."""
        await expect(self.page.locator(".grey")).to_have_count(0)
        await self.page.evaluate(AXE.read_text())
        return list(await self.page.evaluate(VIOLATIONS))

    async def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(await self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@asynccontextmanager
async def signed_in(
    browser: Browser, live: LiveService, user_id: str = "u1", **options: Any
) -> AsyncGenerator[Opened]:
    """A page whose user came by a link. At the end nothing may have gone wrong in it, and axe-core
    finds nothing."""
    context = await browser.new_context(
        **{"locale": "en-GB", "viewport": {"width": 1440, "height": 900}} | options
    )
    context.set_default_timeout(PATIENCE_MS)
    try:
        address = str(live.client.base_url).rstrip("/")
        opened = Opened(await context.new_page(), address, live)
        watch(opened)
        answer = await live.client.post("/v1/links", json={"userId": user_id})
        assert answer.status_code == 201, answer.text
        await opened.page.goto(answer.json()["url"])
        await opened.page.locator("throughline-session-list").wait_for(state="attached")
        yield opened
        found = await opened.violations()
        assert found == [], found
        assert opened.problems == [], opened.problems
    finally:
        await context.close()


def watch(opened: Opened) -> None:
    """Note errors of the page, reports of its policy, and requests to other places."""

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            opened.problems.append(f"{message.type}: {message.text}")

    def on_request(request: Request) -> None:
        if not request.url.startswith((opened.address, "data:", "blob:")):
            opened.problems.append(f"a request to {request.url}")

    def on_response(response: Response) -> None:
        if response.status >= 500:
            opened.problems.append(f"{response.status} of {response.url}")

    opened.page.on("console", on_console)
    opened.page.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.page.on("request", on_request)
    opened.page.on("response", on_response)


# What a test finds in the service -----------------------------------------------------------------


async def project(live: LiveService, project_id: str, *users: str) -> str:
    """A project of its own for a test, whose users have AI seconds; returns where it is shown."""
    await live.project(project_id, *users or ("u1",))
    for user in users or ("u1",):
        await live.credit(user)
    return f"#/projects/{project_id}"


async def posted(live: LiveService, path: str, **body: Any) -> Any:
    """Post as the user u1."""
    answer = await live.client.post(path, json={"userId": "u1"} | body)
    assert answer.is_success, answer.text
    return answer.json()


async def said(
    live: LiveService, project_id: str, message: str, *, user: str = "u1", **session: Any
) -> str:
    """Say something in a new session; returns its id when the reply has ended."""
    body = {"projectId": project_id, "mode": "plan"} | session
    opened = await posted(live, "/v1/sessions", userId=user, **body)
    path = f"/v1/sessions/{opened['sessionId']}/messages"
    await posted(live, path, userId=user, message=message)
    return str(opened["sessionId"])


async def filled(live: LiveService, project_id: str, user: str) -> str:
    """A project with something in each place; returns a session with a plan."""
    await project(live, project_id, user)
    session = await said(live, project_id, "Add a login page", user=user)
    prompt = await posted(
        live, "/v1/prompts", projectId=project_id, name="Greeter", text="Greet {{name}}."
    )
    path = f"/v1/prompts/{prompt['promptId']}/versions"
    await posted(live, path, text="Greet {{name}} briefly.", note="brief")
    run = await posted(live, "/v1/runs", projectId=project_id, title="Compare two greetings")
    at = {"at": "2026-11-22T10:00:00Z"}
    candidate = {"candidateId": "a", "scores": {"found": 0.75}, "title": "The short one"}
    events = [
        {"eventId": "1", "type": "candidate"} | candidate | at,
        {"eventId": "2", "type": "succeeded", "title": "Done", "summary": "It is better."} | at,
    ]
    answer = await live.client.post(f"/v1/runs/{run['runId']}/events", json={"events": events})
    assert answer.is_success, answer.text
    return session
