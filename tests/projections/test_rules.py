"""Rules that change need a higher version: rows of the old rules are rebuilt with the new ones."""

import re
from hashlib import sha256

import pytest

from projections import PROJECTIONS
from projections.projection import Projection


def digest(*statements: bytes) -> str:
    """Eight hex digits that comments and white space do not change."""
    text = re.sub(r"--.*", "", b"\n".join(statements).decode())
    return sha256("".join(text.split()).encode()).hexdigest()[:8]


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_rules_that_changed_have_a_higher_version(projection: Projection) -> None:
    found = digest(projection.statements["table"], projection.statements["apply"])
    if projection.rules != found:
        pytest.fail(
            f"sql/projections/{projection.name}.sql has another table or other rules. "
            f"Where {projection.name.upper()} is defined in projections/, raise `version` above "
            f"{projection.version}, so that existing rows are rebuilt, and write:\n"
            f'    rules="{found}",'
        )


def test_a_digest_is_of_the_rules_alone() -> None:
    rules = b"begin\n    select 1; -- one\nend"
    assert digest(rules) == digest(b"begin select 1;\n\n end -- the end")
    assert digest(rules) != digest(b"begin\n    select 2; -- one\nend")
