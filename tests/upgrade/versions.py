"""Wheels of this tree and of an older commit, each installed with its own lock into an environment of its own.

A version has settings of its own, as the variables of a release change with it.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.distributions import FOLDERS, ROOT

#: The older version as long as no release has a tag: one of the first commits whose processes have metrics. It has
#: the topics, state stamps and settings that the next release is upgraded from.
OLDER = "0c7126aa25ba2abae46c637893028c53fb57d51b"
#: A path of the caller would come before the installed wheels; Python ignores an empty one.
OWN_IMPORTS = {"PYTHONPATH": ""}
#: The distributions that a service needs.
INSTALLED = ("groupbuy-client", "groupbuy-settlement")


class NoOlderVersion(Exception):
    """This clone has no history to build an older version from; the message is one sentence."""


class VersionFailed(Exception):
    """A wheel could not be built or installed; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Version:
    """One installed version."""

    name: str
    #: The environment with its wheels.
    environment: Path
    #: Variables of its processes, in addition to those of the stack that it knows.
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.environment / "bin" / "python"

    def ops(self, *arguments: str, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Runs its command line."""
        return self._run("ops.main", *arguments, timeout_s=timeout_s)

    def settings(self, module: str) -> frozenset[str]:
        """The variables that a process of this version reads. Raises VersionFailed."""
        done = self._run(module, "--help", timeout_s=60.0)
        found = frozenset(re.findall(r"\bGROUPBUY_[A-Z0-9_]+", done.stdout))
        if done.returncode or not found:
            raise VersionFailed(f"{module} --help of {self.name} ended with {done.returncode}: {done.stderr[-1000:]}")
        return found

    def _run(self, module: str, *arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        command = (str(self.python), "-P", "-m", "groupbuy_settlement", module, *arguments)
        return subprocess.run(
            command,
            cwd=self.environment,
            env={**os.environ, **OWN_IMPORTS},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )


def older_commit(given: str = "") -> str:
    """The commit of the older version: the given one, else the newest tag of a release before HEAD, else OLDER.

    Raises NoOlderVersion.
    """
    tagged = _git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD~1")
    name = given or (tagged.stdout.strip() if not tagged.returncode else OLDER)
    found = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if found.returncode:
        raise NoOlderVersion(f"this clone has no commit {name[:12]} to build the older version from (a shallow clone?)")
    return found.stdout.strip()


def install_commit(commit: str, into: Path) -> Version:
    """Builds and installs the wheels of a commit. Raises VersionFailed."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    source = into / "source"
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(source, filter="data")
    return _install(commit[:8], source, into)


def install_tree(into: Path, name: str = "this tree") -> Version:
    """Builds and installs the wheels of this tree. Raises VersionFailed."""
    return _install(name, ROOT, into)


def altered(version: Version, into: Path, module: str, before: str, after: str) -> Version:
    """A copy of a version with one text of a module of the runtime replaced. Raises VersionFailed."""
    environment = into / "environment"
    shutil.copytree(version.environment, environment, symlinks=True)
    (file,) = environment.glob(f"lib/python3.*/site-packages/groupbuy_settlement/_runtime/{module}")
    text = file.read_text(encoding="utf-8")
    if text.count(before) != 1:
        raise VersionFailed(f"{module} does not have {before!r} once")
    file.write_text(text.replace(before, after), encoding="utf-8")
    return Version(f"{version.name} with another rule", environment)


def _install(name: str, source: Path, into: Path) -> Version:
    wheels = into / "wheels"
    for distribution in INSTALLED:
        _run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)],
            source / FOLDERS[distribution],
        )
    environment = into / "environment"
    uv = str(Path(sys.executable).with_name("uv"))
    _run([uv, "venv", "--quiet", "--python", sys.executable, str(environment)], into)
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(environment / "bin" / "python")]
    _run([*install, "--require-hashes", "-r", str(source / "requirements.lock")], into)
    _run([*install, *map(str, sorted(wheels.glob("*.whl")))], into)
    return Version(name, environment)


def _run(command: list[str], cwd: Path) -> None:
    cwd.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise VersionFailed(
            f"{' '.join(command[:5])} ended with {done.returncode}:\n{(done.stderr or done.stdout)[-2000:]}"
        )


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
