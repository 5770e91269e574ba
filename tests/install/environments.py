"""Resolves requirements with uv, and makes environments of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.process.groupbuy_testing.foreign_project import Environment
from tools.distributions import FOLDERS, project
from tools.sbom import normalized

UV = Path(sys.executable).with_name("uv")


class Unresolvable(Exception):
    """No versions satisfy the requirements; the message is uv's."""


def interpreter(version: str) -> str:
    """A Python of this version: of the path, of pyenv, or one that uv downloads. Raises FileNotFoundError."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    of_pyenv = sorted(root.glob(f"versions/{version}.*/bin"))
    path = os.pathsep.join([*map(str, of_pyenv), os.environ.get("PATH", "")])
    for command in (("find",), ("install",), ("find",)):
        done = _uv("python", *command, version, PATH=path)
        if command == ("find",) and not done.returncode:
            return done.stdout.strip()
    raise FileNotFoundError(f"Python {version} is neither installed nor can it be downloaded: {done.stderr.strip()}")


def resolve(requirements: Iterable[str], wheels: Path, python: str, *options: str) -> dict[str, str]:
    """The version of each distribution that satisfies the requirements. `wheels` has ours. Raises Unresolvable."""
    done = _uv(
        *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--find-links", str(wheels)),
        *("--python-version", python, *options, "-"),
        stdin="\n".join(requirements),
    )
    if done.returncode:
        raise Unresolvable(done.stderr)
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", done.stdout, re.MULTILINE))


def lower_bounds() -> list[str]:
    """The direct dependencies of all distributions, for `--resolution lowest-direct`, and the distributions."""
    return [*FOLDERS, *(one for name in FOLDERS for one in project(name)["dependencies"])]


def create(into: Path, python: str, pins: dict[str, str], wheels: Path) -> Environment:
    """An environment with exactly these distributions."""
    made = _uv("venv", "--quiet", "--python", interpreter(python), str(into))
    assert made.returncode == 0, made.stderr
    environment = Environment(into / "bin")
    install = ("pip", "install", "--quiet", "--no-deps", "--find-links", str(wheels), "--python", environment.python)
    done = _uv(*install, *(f"{name}=={version}" for name, version in pins.items()))
    assert done.returncode == 0, done.stderr
    return environment


def download(into: Path, pins: dict[str, str], wheels: Path) -> dict[str, int]:
    """Bytes of the wheel of each distribution, for the Python and the platform that run the tests."""
    into.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", str(into)]
    requirements = [f"{name}=={version}" for name, version in pins.items()]
    subprocess.run([*command, "--find-links", str(wheels), *requirements], check=True)
    return {normalized(file.name.split("-")[0]): file.stat().st_size for file in into.glob("*.whl")}


def size(environment: Environment) -> dict[str, int]:
    """Bytes on disk of each distribution in an environment, without byte code."""
    script = (
        "import json; from importlib.metadata import distributions; "
        "print(json.dumps({d.name: sum(d.locate_file(f).stat().st_size for f in d.files or () if f.suffix != '.pyc')"
        " for d in distributions()}))"
    )
    done = environment.run(environment.python, "-I", "-c", script, cwd=environment.bin)
    assert done.returncode == 0, done.stderr
    return {normalized(name): number for name, number in json.loads(done.stdout).items()}


def _uv(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = (str(UV), *arguments)
    # A lock or an index of the caller's own environment stays; VIRTUAL_ENV would choose another Python.
    clean = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return subprocess.run(
        command, input=stdin, env={**clean, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
