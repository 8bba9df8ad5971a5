"""The elements in a real browser, under the policy of the page, with the data of their gallery."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import ConsoleMessage, Page, Request

from tests.documents import DOCS
from tests.running import LiveService
from tests.sizes import size
from tests.web.runtimes import CLIENT, chromium

PAGE: Final = DOCS / "elements.md"
GALLERY: Final = "/client/gallery/gallery.html"
AXE: Final = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
BUILD: Final = {
    "en": "Build this",
    "fr": "Construire ceci",
    "es": "Construir esto",
    "ar": "ابنِ هذه الخطة",
}

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


@pytest.fixture(scope="module")
async def opened(shared: LiveService) -> AsyncGenerator[Gallery]:
    """The page of all tests of this module: most of the time of a test is the start of a page."""
    async with chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(10_000)
        found = Gallery(page, str(shared.client.base_url).rstrip("/"))

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                found.problems.append(message.text)

        def on_request(request: Request) -> None:
            if not request.url.startswith((found.address, "data:")):
                found.problems.append(f"foreign request: {request.url}")

        page.on("console", on_console)
        page.on("pageerror", lambda error: found.problems.append(str(error)))
        page.on("request", on_request)
        await found.open()
        yield found


@pytest.fixture
async def gallery(opened: Gallery) -> AsyncGenerator[Gallery]:
    """The page, in English and 1200 pixels wide. Every error, every report of the policy and every
    foreign request fails the test."""
    opened.problems.clear()
    await opened.page.set_viewport_size({"width": 1200, "height": 900})
    if opened.query:
        await opened.open()
    yield opened
    assert opened.problems == []


# every state -------------------------------------------------------------------------------------

WORDS: Final = {
    "throughline-plan": {
        "nothing written yet": ["Being written", "This reply is being written."],
        "a summary, half written": ["Plan", "Start with the data, then the beha"],
        "a step, half written": ["2 steps", "Add the beha", "Effort: low"],
        "a whole plan": [
            "moderate",
            "4 steps",
            "6 files",
            "1 package",
            "1 risk",
            "new",
            "Build this",
        ],
        "a plan that cannot be built now": ["1 step", "Build this"],
        "a plan, cut off": ["Your AI time is used up", "Ask again"],
        "a reply that failed": ["The model is very busy", "Ask again"],
        "a plan in Arabic": ["نموذج البيانات", "Effort: low"],
        "a fix": ["Severity: high", "Root cause", "src/old_cart.py", "delete", "Prevention"],
        "an answer": ["An order is", "src/ship.py:12", "Related topics", "def ship"],
        "an analysis": ["Evenings are busy", "412", "Orders by hour", "Returns by month", "9.5"],
        "a general reply": ["Hello", "☑ plans", "Image: a picture"],
        "an improvement": ["Improved prompt", "in {{language}}", "What was changed"],
    },
    "throughline-prompt-diff": {
        "no versions": ["No versions"],
        "the same": ["Both texts are the same."],
        "changes that become a version": ["13 words added", "1 word removed", "Make it version 3"],
        "changes to read": ["13 words added"],
    },
    "throughline-usage": {
        "nothing billed": ["Available 600 s", "Nothing has been billed yet."],
        "balance, bill and figures": ["2,828 s", "Reserved 420 s", "$0.0213", "Later builds", "3%"],
        "no seconds left": ["No seconds left"],
    },
    "throughline-build": {
        "queued just now": ["queued", "The project is locked", "Cancel build"],
        "queued for long": ["No worker has claimed this build yet."],
        "running": ["running", "Wrote src/routes.py", "5 reports", "Development: running", "1 m"],
        "done": ["done", "Version v7", "Open the preview", "1 m 8 s"],
        "failed": ["failed", "pip: no version", "Build again"],
        "cancelled": ["The build was cancelled.", "Build again"],
        "timed out": ["silent for too long", "30 m 12 s"],
    },
    "throughline-run": {
        "queued": ["No engine has claimed this run yet.", "No candidates yet", "No steps yet"],
        "running": ["Try the short prompt", "1 candidate", "0.825"],
        "done": ["36 s", "900 tokens", "best", "Key findings", "It took twice as long."],
        "failed": ["The engine has no key", "Discuss this run"],
        "cancelled": ["The run was cancelled."],
        "timed out": ["silent for too long"],
    },
    "throughline-event-log": {
        "no events": ["No events yet"],
        "events of the log": ["4 events", "TimeConsumed", "--from 1201 --to 1204"],
        "items of a timeline": ["2 events", "user_message", "ada"],
    },
}
"""What a reader must find in each state."""


async def test_each_element_says_what_its_state_is(gallery: Gallery) -> None:
    await gallery.open()
    found = await gallery.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("article")].map(
            each => [each.getAttribute("aria-label"), wordsOf(each.lastElementChild)]))"""
    )
    wanted = {f"{tag}: {name}": words for tag, of in WORDS.items() for name, words in of.items()}
    assert set(found) == set(wanted)
    for state, words in wanted.items():
        assert [each for each in words if each not in found[state]] == [], (state, found[state])


@pytest.mark.parametrize("language", list(BUILD))
async def test_each_element_speaks_the_language_of_the_page(
    gallery: Gallery, language: str
) -> None:
    keys = json.loads((CLIENT / "texts" / "en.json").read_text(encoding="utf-8"))
    await gallery.open(f"locale={language}")
    words = await gallery.page.evaluate(
        r"""keys => {
            const words = wordsOf(document.body);
            return {
                keys: words.split(" ").filter(each => each.includes("_") && keys.includes(each)),
                digits: words.match(/[\u0660-\u0669\u06f0-\u06f9]/g) ?? [],
                isTranslated: words.includes(BUILD[document.documentElement.lang]),
                direction: document.documentElement.dir,
            };
        }""".replace("BUILD", json.dumps(BUILD)),
        list(keys),
    )
    direction = "rtl" if language == "ar" else "ltr"
    assert words == {"keys": [], "digits": [], "isTranslated": True, "direction": direction}


async def test_elements_follow_the_locale_while_they_are_shown(gallery: Gallery) -> None:
    await gallery.show("throughline-plan", "a whole plan")
    words = await gallery.page.evaluate(
        """async () => {
            const { useLocale } = await import("/client/texts.js");
            const { body } = document;
            await useLocale("fr");
            await drawn();
            const words = wordsOf(body);
            await useLocale("en");
            return words;
        }"""
    )
    assert "Construire ceci" in words
    assert "Build this" not in words


@pytest.mark.parametrize(
    ("theme", "language"),
    [("light", "en"), ("dark", "ar"), *(size(0, 1) * [("dark", "en"), ("light", "ar")])],
)
async def test_no_state_breaks_a_rule_of_accessibility(
    gallery: Gallery, theme: str, language: str
) -> None:
    await gallery.open(f"theme={theme}&locale={language}")
    await gallery.page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await gallery.page.evaluate(
        """async () => (await axe.run(document)).violations.flatMap(({ id, nodes }) => nodes.map(
            ({ target, failureSummary }) => [id, target.flat(), failureSummary]))"""
    )
    assert found == [], found


@pytest.mark.parametrize("width", [360, 2560])
async def test_no_state_is_wider_than_the_page(gallery: Gallery, width: int) -> None:
    await gallery.open()
    await gallery.page.set_viewport_size({"width": width, "height": 800})
    assert await gallery.page.evaluate("() => document.documentElement.scrollWidth") == width


# hostile content ---------------------------------------------------------------------------------

HOSTILE: Final = [
    "<img src=x onerror=hacked=1>",
    "<script>hacked=1</script>",
    "</code></pre><svg onload=hacked=1>",
    "javascript:hacked=1",
    "[x](javascript:hacked=1)",
    "![x](https://evil.example/x.png)",
    "{{constructor}} ${hacked=1}",
    "__proto__",
    "👩‍👩‍👧‍👦" * 20,
    "\u202egnp.exe",
]

CLOSED: Final = [
    "status", "type", "kind", "phase", "op", "code", "feasibility", "estimatedEffort", "severity",
    "changeType", "mode", "locale", "operationType", "timestamp", "time", "at", "queuedAt",
    "claimedAt", "endedAt", "position", "cursor", "costUsd", "versionId", "buildId", "runId",
    "label", "previewUrl", "artifactUrl", "number",
]  # fmt: skip
"""The members whose values are from closed sets, or are ids, times and numbers."""


async def test_what_people_and_models_write_is_only_ever_text(gallery: Gallery) -> None:
    found = await gallery.page.evaluate(
        """async ([texts, closed]) => {
            const { STATES } = await import("/client/gallery/gallery.js");
            const made = "img, script, iframe, [onerror], [onload], [href^=javascript]";
            const bad = [];
            for (const text of texts) for (const [tag, states] of Object.entries(STATES)) {
                for (const [name, state] of Object.entries(states)) {
                    const hostile = changed(state, closed, () => text);
                    const element = await opened(await show(tag, hostile));
                    if (countIn(element, made) || globalThis.hacked) bad.push([tag, name, text]);
                }
            }
            return bad;
        }""",
        [["\n".join(HOSTILE), *HOSTILE[: size(0, len(HOSTILE))]], CLOSED],
    )
    assert found == [], found


NOT_SHOWN: Final = {
    "throughline-plan": {"label", "newFiles"},
    "throughline-prompt-diff": set[str](),
    "throughline-usage": {"userId", "projectId", "sessionId", "messageId", "prices", "model"},
    "throughline-build": {"userId", "projectId", "eventId", "title"},
    "throughline-run": {"projectId", "userId", "stepId", "candidateId", "progress"},
    "throughline-event-log": set[str](),
}
"""The members that an element does not show, or does not show in every state: the newest report
of a build takes the place of its `title`, and so on."""


async def test_every_text_of_a_state_is_shown(gallery: Gallery) -> None:
    found = await gallery.page.evaluate(
        """async ([closed, notShown]) => {
            const { STATES } = await import("/client/gallery/gallery.js");
            const lost = [];
            for (const [tag, states] of Object.entries(STATES)) {
                for (const [name, state] of Object.entries(states)) {
                    const marks = [];
                    const mark = path => {
                        if (notShown[tag].includes(nameIn(path))) return "hidden";
                        marks.push([path, `<b>${marks.length}</b>`]);
                        return marks.at(-1)[1];
                    };
                    const element = await opened(await show(tag, changed(state, closed, mark)));
                    const words = wordsOf(element);
                    for (const [path, text] of marks) {
                        if (!words.includes(text)) lost.push([tag, name, path]);
                    }
                }
            }
            return lost;
        }""",
        [CLOSED, {tag: sorted(names) for tag, names in NOT_SHOWN.items()}],
    )
    assert found == [], found


@pytest.mark.parametrize("tag", list(WORDS))
async def test_content_of_any_size_makes_a_page_of_a_bounded_size(
    gallery: Gallery, tag: str
) -> None:
    """Texts of a million characters, and lists of ten thousand entries."""
    most = await gallery.page.evaluate(
        """async ([tag, closed, count]) => {
            const { STATES } = await import("/client/gallery/gallery.js");
            const list = value => value.length
                ? Array.from({ length: 10_000 }, (_, at) => value[at % value.length]) : value;
            const many = value => Array.isArray(value) ? list(value)
                : value && typeof value === "object" ? Object.fromEntries(
                    Object.entries(value).map(([key, each]) => [key, many(each)])) : value;
            const long = "<b>".repeat(333_333);
            const counts = [];
            for (const state of Object.values(STATES[tag]).slice(-count)) {
                for (const made of [changed(state, closed, () => long), many(state)]) {
                    const element = await opened(await show(tag, made));
                    counts.push(countIn(element, "*"));
                }
            }
            return Math.max(...counts);
        }""",
        [tag, CLOSED, size(2, 20)],
    )
    assert most < 60_000


async def test_what_is_left_out_comes_at_a_press_of_a_button(gallery: Gallery) -> None:
    words = "() => wordsOf(document.body).match(/word/g).length"
    await gallery.show("throughline-plan", {"data": {"markdown": "word " * 30_000}})
    assert await gallery.page.evaluate(words) == 20_000
    await gallery.page.get_by_role("button", name="Show 50,000 more characters").click()
    assert await gallery.page.evaluate(words) == 30_000
    risks = [f"risk {number}" for number in range(120)]
    await gallery.show("throughline-plan", {"data": {"plan": {"risks": risks}}})
    items, more = gallery.page.locator("li"), gallery.page.get_by_role("button", name="more")
    for shown in (50, 100):
        assert await items.count() == shown + 1
        await more.click()
    assert await items.count() == 120


async def test_controls_that_turn_text_round_are_written_out(gallery: Gallery) -> None:
    step = {
        "title": "a\u202eb",
        "files": ["a\u202efdp.exe"],
        "description": "`x\u2066y` z\u202e",
    }
    words = await gallery.show("throughline-plan", {"data": {"plan": {"steps": [step]}}})
    for shown in ("a⟨U+202E⟩b", "a⟨U+202E⟩fdp.exe", "x⟨U+2066⟩y", "z⟨U+202E⟩"):
        assert shown in words


# Markdown ----------------------------------------------------------------------------------------

MARKDOWN: Final = {
    "# A\n#### B\nC": "<h3>A</h3><h4>B</h4><p>C</p>",
    "a *b **c*** `d` ~~e~~": "<p>a <em>b <strong>c</strong></em> <code>d</code> <s>e</s></p>",
    "***a*** a_b_c _b_": "<p><strong><em>a</em></strong> a_b_c <em>b</em></p>",
    "*a **b": "<p>*a **b</p>",
    "a  \nb\nc": "<p>a  <br>b\nc</p>",
    "- a\n  - b\n- c": "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>",
    "3. a\n\n   b\n4. c": '<ol start="3"><li>a<p>b</p></li><li>c</li></ol>',
    "> a\n> > b": "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>",
    "a\n\n---\n\nb": "<p>a</p><hr><p>b</p>",
    "|a|b|\n|-|-:|\n|1|2\\|3|": "<div><table><thead><tr><th>a</th><th>b</th></tr></thead>"
    "<tbody><tr><td>1</td><td>2|3</td></tr></tbody></table></div>",
    "<b>a</b>": "<p>&lt;b&gt;a&lt;/b&gt;</p>",
    "[a](https://x.y/?a=(b))": '<p><a href="https://x.y/?a=(b)">a</a></p>',
    "see https://x.y/z.": '<p>see <a href="https://x.y/z">https://x.y/z</a>.</p>',
    "<mailto:a@b.c>": '<p><a href="mailto:a@b.c">a@b.c</a></p>',
    "[a](javascript:b)": "<p><span>a <bdi><code>javascript:b</code></bdi></span></p>",
    "[a](https://u:p@x.y)": "<p><span>a <bdi><code>https://u:p@x.y</code></bdi></span></p>",
    "[a](docs/b.md)": "<p><span>a <bdi><code>docs/b.md</code></bdi></span></p>",
    "![a](https://x.y/z.png)": '<p><a href="https://x.y/z.png">Image: a</a></p>',
    "![a](data:image/png;base64,AA==)": '<p><img src="data:image/png;base64,AA=="></p>',
    "![a](data:image/svg+xml;base64,AA==)": "<p><span>Image: a <bdi><code>"
    "data:image/svg+xml;base64,AA==</code></bdi></span></p>",
    "\\*a\\* [b": "<p>*a* [b</p>",
}
"""Texts, and what they are shown as, without the attributes that are for the eye."""


async def test_markdown_is_shown_as_it_is_meant(gallery: Gallery) -> None:
    found = await gallery.page.evaluate(
        """async texts => {
            const { markdown } = await import("/client/elements/parts/markdown.js");
            return texts.map(each => html(markdown(each)));
        }""",
        list(MARKDOWN),
    )
    assert dict(zip(MARKDOWN, found, strict=True)) == MARKDOWN


async def test_a_link_tells_its_target_nothing(gallery: Gallery) -> None:
    await gallery.show("throughline-plan", {"data": {"markdown": "[a](https://x.y)"}})
    link = gallery.page.get_by_role("link", name="a")
    assert await link.get_attribute("rel") == "noopener noreferrer"
    assert await link.get_attribute("target") == "_blank"


WRITTEN: Final = """# Title

Some *text* with `code`
and a [link](https://x.y).

- a
  - b
    1. c

- d

1. one

   two
2. x

3. y

4

| a | b |
|---|:-:|
| 1 | 2 |

```py
x = 1

# no title
```
> quote
> - q

--
---
## Again
text
```
end"""


async def test_a_text_that_grows_is_shown_like_the_whole_text_at_any_time(
    gallery: Gallery,
) -> None:
    found = await gallery.page.evaluate(
        """async text => {
            const { markdown, GrowingMarkdown } =
                await import("/client/elements/parts/markdown.js");
            const wrong = [];
            const growing = new GrowingMarkdown();
            for (const step of [1, 2, 3, 7, 19]) {
                for (let end = 0; end < text.length + step; end += step) {
                    const part = text.slice(0, end);
                    growing.update(part);
                    if (html(growing.node) !== html(markdown(part))) wrong.push([step, part]);
                }
            }
            return wrong;
        }""",
        WRITTEN,
    )
    assert found == [], found


async def test_a_text_that_grows_keeps_the_nodes_that_are_there(gallery: Gallery) -> None:
    kept = await gallery.page.evaluate(
        """async () => {
            const { GrowingMarkdown } = await import("/client/elements/parts/markdown.js");
            const growing = new GrowingMarkdown();
            growing.update("one\\n\\ntwo");
            const before = [...growing.node.children];
            growing.update("one\\n\\ntwo and more\\n\\nthree");
            return before.map((each, at) => growing.node.children[at] === each);
        }"""
    )
    assert kept == [True, True]


async def test_a_text_that_is_longer_than_what_is_shown_grows_without_being_read_anew(
    gallery: Gallery,
) -> None:
    """Only the length of what is left out changes."""
    kept = await gallery.page.evaluate(
        """async () => {
            const { markdown, GrowingMarkdown } =
                await import("/client/elements/parts/markdown.js");
            const growing = new GrowingMarkdown();
            let text = "A paragraph.\\n\\n".repeat(7200);
            const shown = [];
            for (let n = 0; n < 3; n++) {
                growing.update(text);
                shown.push([...growing.node.children].slice(0, -1));
                if (html(growing.node) !== html(markdown(text))) return text.length;
                text += " And more.";
            }
            return shown.every(each => each.every((node, at) => node === shown[0][at]));
        }"""
    )
    assert kept is True


LENGTH: Final = size(30_000, 100_000)
BOTTOMLESS: Final = [
    "[",
    "*a ",
    "**_~~",
    "> ",
    "- ",
    "`",
    "[a](",
    "https://",
    "<https:",
    "\n",
    "![",
    "#",
    "\\`",
    "1. ",
    "- a\n",
    "a\n\n",
]
"""What a text may repeat without an end."""

HALTING: Final = [
    " " * LENGTH + "x",
    "a" + " " * LENGTH + "x",
    "``` " + " " * LENGTH + "`",
    "* " * (LENGTH // 2) + "x",
    "|a" * (LENGTH // 2) + "\n" + "|-" * 900,
    "\n".join(" " * depth + "- x" for depth in range(LENGTH // 250)),
]
"""Texts with an end that a pattern may look for again and again."""


async def test_no_text_makes_markdown_slow_or_deep(gallery: Gallery) -> None:
    """A slow pattern takes minutes, so the limit of the time is the assertion."""
    async with asyncio.timeout(20):
        depth = await gallery.page.evaluate(
            """async texts => {
                const { markdown } = await import("/client/elements/parts/markdown.js");
                const depthOf = node =>
                    1 + Math.max(0, ...[...node.children].slice(0, 50).map(depthOf));
                return Math.max(...texts.map(each => depthOf(markdown(each))));
            }""",
            [*(each * (LENGTH // len(each)) for each in BOTTOMLESS), *HALTING],
        )
    assert depth < 50


# a reply that is being written -------------------------------------------------------------------


async def test_nothing_jumps_while_a_plan_is_written(gallery: Gallery) -> None:
    """A step stays where it first was, as high as it first was, and the same node. Only the second
    step of the plan may grow: it has a list."""
    seen = await gallery.page.evaluate(
        """async () => {
            const { STATES } = await import("/client/gallery/gallery.js");
            const pieces = [];
            const write = (value, put) => {
                if (typeof value === "string") {
                    for (let end = 9; end < value.length + 9; end += 9) put(value.slice(0, end));
                } else if (value && typeof value === "object") {
                    const made = Array.isArray(value) ? [] : {};
                    put(made);
                    for (const [key, each] of Object.entries(value)) {
                        write(each, part => { made[key] = part; put(made); });
                    }
                } else put(value);
            };
            const { data } = STATES["throughline-plan"]["a whole plan"];
            write(data, part => pieces.push(structuredClone(part)));
            const element = await show("throughline-plan", { status: "streaming", data: {} });
            const first = new Map();
            const moved = [];
            for (const data of pieces) {
                element.data = data;
                await drawn();
                [...element.shadowRoot.querySelectorAll(".step")].forEach((step, at) => {
                    const { top, height } = step.getBoundingClientRect();
                    const now = [step, top, at === 1 ? 0 : height];
                    if (!first.has(at)) first.set(at, now);
                    const known = first.get(at);
                    if (known.some((each, at) => each !== now[at])) moved.push([at, known, now]);
                });
            }
            return [first.size, moved];
        }"""
    )
    assert seen == [4, []], seen


async def test_what_a_user_has_opened_and_reached_stays_when_data_change(
    gallery: Gallery,
) -> None:
    await gallery.show("throughline-plan", "an answer")
    page = gallery.page
    await page.get_by_text("src/printer.py:3").click()
    await page.evaluate(
        """async () => {
            const element = document.querySelector("throughline-plan");
            element.data = { ...element.data, answer: "Another", relatedTopics: ["Weights"] };
            await drawn();
        }"""
    )
    assert await page.get_by_text("class Printer:").is_visible()
    focused = "document.querySelector('throughline-plan').shadowRoot.activeElement.textContent"
    assert await page.evaluate(focused) == "src/printer.py:3"


# what users do -----------------------------------------------------------------------------------


async def test_a_plan_tells_what_its_user_wants(gallery: Gallery) -> None:
    await gallery.listen("build", "save", "share", "export", "again")
    await gallery.show("throughline-plan", "a whole plan")
    for name in ("Build this", "Save plan", "Share", "Export"):
        await gallery.page.get_by_role("button", name=name).click()
    assert [(kind, detail["type"]) for kind, detail in await gallery.heard()] == [
        ("build", "convert_to_build"),
        ("save", "save_plan"),
        ("share", "share"),
        ("export", "export"),
    ]
    await gallery.show("throughline-plan", "a plan, cut off")
    await gallery.page.get_by_role("button", name="Ask again").click()
    assert await gallery.heard() == [["again", None]]
    await gallery.show("throughline-plan", "a plan that cannot be built now")
    assert await gallery.page.get_by_role("button", name="Build this").is_disabled()


async def test_builds_runs_and_differences_tell_what_their_user_wants(gallery: Gallery) -> None:
    await gallery.listen("cancel", "again", "discuss", "accept")
    page = gallery.page
    build = {"buildId": "01a1fbe5-b79a-75b0-8610-87f0fd4a834b"}
    await gallery.show("throughline-build", "running")
    await page.get_by_role("button", name="Cancel build").click()
    await gallery.show("throughline-build", "failed")
    await page.get_by_role("button", name="Build again").click()
    await gallery.show("throughline-run", "done")
    await page.get_by_role("button", name="Discuss this run: The long prompt").click()
    await page.get_by_role("button", name="Discuss this run").last.click()
    await gallery.show("throughline-prompt-diff", "changes that become a version")
    await page.get_by_role("button", name="Make it version 3").click()
    assert await gallery.heard() == [
        ["cancel", build],
        ["again", build],
        ["discuss", {"runId": "01a1fbe5-c79a", "candidateId": "long"}],
        ["discuss", {"runId": "01a1fbe5-c79a"}],
        ["accept", {"number": 3}],
    ]


async def test_a_diff_is_side_by_side_on_a_wide_page_alone(gallery: Gallery) -> None:
    await gallery.show("throughline-prompt-diff", "changes to read")
    after = gallery.page.get_by_role("heading", name="After")
    inserted = gallery.page.locator(".before ins").first
    assert await after.is_visible()
    assert not await inserted.is_visible()
    await gallery.page.set_viewport_size({"width": 1099, "height": 800})
    assert not await after.is_visible()
    assert await inserted.is_visible()
    assert await gallery.page.locator(".before del").first.is_visible()


async def test_a_chart_has_its_numbers_at_hover_and_focus_and_as_a_table(
    gallery: Gallery,
) -> None:
    await gallery.show("throughline-plan", "an analysis")
    page = gallery.page
    number = page.locator("output")
    assert await number.inner_text() == "22: 30"
    await page.get_by_role("img", name="12: 22").hover()
    assert await number.inner_text() == "12: 22"
    await page.get_by_role("img", name="8: 4").focus()
    await page.keyboard.press("ArrowRight")
    assert await number.inner_text() == "10: 9"
    await page.get_by_role("button", name="Show as a table").last.click()
    assert await page.get_by_role("cell", name="74").is_visible()
    await page.get_by_role("button", name="Show as a chart").click()
    assert await page.get_by_role("img", name="12: 22").is_visible()


async def test_the_log_shows_one_type_and_an_event_as_json_and_the_command(
    gallery: Gallery,
) -> None:
    await gallery.show("throughline-event-log", "events of the log")
    page = gallery.page
    await page.get_by_role("combobox", name="Type").select_option("TimeConsumed")
    assert await page.get_by_role("status").inner_text() == "1 event"
    command = "throughline events replay --from 1203 --to 1203"
    wanted = f"{command} --type TimeConsumed"
    assert await page.get_by_text(command).inner_text() == wanted
    assert await page.locator("pre").count() == 0
    await page.locator("summary").click()
    assert '"seconds": 31' in await page.locator("pre").inner_text()


async def test_a_build_counts_its_time_and_says_when_nobody_claims_it(gallery: Gallery) -> None:
    await gallery.page.evaluate(
        """async () => {
            const build = { status: "queued", queuedAt: new Date(Date.now() - 9_500) };
            build.queuedAt = build.queuedAt.toISOString();
            await show("throughline-build", { build });
        }"""
    )
    unclaimed = gallery.page.get_by_text("No worker has claimed")
    assert not await unclaimed.is_visible()
    await unclaimed.wait_for()


# the page of the documents ------------------------------------------------------------------------


def examples() -> list[str]:
    """The JavaScript of the page, each example as a function that a browser can run."""
    found = re.findall(r"^```js\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    named = [
        re.sub(r"import (\{.*?\}) from (\S+)", r"const \1 = await import(\2)", each)
        for each in found
    ]
    return [
        "async () => {" + re.sub(r"^import (\S+)$", r"await import(\1)", each, flags=re.M) + "}"
        for each in named
    ]


async def test_the_documented_examples_work(gallery: Gallery) -> None:
    page = gallery.page
    using, own = examples()
    await page.evaluate("() => document.body.replaceChildren()")
    await page.evaluate(using)
    assert await page.get_by_text("data", exact=True).is_visible()
    await gallery.listen("greeted")
    await page.evaluate(own)
    await page.evaluate("() => show('my-greeting', { name: '<b>Ada' })")
    await page.get_by_role("button", name="Hello <b>Ada").click()
    assert await gallery.heard() == [["greeted", {"name": "<b>Ada"}]]


def test_the_page_of_the_elements_names_every_element_and_property() -> None:
    text = PAGE.read_text(encoding="utf-8")
    sheet = (CLIENT / "elements" / "parts" / "element.js").read_text(encoding="utf-8")
    colours = re.findall(r"'?([a-z-]+)'?: \['#", sheet)
    assert len(colours) == 14
    for name in [*colours, "font", "mono", "radius"]:
        assert f"`--tl-{name}`" in text, name
    for tag in WORDS:
        module = CLIENT / "elements" / f"{tag.removeprefix('throughline-')}.js"
        defined = re.search(r"^define\('(.*)', \w+, \[(.*)\]\)$", module.read_text(), re.M)
        assert defined is not None
        assert defined[1] == tag
        row = next(line for line in text.splitlines() if line.startswith(f"| `<{tag}>`"))
        assert f"`{module.name}`" in row
        assert [each for each in re.findall(r"'(\w+)'", defined[2]) if f"`{each}`" not in row] == []
