"""The elements in a real browser, under the policy of the page, with the data of their gallery."""

import json
import re
from typing import Final

import pytest

from tests.documents import DOCS
from tests.sizes import PROVE, size
from tests.web.gallery import Gallery
from tests.web.page import AXE
from tests.web.runtimes import CLIENT

pytestmark = pytest.mark.slow

PAGE: Final = DOCS / "elements.md"

BUILD: Final = {
    "en": "Build this",
    "fr": "Construire ceci",
    "es": "Construir esto",
    "ar": "ابنِ هذه الخطة",
}

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


@pytest.mark.parametrize("language", list(BUILD) if PROVE else ["ar"])
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


@pytest.mark.parametrize("width", [360, 2560] if PROVE else [360])
async def test_no_state_is_wider_than_the_page(gallery: Gallery, width: int) -> None:
    await gallery.open()
    await gallery.page.set_viewport_size({"width": width, "height": 800})
    assert await gallery.page.evaluate("() => document.documentElement.scrollWidth") == width


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


async def test_a_moment_stays_true_while_time_passes(gallery: Gallery) -> None:
    said = await gallery.page.evaluate(
        """async () => {
            const { setInterval: every, Date: { now } } = globalThis;
            let tick;
            globalThis.setInterval = run => { tick = run; return 0; };
            const events = [{ position: 1, type: "TimeConsumed", time: new Date().toISOString() }];
            await show("throughline-event-log", { events });
            globalThis.setInterval = every;
            Date.now = () => now() + 3 * 3_600_000;
            tick();
            Date.now = now;
            return document.querySelector("throughline-event-log").shadowRoot
                .querySelector("time").textContent;
        }"""
    )
    assert said == "3 hours ago"


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
