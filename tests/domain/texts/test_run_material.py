"""The text about a run that a session gets."""

from dataclasses import replace

from domain.texts import run_material
from domain.texts.run_material import MOST_CHARACTERS, Candidate, Results, Step

LONG = Candidate(
    candidate_id="long", title="The long one", scores={"found": 0.95, "speed": 0.4}, data={"n": 1}
)
BARE = Candidate(candidate_id="bare", title="The bare one", scores={}, data=None)
RUN = Results(
    run_id="r1",
    title="Compare",
    status="succeeded",
    error=None,
    summary="The long one wins.",
    findings=["It is slow."],
    candidates=[LONG, BARE],
    steps=[Step(title="Try", prompt="Find it", output="Found")],
)


def test_the_results_are_told_whole_and_in_order() -> None:
    assert run_material.results_text(RUN) == (
        "Run r1: Compare\n"
        "Status: succeeded\n"
        "Summary: The long one wins.\n"
        "Findings:\n"
        "- It is slow.\n"
        "Candidates:\n"
        "- The long one (long): found 0.95, speed 0.4\n"
        '  {"n": 1}\n'
        "- The bare one (bare): no scores\n"
        "Steps:\n"
        "- Try: Found"
    )


def test_a_failed_run_says_its_error() -> None:
    failed = replace(RUN, status="failed", error="No space left")
    assert "Status: failed\nError: No space left\n" in run_material.results_text(failed)


def test_the_results_have_a_bound_and_begin_with_what_matters() -> None:
    huge = [replace(LONG, title="x" * 500, data={"text": "y" * 5_000}) for _ in range(100)]
    steps = [Step(title="z", prompt=None, output="z" * 50_000)] * 50
    text = run_material.results_text(
        replace(
            RUN, summary="s" * 20_000, findings=["f" * 1_000] * 50, candidates=huge, steps=steps
        )
    )
    assert len(text) <= MOST_CHARACTERS
    assert text.startswith("Run r1: Compare\nStatus: succeeded\nSummary: sss")
    assert "\nCandidates:\n" in text
    assert text.endswith("…")


def test_a_step_is_its_prompt_and_its_output_within_the_bound() -> None:
    told = run_material.step_text(Step(title="Try", prompt="Find it", output="Found"))
    assert told == "Step: Try\n\nPrompt:\nFind it\n\nOutput:\nFound"
    missing = run_material.step_text(Step(title="Try", prompt=None, output=None))
    assert missing.count("(not reported)") == 2
    for prompt, output in (("p" * 50_000, "o" * 50_000), ("p", "o" * 50_000), ("p" * 50_000, "o")):
        text = run_material.step_text(Step(title="t" * 500, prompt=prompt, output=output))
        assert MOST_CHARACTERS - 500 < len(text) <= MOST_CHARACTERS
        assert min(len(prompt), 9_000) <= text.count("p")
        assert min(len(output), 9_000) <= text.count("o")
