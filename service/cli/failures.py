"""What a user reads when a command cannot do its work: a line for each fault, and no traceback.

A line names the setting by its environment variable, says what was wrong, and what to do. It never
has a secret: the values of secret settings are not shown.
"""

import difflib
import os
import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import SettingsError

from service.cli.calls import CallFailed
from service.settings import PREFIX, Settings, variable

WRONG_USE: Final = 2
"""The exit code where a setting or an argument is wrong."""

FAILED: Final = 1
"""The exit code of every other failure."""

OWNER_NEEDED: Final = (
    "the user of THROUGHLINE_DATABASE_URL must own the database and have CREATEROLE"
)
_ALSO_OURS: Final = {
    f"{PREFIX}{name}"
    for name in ("TENANT", "WORKER_SECRET", "PROVE", "SEED", "ROUTE", "SERVICE_HOST")
}
"""Variables of the recorder, the example worker and the tests, and a variable of Kubernetes."""

_URLS: Final = ("database_url", "database_direct_url", "database_replica_url")
_SECRET: Final = {*_URLS, "hmac_keys", "anthropic_api_key"}
_LONGEST_VALUE: Final = 60
_NOT_MIGRATED: Final = re.compile(r'"?\bapp\b["._]|role "throughline_')
_RULES: Final = {
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "extra_forbidden": "is not known",
    "too_short": "must have at least {min_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "dict_type": 'must be JSON: {{"<keyId>": {{"secret": ..., "tenant": ..., "scopes": [...]}}}}',
    "model_type": 'must be a JSON object with "secret", "tenant" and "scopes"',
    "value_error": "{error}",
}
"""What is said for each kind of error that pydantic finds in a setting."""


def explained(error: Exception) -> tuple[list[str], int] | None:
    """The lines and the exit code of a failure that a user can do something about."""
    if isinstance(error, ValidationError) and error.title == Settings.__name__:
        return list(_wrong_settings(error)), WRONG_USE
    if isinstance(error, SettingsError):
        return [_unreadable_setting(error)], WRONG_USE
    if isinstance(error, CallFailed):
        return [str(error)], FAILED
    return _of_database(error) or _of_service(error)


def unknown_settings() -> Iterator[str]:
    """A line for each variable that looks like a setting and is none.

    It is no error: an older version must start with the settings of a newer version.
    """
    known = {variable(name) for name in Settings.model_fields}
    for name in sorted(os.environ):
        is_ours = name in known | _ALSO_OURS or name.startswith(f"{PREFIX}SERVICE_PORT")
        if name.startswith(PREFIX) and not is_ours and not name.startswith(f"{PREFIX}PORT_"):
            like = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {like[0]}?" if like else ""
            yield f"{name} is no setting and has no effect.{hint}"


# Settings ----------------------------------------------------------------------------------------


def _wrong_settings(error: ValidationError) -> Iterator[str]:
    for each in error.errors(include_input=False, include_url=False):
        name, *inside = each["loc"]
        rule = _RULES.get(each["type"])
        what = rule.format(**each.get("ctx", {})) if rule else each["msg"]
        yield f"{_shown(str(name))}{_member(each['type'], inside)} {what}."


def _shown(name: str) -> str:
    """The variable, with its value where that is short and no secret."""
    # A setting with a variable of another name is reported under that variable.
    named = variable(name) if name in Settings.model_fields else name
    value = os.environ.get(named, "")
    if name in _SECRET or named == variable("anthropic_api_key") or not value:
        return named
    return f"{named}={value!r}" if len(value) <= _LONGEST_VALUE else named


def _member(kind: str, inside: list[Any]) -> str:
    """Where in the keys the error is. The name of an unknown member may be a secret."""
    if not inside:
        return ""
    key_id, *rest = (str(each) for each in inside)
    if kind == "extra_forbidden":
        rest = ["a member"]
    return f": {' '.join([*rest, 'of'])} key {key_id}" if rest else f": key {key_id}"


def _unreadable_setting(error: SettingsError) -> str:
    """A setting of JSON that is no JSON. The error's cause has the text, and is not shown."""
    found = re.search(r'field "(\w+)"', str(error))
    return f"{variable(found[1]) if found else 'A setting'} is no JSON. See docs/operations.md."


# The database ------------------------------------------------------------------------------------


def _of_database(error: Exception) -> tuple[list[str], int] | None:
    import psycopg

    match error:
        case psycopg.errors.InsufficientPrivilege():
            line = f"The database refuses: {_message(error)}. Here {OWNER_NEEDED}."
        case (
            psycopg.errors.UndefinedTable()
            | psycopg.errors.UndefinedFunction()
            | psycopg.errors.InvalidSchemaName()
            | psycopg.errors.InvalidParameterValue()
        ) if _NOT_MIGRATED.search(str(error)):
            line = "The database has no tables of this service yet: run `throughline migrate`."
        case psycopg.OperationalError():
            said = _message(error)
            is_there = any(word in said for word in ("authentication", "exist", "permitted"))
            check = "Check user, password and database." if is_there else "Is PostgreSQL there?"
            line = f"{_url_variable()}: {said}. {check}"
        case psycopg.ProgrammingError() if error.sqlstate is None:
            # Its message quotes the URL.
            line = (
                f"{_url_variable()} cannot be read. It has the form"
                " postgresql://user:password@host:5432/database, with %40 for @ in a password."
            )
        case _:
            return None
    return [line], WRONG_USE


def _message(error: Any) -> str:
    """The first line of PostgreSQL's message, without the password of a URL."""
    first = (error.diag.message_primary or str(error)).strip().partition("\n")[0]
    text = re.sub(r"^connection (to server )?(is bad|failed): ", "", first)
    for name in _URLS:
        url = os.environ.get(variable(name), "")
        password = re.search(r"//[^/@]*?:([^@]+)@|password=(\S+)", url)
        if password:
            text = text.replace(password[1] or password[2], "***")
    return text.rstrip(".")


def _url_variable() -> str:
    return (
        variable("database_url")
        if os.environ.get(variable("database_url"))
        else "The embedded database"
    )


# The service -------------------------------------------------------------------------------------


def _of_service(error: Exception) -> tuple[list[str], int] | None:
    from projections.projection import Busy
    from service.cli.workers.supervisor import WorkersFailed
    from service.http.server import CannotListen, ServiceFailed
    from service.ops.tracing import TracingMissing
    from service.postgres.addresses import AddressRefused
    from service.postgres.functions import FunctionRefused
    from service.postgres.migrations import MigrationRefused
    from service.postgres.roles import RolesRefused
    from service.postgres.supervisor import PostgresFailed
    from service.replay.archive import ArchiveRefused
    from service.replay.delivery import CheckpointRefused, NotDelivered
    from service.replay.importing import ImportRefused
    from service.replay.jetstream import NatsMissing, StreamRefused
    from service.replay.parquet import ParquetMissing

    if isinstance(error, (CannotListen, AddressRefused)):
        return [str(error)], WRONG_USE
    if isinstance(error, Busy):
        return ["Another process rebuilds or verifies this read model now. Try again later."], 1
    if isinstance(error, (ArchiveRefused, ImportRefused, CheckpointRefused)):
        return [str(error)], WRONG_USE
    if isinstance(error, (ParquetMissing, NatsMissing, StreamRefused, TracingMissing)):
        return [str(error)], WRONG_USE
    if isinstance(error, (MigrationRefused, FunctionRefused, RolesRefused, PostgresFailed)):
        return [str(error)], FAILED
    if isinstance(error, (NotDelivered, ServiceFailed, WorkersFailed)):
        return [str(error)], FAILED
    return None
