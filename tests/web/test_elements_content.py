"""What people and models write, as the elements show it: hostile content, Markdown, long texts."""

import asyncio
from typing import Final

import pytest

from tests.sizes import size
from tests.web.gallery import CLOSED, Gallery

pytestmark = pytest.mark.slow

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
