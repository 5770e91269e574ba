"""Finds Java and Maven, or says in one sentence what to install. Changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from devstack.errors import MissingTool

JAVA = 17
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


def java(*, with_maven: bool) -> str:
    """The path of a Java that runs Kafka: that of JAVA_HOME, else that of PATH.

    Raises MissingTool if Java is missing or too old, and with `with_maven` also if Maven is missing.
    """
    path = _java_path()
    version = _version(path) if path else 0
    missing = []
    if not path or not version:
        missing.append(f"Java {JAVA} or newer")
    elif version < JAVA:
        missing.append(f"Java {JAVA} or newer ({path} is {version})")
    if with_maven and shutil.which("mvn") is None:
        missing.append("Maven")
    if not path or missing:
        raise MissingTool(
            f"A local Kafka needs {' and '.join(missing)}: install it (for instance `apt-get install "
            "openjdk-17-jre-headless maven`), or set KAFKA=host:port to use a broker of your own."
        )
    return path


def _java_path() -> str | None:
    home = os.environ.get("JAVA_HOME")
    inside = Path(home) / "bin" / "java" if home else None
    return str(inside) if inside is not None and os.access(inside, os.X_OK) else shutil.which("java")


def _version(path: str) -> int:
    """The feature version; 0 if the program prints none, like macOS's placeholder for a missing Java."""
    try:
        answer = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = _VERSION.search(answer.stderr)
    return int(found.group(1)) if found and answer.returncode == 0 else 0
