"""Content of any size, shown by the elements."""

import pytest

from tests.web.gallery import CLOSED, Gallery
from tests.web.test_elements import WORDS


@pytest.mark.parametrize("tag", list(WORDS))
async def test_content_of_any_size_makes_a_page_of_a_bounded_size(
    gallery: Gallery, tag: str
) -> None:
    """Texts of a million characters, and lists of ten thousand entries."""
    most = await gallery.page.evaluate(
        """async ([tag, closed]) => {
            const { STATES } = await import("/client/gallery/gallery.js");
            const list = value => value.length
                ? Array.from({ length: 10_000 }, (_, at) => value[at % value.length]) : value;
            const many = value => Array.isArray(value) ? list(value)
                : value && typeof value === "object" ? Object.fromEntries(
                    Object.entries(value).map(([key, each]) => [key, many(each)])) : value;
            const long = "<b>".repeat(333_333);
            const counts = [];
            for (const state of Object.values(STATES[tag])) {
                for (const made of [changed(state, closed, () => long), many(state)]) {
                    const element = await opened(await show(tag, made));
                    counts.push(countIn(element, "*"));
                }
            }
            return Math.max(...counts);
        }""",
        [tag, CLOSED],
    )
    assert most < 60_000
