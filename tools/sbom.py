"""Makes a CycloneDX 1.6 SBOM of the packages that a hashed pip lock pins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)\s*(?:;\s*(.+?))?$")
_HASH = re.compile(r"^--hash=sha256:([0-9a-f]{64})$")


class LockUnreadable(Exception):
    """A line of the lock is neither a pinned package nor a SHA-256 of one."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """One package of the lock."""

    name: str
    version: str
    #: SHA-256 of each of its distribution files, in the order of the lock.
    sha256: tuple[str, ...]
    #: The environments that need it; empty: all.
    marker: str = ""

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def read_lock(text: str) -> tuple[Pinned, ...]:
    """All packages of the lock, in its order. Raises LockUnreadable for a package without a hash or another line."""
    found = []
    # A package and its hashes are one logical line, continued by backslashes.
    for line in text.replace("\\\n", "\0").splitlines():
        first, *rest = (part.strip() for part in line.split("\0"))
        if not first or first.startswith("#"):
            continue
        pinned = _PINNED.match(first)
        hashes = [one for one in map(_HASH.match, rest) if one]
        if pinned is None or not hashes or len(hashes) != len(rest):
            raise LockUnreadable(f"neither a pinned package nor its hashes: {first}")
        name, version, marker = pinned.groups(default="")
        found.append(Pinned(normalized(name), version, tuple(one[1] for one in hashes), marker))
    return tuple(found)


def normalized(name: str) -> str:
    """The name as PEP 503 and package URLs spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def make_sbom(project: Mapping[str, Any], packages: Sequence[Pinned], time: datetime) -> dict[str, Any]:
    """The SBOM of a release. `project` is the table of that name in pyproject.toml.

    The same arguments give the same bytes: the serial number is derived from them.
    """
    name, version = normalized(project["name"]), project["version"]
    ours = f"pkg:pypi/{name}@{version}"
    content = ";".join((ours, *(f"{one.purl}#{','.join(one.sha256)}" for one in packages)))
    direct = {normalized(re.split(r"[^A-Za-z0-9._-]", one, maxsplit=1)[0]) for one in project["dependencies"]}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {
            "timestamp": time.isoformat(timespec="seconds"),
            "component": {
                "type": "application",
                "bom-ref": ours,
                "name": name,
                "version": version,
                "description": project["description"],
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "purl": ours,
            },
        },
        "components": [_component(one) for one in packages],
        "dependencies": [
            {"ref": ours, "dependsOn": sorted({one.purl for one in packages if one.name in direct})},
        ],
    }


def _component(one: Pinned) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": one.purl,
        "name": one.name,
        "version": one.version,
        "purl": one.purl,
        "hashes": [{"alg": "SHA-256", "content": content} for content in one.sha256],
    }
    if one.marker:
        component["properties"] = [{"name": "python:environment-marker", "value": one.marker}]
    return component
