"""The policy: which identity may call which method. Read from policy.toml at start and after each change.

Methods are denied by default. The process does not start if the policy lacks a method that it serves or has one that it
does not serve; a changed file with that error is logged and ignored. A service's identity is in no list of its own
methods: `replicas` lets the replicas of the service forward calls, and nothing else. `anyone` means all identities
except services.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chassis.admission.rate_limit import RateLimit
from chassis.identity.file_stamp import stamp
from chassis.identity.peer_identity import SpiffeId, trust_domain

log = structlog.stdlib.get_logger(__name__)

FILE = Path(__file__).with_name("policy.toml")
#: The policy's section for all processes, and the word for all identities.
EVERY = "every"
ANYONE = "anyone"
DEFAULT = "default"
#: In a service's section: its own identity, for calls that a replica forwards.
REPLICAS = "replicas"
_WORDS = {EVERY, ANYONE, DEFAULT, REPLICAS, "local"}
#: First path segment of the services' SPIFFE ids.
_SERVICES = "service"


class PolicyError(Exception):
    """The policy is invalid. The message has the place."""


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
    """The policy of one process."""

    #: Name of each identity by its SPIFFE id.
    names: Mapping[str, str]
    #: Names of the identities that may call, by method, `/package.Service/Method`.
    allowed: Mapping[str, frozenset[str]]
    #: Methods that a replica may forward.
    forwarded: frozenset[str]
    limits: Mapping[str, RateLimit]

    def limit(self, name: str) -> RateLimit:
        """The rate limit of an identity."""
        return self.limits.get(name, self.limits[DEFAULT])

    def check(self, served: Set[str]) -> None:
        """Raises PolicyError unless the policy has exactly the methods served, `/package.Service/Method`."""
        unknown = sorted(served - self.allowed.keys())
        unserved = sorted(self.allowed.keys() - served)
        if unknown:
            raise PolicyError(f"the policy lacks {', '.join(unknown)}")
        if unserved:
            raise PolicyError(f"the policy has {', '.join(unserved)}, which this process does not serve")


def read(path: Path, service: str) -> Policy:
    """Reads the policy of a service's process from a file. Raises PolicyError."""
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
        # One bundle verifies them all, so the authority of one domain could sign for the others.
        raise PolicyError(f"{path}: the identities have more than one trust domain")
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
            for method, names_of_callers in methods.items():
                full = f"/{service}/{method}"
                callers = set(names_of_callers)
                if section != EVERY and REPLICAS in callers:
                    forwarded.add(full)
                    callers.discard(REPLICAS)
                if section != EVERY and callers & own:
                    few = ", ".join(sorted(callers & own))
                    raise PolicyError(f"{path}: {full} lists {few}: a service may only forward, write {REPLICAS}")
                strangers += sorted(callers - head.identities.keys() - {ANYONE})
                everybody = head.identities if section == EVERY else head.identities.keys() - services
                allowed[full] = frozenset(everybody if ANYONE in callers else callers)
    if strangers:
        raise PolicyError(f"{path}: unknown identity: {', '.join(strangers)}")
    limits = {name: RateLimit(one.calls_per_second, one.burst) for name, one in head.limits.items()}
    return Policy(names, allowed, frozenset(forwarded), limits)


class PolicySource:
    """The policy's file, read again when it changes."""

    def __init__(self, path: Path, service: str) -> None:
        self._path = path
        self._service = service
        self._stamp = stamp(path)

    def read(self) -> Policy:
        """Reads the policy. Raises PolicyError."""
        return read(self._path, self._service)

    def newer(self, served: Set[str]) -> Policy | None:
        """The policy if the file changed and has exactly the methods served; else None."""
        now = stamp(self._path)
        if now == self._stamp:
            return None
        self._stamp = now
        try:
            policy = self.read()
            policy.check(served)
        except PolicyError as error:
            log.error("the new policy can't be used; the old one stays in use", error=str(error))
            return None
        return policy
