"""A snapshot that an older version of the service has kept is never read by other rules."""

import inspect
from dataclasses import fields
from hashlib import sha256
from types import ModuleType

import pytest

from domain.deciders import account, project

RULES = {"account/1": "1119b6c2b07d", "project/1": "ac60223855af"}


@pytest.mark.parametrize("decider", [account, project])
def test_rules_that_changed_have_another_form(decider: ModuleType) -> None:
    """Keep the form, and write a new digest, only where all states and fields stay as they were."""
    state = type(decider.INITIAL)
    rules = inspect.getsource(decider.evolve) + str([each.name for each in fields(state)])
    digest = sha256(rules.encode()).hexdigest()[:12]
    assert RULES[decider.SNAPSHOT] == digest, f"write another form, and its digest {digest}"
