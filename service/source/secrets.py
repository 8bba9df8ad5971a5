"""Finds the files of a project that contain secrets, by their names and contents."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

FOLDERS: Final = frozenset({".git", ".ssh", ".aws", ".gnupg", ".kube", ".docker", ".azure"})
NAMES: Final = (
    ".env",
    ".env.*",
    "*.env",
    ".envrc",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".htpasswd",
    ".git-credentials",
    "credentials",
    "credentials.*",
    "secrets",
    "secrets.*",
    "*.tfstate*",
    "service-account*.json",
)
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----")


def is_secret_name(parts: Sequence[str]) -> bool:
    """Whether a part of the path has the name of a secret file or folder."""
    folded = [part.casefold() for part in parts]
    return any(part in FOLDERS or any(fnmatchcase(part, name) for name in NAMES) for part in folded)


def holds_a_key(text: str) -> bool:
    """Whether a text contains a private key."""
    return _PRIVATE_KEY.search(text) is not None
