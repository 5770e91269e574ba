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
    """The path of a Java that runs Kafka: that of JAVA_HOME if it is new enough, else that of PATH.

    Raises MissingTool if Java is missing or too old, and with `with_maven` also if Maven is missing.
    """
    path, version = _find()
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


def maven_environment() -> dict[str, str]:
    """Variables for Maven, which would fail with a JAVA_HOME that has no usable Java."""
    path, _ = _find()
    home = _java_home()
    return {} if home is None or path == str(home) else {"JAVA_HOME": ""}


def _java_home() -> Path | None:
    """The program that JAVA_HOME promises; None if JAVA_HOME is not set."""
    home = os.environ.get("JAVA_HOME")
    return Path(home) / "bin" / "java" if home else None


def _find() -> tuple[str | None, int]:
    """Path and version of the Java to use: the first that is new enough, else the newest."""
    home, found = _java_home(), shutil.which("java")
    paths = [str(home)] if home is not None and os.access(home, os.X_OK) else []
    paths += [found] if found and found not in paths else []
    best: tuple[str | None, int] = (paths[0] if paths else None, 0)
    for path in paths:
        version = _version(path)
        if version >= JAVA:
            return path, version
        if version > best[1]:
            best = path, version
    return best


def _version(path: str) -> int:
    """The feature version; 0 if the program prints none, like macOS's placeholder for a missing Java."""
    try:
        answer = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = _VERSION.search(answer.stderr)
    return int(found.group(1)) if found and answer.returncode == 0 else 0
