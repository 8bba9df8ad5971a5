"""Finds the files of a project that contain secrets, by their names and contents."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

FOLDERS: Final = frozenset(
    {
        ".git",
        ".ssh",
        ".aws",
        ".gnupg",
        ".kube",
        ".docker",
        ".azure",
        ".gcloud",
        ".terraform",
        ".terraform.d",
        ".password-store",
    }
)
NAMES: Final = (
    ".env",
    ".env.*",
    "*.env",
    ".envrc",
    "*.pem",
    "*.key",
    "*.p8",
    "*.p12",
    "*.pfx",
    "*.ppk",
    "*.jks",
    "*.keystore",
    "*.kdb",
    "*.kdbx",
    "*.ovpn",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".pgpass",
    "pgpass.conf",
    ".my.cnf",
    ".netrc",
    "_netrc",
    ".s3cfg",
    ".boto",
    ".dockercfg",
    ".dockerconfigjson",
    ".vault-token",
    ".terraformrc",
    "terraform.rc",
    "kubeconfig",
    "*.kubeconfig",
    ".*_history",
    ".npmrc",
    ".pypirc",
    ".htpasswd",
    ".git-credentials",
    "credentials",
    "credentials.*",
    "secrets",
    "secrets.*",
    "application_default_credentials.json",
    "*.tfstate*",
    "*.tfvars",
    "*.tfvars.json",
    "service-account*.json",
)
_SECRET: Final = re.compile(
    "|".join(
        (
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----",
            r"PuTTY-User-Key-File-\d",
            r"AGE-SECRET-KEY-1[0-9A-Z]{20}",
            # The value of a key of AWS has 40 characters; the name alone is in ordinary code.
            r"(?i:aws_?secret_?access_?key|aws_?secret)[\"']?\s*[:=]\s*[\"']?[0-9A-Za-z/+]{40}(?![0-9A-Za-z/+=])",
            r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
            r"\bgh[opsru]_[0-9A-Za-z]{36}",
            r"\bgithub_pat_[0-9A-Za-z_]{22}",
            r"\bglpat-[0-9A-Za-z_-]{20}",
            r"\bxox[abeoprs]-[0-9A-Za-z-]{10}",
            r"\b[rs]k_live_[0-9A-Za-z]{16}",
            r"\bsk-(ant|proj)-[0-9A-Za-z_-]{20}",
            r"\bnpm_[0-9A-Za-z]{36}",
            r"\bpypi-AgE[0-9A-Za-z_-]{20}",
        )
    )
)
"""A private key, or a token that its prefix tells from every other text."""


def is_secret_name(parts: Sequence[str]) -> bool:
    """Whether a part of the path has the name of a secret file or folder."""
    folded = [part.casefold() for part in parts]
    return any(part in FOLDERS or any(fnmatchcase(part, name) for name in NAMES) for part in folded)


def holds_a_secret(text: str) -> bool:
    """Whether a text contains a private key or a token."""
    return _SECRET.search(text) is not None
