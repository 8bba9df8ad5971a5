"""The sizes of the tests and their random choices: small and always the same in `make test`.

`make prove` uses large sizes, and prints the seed of its random choices. A test that takes long has
a small size in `make test`.
"""

import os
from random import Random
from typing import Final

from hypothesis import HealthCheck, settings

PROVE: Final = bool(os.environ.get("THROUGHLINE_PROVE"))
SEED: Final = int(os.environ.get("THROUGHLINE_SEED", "0"))


def size(test: int, prove: int) -> int:
    """The size of a test in `make test`, or its size in `make prove`."""
    return prove if PROVE else test


def chance(name: str) -> Random:
    """The source of random choices for the test of this name."""
    return Random(f"{SEED} {name}")


def use_hypothesis_profile() -> None:
    """Choose how Hypothesis makes its examples. Test modules are imported after this call."""
    common = settings(
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.register_profile("ci", common, max_examples=60, derandomize=True)
    settings.register_profile("prove", common, max_examples=2_000, derandomize=False)
    settings.load_profile("prove" if PROVE else "ci")
