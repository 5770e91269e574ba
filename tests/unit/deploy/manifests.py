"""Builds the manifests of deploy/k8s and finds documents in them."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.unit.deploy.external_tools import kustomize, module

K8S = Path(__file__).parents[3] / "deploy" / "k8s"
COMPONENTS = sorted(one.name for one in (K8S / "components").iterdir())
Document = dict[str, Any]


def build(folder: Path) -> str:
    done = subprocess.run([*kustomize(), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def documents(text: str) -> list[Document]:
    yaml = module("yaml")
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


@cache
def of(name: str) -> list[Document]:
    """The documents of an overlay, or of the base."""
    return documents(build(K8S / name))


def one_of(found: Sequence[Document], kind: str, name: str) -> Document:
    (one,) = [one for one in found if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return one


def combined(place: Path, components: Sequence[str]) -> str:
    """The output for the base with some components."""
    folder = place / ("-".join(components) or "none")
    folder.mkdir()
    path = os.path.relpath(K8S, folder)
    (folder / "kustomization.yaml").write_text(
        json.dumps(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "namespace": "groupbuy",
                "resources": [f"{path}/base"],
                "components": [f"{path}/components/{one}" for one in components],
            }
        )
    )
    return build(folder)


@cache
def with_all_components() -> list[Document]:
    """The documents of the base with every component."""
    with tempfile.TemporaryDirectory() as place:
        return documents(combined(Path(place), COMPONENTS))


def pods(found: Sequence[Document]) -> dict[str, Document]:
    return {one["metadata"]["name"]: one["spec"]["template"] for one in found if "template" in one.get("spec", {})}
