"""Who may call what: the table in policy.toml, read once at start and held against what the process serves.

Deny by default: what the table doesn't say is not allowed, and a table that says too little or too much about a process
stops its start. Must never guess what somebody may have meant.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chassis.ratelimit import Limit

FILE = Path(__file__).with_name("policy.toml")
#: The part of the table that holds for all processes, and the word for all identities.
EVERY = "every"
ANYONE = "anyone"
DEFAULT = "default"
_WORDS = {EVERY, ANYONE, DEFAULT, "local"}

SpiffeId = Annotated[str, Field(pattern=r"^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$", max_length=2048)]


class PolicyError(Exception):
    """The table can't be used. The message says where."""


class _Limit(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    calls_per_second: float = Field(gt=0, allow_inf_nan=False)
    burst: int = Field(ge=1)


class _Head(BaseModel):
    model_config = ConfigDict(extra="allow")
    identities: dict[str, SpiffeId]
    limits: dict[str, _Limit]


_SECTION: TypeAdapter[dict[str, dict[str, list[str]]]] = TypeAdapter(dict[str, dict[str, list[str]]])


@dataclass(frozen=True, slots=True)
class Policy:
    """The table, as far as it concerns one process."""

    #: Name of each identity by its SPIFFE id.
    names: Mapping[str, str]
    #: Names of who may call, by method, `/package.Service/Method`.
    allowed: Mapping[str, frozenset[str]]
    limits: Mapping[str, Limit]

    def limit(self, name: str) -> Limit:
        """How often an identity may call."""
        return self.limits.get(name, self.limits[DEFAULT])

    def check(self, served: Set[str]) -> None:
        """Raises PolicyError unless the table has all methods that are served, `/package.Service/Method`, and no
        other."""
        unknown = sorted(served - self.allowed.keys())
        unserved = sorted(self.allowed.keys() - served)
        if unknown:
            raise PolicyError(f"the table does not say who may call {', '.join(unknown)}")
        if unserved:
            raise PolicyError(f"the table has {', '.join(unserved)}, which this process does not serve")


def read(path: Path, service: str) -> Policy:
    """The table of a file for the process of a service. Raises PolicyError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"{path} can't be read: {error}") from error
    try:
        head = _Head.model_validate(content)
        sections = {name: _SECTION.validate_python(content.get(name, {})) for name in (EVERY, service)}
    except ValidationError as error:
        one: Any = error.errors(include_url=False)[0]
        raise PolicyError(f"{path}: {'.'.join(map(str, one['loc']))}: {one['msg']}") from error
    return _policy(path, head, sections)


def _policy(path: Path, head: _Head, sections: Mapping[str, Mapping[str, Mapping[str, list[str]]]]) -> Policy:
    reserved = sorted(_WORDS & head.identities.keys())
    if reserved:
        raise PolicyError(f"{path}: {', '.join(reserved)} can't be the name of an identity")
    names = {spiffe: name for name, spiffe in head.identities.items()}
    if len(names) < len(head.identities):
        raise PolicyError(f"{path}: two identities have the same SPIFFE id")
    if DEFAULT not in head.limits:
        raise PolicyError(f"{path}: limits.{DEFAULT} is missing")
    strangers = sorted(head.limits.keys() - head.identities.keys() - {DEFAULT})
    allowed: dict[str, frozenset[str]] = {}
    for section in sections.values():
        for service, methods in section.items():
            for method, who in methods.items():
                strangers += sorted(set(who) - head.identities.keys() - {ANYONE})
                allowed[f"/{service}/{method}"] = frozenset(head.identities if ANYONE in who else who)
    if strangers:
        raise PolicyError(f"{path}: no such identity: {', '.join(strangers)}")
    limits = {name: Limit(one.calls_per_second, one.burst) for name, one in head.limits.items()}
    return Policy(names, allowed, limits)
