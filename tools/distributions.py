"""`make wheels`: builds the wheels of the three distributions of this repository.

pyproject.toml at the top describes groupbuy-settlement; distributions/ describes the two that other repositories
install. All have one version, and the same time in SOURCE_DATE_EPOCH gives the same bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: The folder of each distribution, from the top of the repository; in the order in which they depend on each other.
FOLDERS: Mapping[str, str] = {
    "groupbuy-client": "distributions/client",
    "groupbuy-settlement": ".",
    "groupbuy-testing": "distributions/testing",
}


class BuildFailed(Exception):
    """A wheel could not be built, or the distributions differ in their version; the message gives the reason."""


def project(distribution: str, root: Path = ROOT) -> dict[str, Any]:
    """The table `project` of a distribution."""
    text = (root / FOLDERS[distribution] / "pyproject.toml").read_text(encoding="utf-8")
    table: dict[str, Any] = tomllib.loads(text)["project"]
    return table


def common_version(root: Path = ROOT) -> str:
    """The version of all distributions. Raises BuildFailed if they differ."""
    versions = {name: project(name, root)["version"] for name in FOLDERS}
    if len(set(versions.values())) > 1:
        raise BuildFailed("versions differ: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    return str(versions["groupbuy-settlement"])


def wheel_name(distribution: str, version: str) -> str:
    """The file name of a wheel."""
    return f"{distribution.replace('-', '_')}-{version}-py3-none-any.whl"


def build_wheels(into: Path, environment: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Builds all wheels into a directory. Returns each distribution's wheel. Raises BuildFailed."""
    version = common_version()
    built = {}
    for name, folder in FOLDERS.items():
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into.resolve())]
        done = subprocess.run(
            command,
            cwd=ROOT / folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        wheel = into / wheel_name(name, version)
        if done.returncode or not wheel.exists():
            raise BuildFailed(f"{name} could not be built:\n{(done.stderr or done.stdout).strip()}")
        built[name] = wheel
    return built


def main() -> None:
    """Builds into the directory that the argument names; exits 1 where a build fails."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m tools.distributions DIRECTORY\n")
        raise SystemExit(2)
    into = Path(sys.argv[1])
    into.mkdir(parents=True, exist_ok=True)
    try:
        for wheel in build_wheels(into).values():
            print(f"{wheel}  {wheel.stat().st_size:,} bytes")
    except BuildFailed as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
