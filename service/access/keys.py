"""The known keys: the keys of the settings, or one key of the demo for a first run."""

import json
import secrets
from pathlib import Path
from typing import Final

from service.settings import Key, Settings

TENANT: Final = "demo"
KEY_ID: Final = "demo"
_FILE: Final = "demo-key.json"


def known_keys(settings: Settings) -> dict[str, Key]:
    """The known keys by id: the keys of the settings, or the demo's key, made on first use."""
    if settings.hmac_keys:
        return settings.hmac_keys
    file = settings.data_dir / _FILE
    if not file.exists():
        _write_key(file)
    stored = json.loads(file.read_text())
    return {key_id: Key.model_validate_json(json.dumps(key)) for key_id, key in stored.items()}


def _write_key(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    key = {
        "secret": secrets.token_urlsafe(32),
        "tenant": TENANT,
        "scopes": ["chat", "build", "admin", "read"],
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps({KEY_ID: key}, indent=2))
