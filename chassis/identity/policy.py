"""Who may call what: the table in policy.toml, read at start and after each change, and compared with what is served.

Deny by default. A table that lacks a method of the process, or has one that it does not serve, stops the start; a
changed file with that fault is ignored and logged. A service's identity is in no list of its methods: `replicas` there
lets replicas of the service forward calls, and nothing else. `anyone` there are all but services.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chassis.admission.rate_limit import Limit
from chassis.identity.peer_identity import SpiffeId, trust_domain

FILE = Path(__file__).with_name("policy.toml")
#: The part of the table that holds for all processes, and the word for all identities.
EVERY = "every"
ANYONE = "anyone"
DEFAULT = "default"
#: In a list of a service's methods: its own identity, for calls that a replica forwards.
REPLICAS = "replicas"
_WORDS = {EVERY, ANYONE, DEFAULT, REPLICAS, "local"}
#: Where the SPIFFE ids of services begin, below the trust domain.
_SERVICES = "service"


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
    #: Methods that a replica may forward.
    forwarded: frozenset[str]
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
    if len({trust_domain(spiffe) for spiffe in names}) > 1:
        # One bundle verifies them all, so each authority of one domain could sign for the others.
        raise PolicyError(f"{path}: the identities are of more than one trust domain")
    if len(names) < len(head.identities):
        raise PolicyError(f"{path}: two identities have the same SPIFFE id")
    if DEFAULT not in head.limits:
        raise PolicyError(f"{path}: limits.{DEFAULT} is missing")
    strangers = sorted(head.limits.keys() - head.identities.keys() - {DEFAULT})
    services = {name for spiffe, name in names.items() if spiffe.split("/")[3] == _SERVICES}
    own = services & sections.keys()
    allowed: dict[str, frozenset[str]] = {}
    forwarded: set[str] = set()
    for section, tables in sections.items():
        for service, methods in tables.items():
            for method, who in methods.items():
                full = f"/{service}/{method}"
                callers = set(who)
                if section != EVERY and REPLICAS in callers:
                    forwarded.add(full)
                    callers.discard(REPLICAS)
                if section != EVERY and callers & own:
                    few = ", ".join(sorted(callers & own))
                    raise PolicyError(f"{path}: {full} is for {few}: a service forwards calls alone, write {REPLICAS}")
                strangers += sorted(callers - head.identities.keys() - {ANYONE})
                everybody = head.identities if section == EVERY else head.identities.keys() - services
                allowed[full] = frozenset(everybody if ANYONE in callers else callers)
    if strangers:
        raise PolicyError(f"{path}: no such identity: {', '.join(strangers)}")
    limits = {name: Limit(one.calls_per_second, one.burst) for name, one in head.limits.items()}
    return Policy(names, allowed, frozenset(forwarded), limits)
