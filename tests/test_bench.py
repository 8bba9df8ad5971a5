"""The measurements of `make bench` run on a small log. What they measure is no test's business."""

from scripts.bench import archives, reads
from scripts.bench.__main__ import stored

MESSAGES = 300


def test_each_measurement_of_a_stored_log_gives_two_figures(url: str) -> None:
    reads.fill(url, MESSAGES)
    for pair in stored(MESSAGES):
        assert min(pair.measure(url)) > 0, pair.what
    assert archives.memory(url).value > 0
