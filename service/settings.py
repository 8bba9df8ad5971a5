"""All settings. They come from environment variables with the prefix `THROUGHLINE_`."""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Scope = Literal["chat", "build", "admin", "read"]
LogLevel = Literal["debug", "info", "warning", "error"]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
PREFIX: Final = "THROUGHLINE_"
_ORIGIN: Final = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


def _in_lower_case(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _database(url: SecretStr) -> SecretStr:
    """What libpq can read at all. The message never quotes the URL, which has a password."""
    text = url.get_secret_value()
    if not text.startswith(("postgresql://", "postgres://")) and ("://" in text or "=" not in text):
        raise ValueError("must begin with postgresql://")
    return url


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError("is no folder; create it, or leave the setting out")
    return path


def _names(value: Any) -> Any:
    """The names in a text, with commas between them."""
    if not isinstance(value, str):
        return value
    return tuple(name for each in value.split(",") if (name := each.strip()))


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Origins as browsers send them."""
    if not all(_ORIGIN.fullmatch(each) for each in origins):
        raise ValueError("must be origins without a path, such as https://shop.example.com")
    return origins


def _collector(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]
Collector = Annotated[str, AfterValidator(_collector)]
Models = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names), AfterValidator(_origins)]


class Key(BaseModel):
    """A caller's signing key. `secrets` are accepted beside `secret` while it rotates."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    secret: SecretStr = Field(min_length=16)
    secrets: tuple[SecretStr, ...] = ()
    tenant: str = Field(min_length=1, max_length=255)
    scopes: frozenset[Scope]


class Settings(BaseSettings):
    """The settings of the service. The description of a field is its line in the documentation."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    database_url: DatabaseUrl | None = Field(
        default=None,
        description="The URL of a PostgreSQL 15 or newer. Without a URL the embedded "
        "PostgreSQL 18 is started.",
    )
    database_direct_url: DatabaseUrl | None = Field(
        default=None,
        description="The way around a pooler, for the writer, LISTEN and migrations. "
        "By default `DATABASE_URL` serves them, too.",
    )
    database_replica_url: DatabaseUrl | None = Field(
        default=None,
        description="A hot standby of the database that answers reads while it keeps up.",
    )
    data_dir: Path = Field(
        default=Path(".throughline"),
        description="Where the embedded database and the demo key are kept between runs.",
    )
    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=8400, ge=0, le=65535, description="The port to listen on.")
    workers: int = Field(
        default=1, ge=1, le=64, description="How many processes serve that port together."
    )
    hmac_keys: dict[str, Key] = Field(
        default={},
        description='Who may call, as JSON: `{"<keyId>": {"secret": "...", "tenant": "...", '
        '"scopes": ["chat", "build", "admin", "read"]}}`. By default one key for the tenant '
        "`demo` is made and kept in the data folder.",
    )
    origins: Origins = Field(
        default=(),
        description="The origins of your own web pages that call this service with browsers' "
        "tokens, with commas between them.",
    )
    model: str = Field(default="claude-sonnet-5-5", description="The model that is asked.")
    models: Models = Field(
        default=(),
        description="Further models that a session of mode prompt may name, with commas between "
        "them.",
    )
    max_tokens: int = Field(
        default=8_192, ge=256, le=128_000, description="The longest reply, in tokens."
    )
    history_tokens: int = Field(
        default=24_000,
        ge=0,
        description="How much of a session is sent along, in tokens; whole turns.",
    )
    first_text_seconds: Seconds = Field(
        default=90, description="How long the model may be silent before its first text."
    )
    next_text_seconds: Seconds = Field(
        default=60, description="How long the model may be silent between two pieces of text."
    )
    reply_seconds: Seconds = Field(default=600, description="The longest that a reply may take.")
    user_messages: int = Field(
        default=100, ge=1, le=10_000, description="Messages that are taken of a user in an hour."
    )
    project_messages: int = Field(
        default=200, ge=1, le=10_000, description="Messages that are taken in a project in an hour."
    )
    idle_seconds: Seconds = Field(
        default=1_800, description="How long nobody may speak in a session before it expires."
    )
    main_build_seconds: int = Field(
        default=600,
        ge=1,
        le=86_400,
        description="AI seconds that are reserved for a project's first build.",
    )
    update_build_seconds: int = Field(
        default=300,
        ge=1,
        le=86_400,
        description="AI seconds that are reserved for a build of a project that has a version, or "
        "of a plan.",
    )
    build_silent_seconds: Seconds = Field(
        default=1_800,
        description="How long nothing may be heard of a build or a run before it has failed.",
    )
    source_dir: Annotated[Path, AfterValidator(_folder)] | None = Field(
        default=None,
        description="The folder with the projects' sources: one folder a tenant, in that the "
        "`sourceRoot` of each project. Without a folder plans are made without a look at the code.",
    )
    keep_seconds: float = Field(
        default=86_400,
        ge=0,
        le=31_536_000,
        description="How long the frames of a reply are kept after its end, beside the log.",
    )
    grace_seconds: Seconds = Field(
        default=20, description="How long running replies may go on when the service is stopped."
    )
    past_events: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="Events of a project or an account, at most, that a read with `asOf` folds.",
    )
    webhooks_private: bool = Field(
        default=False,
        description="Whether webhooks may lead to addresses that are not public, and have http.",
    )
    audit_days: int = Field(
        default=400, ge=30, le=3_650, description="How long an entry of the audit is kept, in days."
    )
    log_level: Annotated[LogLevel, BeforeValidator(_in_lower_case)] | None = Field(
        default=None,
        description="The lowest level that is logged. By default `info`, or `warning` where "
        "standard "
        "error is a terminal.",
    )
    anthropic_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="ANTHROPIC_API_KEY",
        description="The key for the Messages API. Without a key the offline model answers.",
    )
    anthropic_base_url: str | None = Field(
        default=None,
        validation_alias="ANTHROPIC_BASE_URL",
        description="Another server that speaks the Messages API.",
    )

    otlp_endpoint: Collector | None = Field(
        default=None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="The URL of the collector. The service sends traces to this URL by OTLP over "
        "HTTP; without a URL the service sends no traces.",
    )


def variable(name: str) -> str:
    """The environment variable of a setting, by the name of its field."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else PREFIX + name.upper()
