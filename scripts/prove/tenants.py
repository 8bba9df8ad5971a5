"""The tenants of the load, which must not see each other, their users and projects."""

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from scripts.prove.sizes import Size

NAMES: Final = ("north", "south", "west")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant. Its `canary` is a word that is in all of its data, and nowhere else."""

    name: str
    secret: str
    canary: str
    users: tuple[str, ...]
    projects: tuple[str, ...]

    @property
    def key_id(self) -> str:
        """The id of the tenant's key."""
        return f"key-{self.name}"

    @property
    def key(self) -> dict[str, Any]:
        """The tenant's key for the settings of the service."""
        scopes = ["chat", "build", "admin", "read"]
        return {"secret": self.secret, "tenant": self.name, "scopes": scopes}


def tenants(size: Size, random: Random) -> tuple[Tenant, ...]:
    """All tenants. The id of a project has no canary, so that other tenants can ask for it."""
    return tuple(_tenant(name, size, random) for name in NAMES)


def _tenant(name: str, size: Size, random: Random) -> Tenant:
    canary = f"kept{random.getrandbits(48):012x}"
    return Tenant(
        name=name,
        secret=f"{random.getrandbits(128):032x}",
        canary=canary,
        users=tuple(f"{canary}-{n}" for n in range(size.users // len(NAMES))),
        projects=tuple(f"project-{name}-{n}" for n in range(size.projects // len(NAMES))),
    )
