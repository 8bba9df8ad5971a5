"""What changed between two moments."""

from collections.abc import Mapping
from typing import Any


def changes(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What was added, and the members that changed, of JSON objects by their ids.

    `name` is the member with the id.
    """
    added = [after[key] for key in after if key not in before]
    changed = [
        {name: key, **differing}
        for key in after
        if key in before and (differing := difference(before[key], after[key]))
    ]
    return {"added": added, "changed": changed}


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a JSON object that changed, with their values before and after."""
    names = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if not names:
        return {}
    return {
        "before": {key: before.get(key) for key in names},
        "after": {key: after.get(key) for key in names},
    }
