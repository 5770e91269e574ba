"""Prints the CycloneDX SBOM of an image: the installed Python packages with the lock's hashes, and Debian's packages.

`python image_sbom.py STATUS`, run by the image's Python in the source tree; STATUS is the dpkg status of the base.
Raises SystemExit if an installed package is not of the lock.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.sbom import Pinned, make_sbom, normalized, read_lock  # noqa: E402 - the tools are not installed


def image_sbom(status: str, lock: str, project: dict[str, Any], installed: dict[str, str], time: datetime) -> Any:
    """The SBOM as a document. `installed` has the version of each distribution in the image.

    Raises SystemExit if a distribution is neither of the lock, in its version, nor of this repository.
    """
    pinned = {one.name: one for one in read_lock(lock)}
    ours = {normalized(project["name"]), "groupbuy-client"}
    packages = []
    for name, version in sorted(installed.items()):
        if name in ours:
            packages += [Pinned(name, version, ())] if name != normalized(project["name"]) else []
        elif name not in pinned or pinned[name].version != version:
            raise SystemExit(f"{name} {version} is installed, and is not of requirements.lock")
        else:
            packages.append(pinned[name])
    document = make_sbom(project, packages, time)
    document["metadata"]["component"]["type"] = "container"
    document["components"] += list(debian(status))
    return document


def debian(status: str) -> Iterator[dict[str, Any]]:
    """A component for each package of a dpkg status."""
    for stanza in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", stanza, re.MULTILINE))
        if not fields.get("Status", "").endswith(" installed"):
            continue
        name, version = fields["Package"], fields["Version"]
        purl = f"pkg:deb/debian/{name}@{version.replace('+', '%2B').replace(':', '%3A')}?arch={fields['Architecture']}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def main() -> None:
    """Prints the SBOM of this Python's environment, dated by SOURCE_DATE_EPOCH."""
    document = image_sbom(
        Path(sys.argv[1]).read_text(encoding="utf-8"),
        (ROOT / "requirements.lock").read_text(encoding="utf-8"),
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"],
        {normalized(one.metadata["Name"]): one.version for one in distributions()},
        datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC),
    )
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
