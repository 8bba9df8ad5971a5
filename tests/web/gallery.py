"""The gallery of the elements: a page with each element in each of its states."""

from dataclasses import dataclass, field
from typing import Any, Final

from playwright.async_api import ConsoleMessage, Page, Request

GALLERY: Final = "/client/gallery/gallery.html"

READ: Final = r"""
globalThis.wordsOf = node => {
    const words = [];
    const walk = each => {
        if (each.nodeType === Node.TEXT_NODE) words.push(each.data);
        for (const name of ["aria-label", "title"]) {
            if (each.getAttribute?.(name)) words.push(each.getAttribute(name));
        }
        for (const child of (each.shadowRoot ?? each).childNodes) walk(child);
    };
    walk(node);
    return words.join(" ").replace(/[\u2066-\u2069]/g, "").replace(/\s+/g, " ");
};
globalThis.countIn = (element, selector) => element.shadowRoot.querySelectorAll(selector).length;
globalThis.drawn = () => new Promise(resolve => queueMicrotask(() => queueMicrotask(resolve)));
globalThis.show = async (tag, state) => {
    const { shown } = await import("/client/gallery/gallery.js");
    const element = shown(tag, state);
    document.body.replaceChildren(element);
    await drawn();
    return element;
};
globalThis.opened = async element => {
    for (const each of element.shadowRoot.querySelectorAll("details")) {
        each.open = true;
        each.dispatchEvent(new Event("toggle"));
    }
    await drawn();
    return element;
};
globalThis.nameIn = path => path.split("/").findLast(each => !/^\d*$/.test(each));
globalThis.changed = (value, closed, make, path = "") => {
    if (typeof value === "string") return closed.includes(nameIn(path)) ? value : make(path);
    if (value === null || typeof value !== "object") return value;
    const all = Object.entries(value);
    const made = all.map(([key, each]) => [key, changed(each, closed, make, `${path}/${key}`)]);
    return Array.isArray(value) ? made.map(([, each]) => each) : Object.fromEntries(made);
};
globalThis.html = node => {
    const copy = node.cloneNode(true);
    for (const each of copy.querySelectorAll("*")) for (const { name } of [...each.attributes]) {
        if (!["href", "src", "start"].includes(name)) each.removeAttribute(name);
    }
    const all = [...copy.childNodes].map(each => each.outerHTML);
    return all.join("").replace(/[\u2066-\u2069]/g, "");
};
"""
"""Functions for the tests: the words and nodes of an element, an element alone in a state, a state
with other texts in the place of its own, and nodes as HTML."""

CLOSED: Final = [
    "status", "type", "kind", "phase", "op", "code", "feasibility", "estimatedEffort", "severity",
    "changeType", "mode", "locale", "operationType", "timestamp", "time", "at", "queuedAt",
    "claimedAt", "endedAt", "position", "cursor", "costUsd", "versionId", "buildId", "runId",
    "label", "previewUrl", "artifactUrl", "number",
]  # fmt: skip
"""The members whose values are from closed sets, or are ids, times and numbers."""


@dataclass
class Gallery:
    """A page of the gallery, with everything that went wrong in it."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list[str])
    query: str = ""

    async def open(self, query: str = "") -> None:
        """Open the gallery."""
        self.query = query
        await self.page.goto(f"{self.address}{GALLERY}?{query}")
        await self.page.wait_for_selector("body[data-ready]")
        await self.page.evaluate(f"() => {{ {READ} }}")

    async def show(self, tag: str, state: dict[str, Any] | str) -> str:
        """Show an element alone, in a state or in the state of this name, and read its words."""
        return str(
            await self.page.evaluate(
                """async ([tag, state]) => {
                    const { STATES } = await import("/client/gallery/gallery.js");
                    return wordsOf(await show(tag, STATES[tag][state] ?? state));
                }""",
                [tag, state],
            )
        )

    async def listen(self, *types: str) -> None:
        """Collect the events that elements send."""
        await self.page.evaluate(
            """types => {
                globalThis.heard = [];
                globalThis.listening?.abort();
                globalThis.listening = new AbortController();
                for (const type of types) document.addEventListener(type, ({ detail }) => {
                    heard.push([type, detail]);
                }, { signal: listening.signal });
            }""",
            types,
        )

    async def heard(self) -> Any:
        """The events since the last time, with their details."""
        return await self.page.evaluate("() => heard.splice(0)")


def watched(page: Page, address: str) -> Gallery:
    """The gallery in a page, with what goes wrong there."""
    page.set_default_timeout(10_000)
    found = Gallery(page, address)

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            found.problems.append(message.text)

    def on_request(request: Request) -> None:
        if not request.url.startswith((found.address, "data:")):
            found.problems.append(f"foreign request: {request.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: found.problems.append(str(error)))
    page.on("request", on_request)
    return found
