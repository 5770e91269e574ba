"""The manifests of deploy/k8s: every combination of components builds and is valid.

The environment variable CRDS may name a folder with the CustomResourceDefinitions of Strimzi, cert-manager, KEDA and
the Prometheus operator as YAML; then the resources are validated against these, closed. Without it, packages from npm
have the (open) schemas of three of them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import combinations, filterfalse
from pathlib import Path
from typing import Any

import pytest

from tests.unit.deploy.custom_resources import SPECS, unknown_keys
from tests.unit.deploy.external_tools import kustomize, module, npm
from tests.unit.deploy.manifests import (
    COMPONENTS,
    K8S,
    Document,
    combined,
    documents,
    of,
    one_of,
    with_all_components,
)

pytestmark = pytest.mark.timeout(300)

VERSION = "1.36"
SCRIPT = """
const found = JSON.parse(require("fs").readFileSync(0)), bad = [];
for (const [path, kind, document] of found) {
  try { new (require(path)[kind])(document).validate(); } catch (error) { bad.push(`${kind}: ${error.message}`); }
}
console.log(JSON.stringify(bad));
"""


def kubernetes(document: Document) -> bool:
    return (document["apiVersion"], document["kind"]) not in SPECS


def check(document: Document) -> None:
    """Raises ValidationError or AssertionError."""
    if kubernetes(document):
        module("kubernetes_validate").validate(document, VERSION, strict=True)
    else:
        assert unknown_keys(document) == [], document["metadata"]["name"]


def chosen_combinations() -> list[tuple[str, ...]]:
    """Combinations of components that stand for all of them.

    A component of resources alone changes no other, so each of these is built alone and with everything. All others,
    which change what base and components have, are built in every combination, without and with all the former.
    """
    only_adds = tuple(one for one in COMPONENTS if set(_keys(one)) == {"apiVersion", "kind", "resources"})
    others = [one for one in COMPONENTS if one not in only_adds]
    changing = [few for count in range(len(others) + 1) for few in combinations(others, count)]
    return [*((one,) for one in only_adds), *changing, *(tuple(sorted((*few, *only_adds))) for few in changing)]


def _keys(component: str) -> Document:
    (document,) = documents((K8S / "components" / component / "kustomization.yaml").read_text(encoding="utf-8"))
    return document


def test_every_combination_of_components_builds_and_is_valid(tmp_path: Path) -> None:
    chosen = chosen_combinations()
    assert chosen[-1] == tuple(COMPONENTS)
    assert len(chosen) == len(set(chosen)) > 64
    kustomize(), module("yaml")
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda few: combined(tmp_path, few), chosen))
    different = {part for text in built for part in text.split("\n---\n")}
    assert len(different) > 60
    for part in different:
        (document,) = documents(part)
        check(document)
    kinds = {(one["apiVersion"], one["kind"]) for one in documents(built[-1])}
    assert kinds >= set(SPECS), "every custom resource is in the last combination"


@pytest.mark.parametrize("overlay", ["overlays/development", "overlays/production"])
def test_an_overlay_builds_and_is_valid(overlay: str) -> None:
    found = of(overlay)
    assert len(found) > 50
    for document in found:
        check(document)
        if document["kind"] != "Namespace":
            assert document["metadata"].get("namespace") == "groupbuy", document["metadata"]


@pytest.mark.parametrize("file", sorted((K8S / "temporary").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_temporary_manifest_is_valid(file: Path) -> None:
    for document in documents(file.read_text(encoding="utf-8")):
        check(document)


def test_the_checks_find_a_misspelled_key() -> None:
    document = deepcopy(one_of(of("base"), "StatefulSet", "groups"))
    document["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(module("kubernetes_validate").ValidationError):
        check(document)
    document = deepcopy(one_of(of("overlays/production"), "KafkaUser", "orders"))
    document["spec"]["authorization"]["acls"][0]["operation"] = ["Read"]
    assert unknown_keys(document) == ["spec.authorization.acls.operation"]


def test_custom_resources_are_valid_by_the_schemas_of_npm() -> None:
    packages = {
        "cert-manager.io": "@kubernetes-models/cert-manager",
        "keda.sh": "@kubernetes-models/keda",
        "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
    }
    found, modules = [], npm()
    for one in filterfalse(kubernetes, with_all_components()):
        group, version = one["apiVersion"].split("/")
        if group in packages:
            path = modules / packages[group] / group / version / f"{one['kind']}.js"
            found.append([str(path), one["kind"], one])
    assert len(found) >= 15
    broken = deepcopy(next(one for one in found if one[1] == "Certificate"))
    del broken[2]["spec"]["secretName"]
    done = subprocess.run(
        ["node", "-e", SCRIPT],
        input=json.dumps([*found, broken]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    problems = json.loads(done.stdout)
    assert len(problems) == 1, problems
    assert "secretName" in problems[0]


def test_custom_resources_are_valid_by_their_definitions() -> None:
    if not os.environ.get("CRDS"):
        pytest.skip("CRDS names no folder with the operators' CustomResourceDefinitions, which no registry has")
    schemas = dict(_definitions(Path(os.environ["CRDS"])))
    for one in filterfalse(kubernetes, with_all_components()):
        module("jsonschema").validate(one, schemas[one["apiVersion"], one["kind"]])


def _definitions(folder: Path) -> Iterator[tuple[tuple[str, str], Any]]:
    for file in folder.glob("*.yaml"):
        (definition,) = documents(file.read_text(encoding="utf-8"))
        spec = definition["spec"]
        for version in spec["versions"]:
            schema = deepcopy(version["schema"]["openAPIV3Schema"])
            _close(schema)
            schema["properties"]["metadata"] = {"type": "object"}
            yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), schema


def _close(schema: Any) -> None:
    """Forbids keys that a schema does not name, as the API server drops them."""
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for inner in schema.values():
            _close(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _close(inner)


def test_no_manifest_can_delete_the_log() -> None:
    found = of("overlays/production")
    config = one_of(found, "Kafka", "kafka")["spec"]["kafka"]["config"]
    assert config["delete.topic.enable"] is False
    assert config["auto.create.topics.enable"] is False
    assert config["offsets.retention.minutes"] >= 5 * 365 * 24 * 60
    assert [one["spec"]["storage"]["deleteClaim"] for one in found if one["kind"] == "KafkaNodePool"] == [False, False]
    assert not any("finalizers" in one["metadata"] for one in found)
    assert not [one for one in found if one["metadata"]["name"] in {"provider", "groupbuy-provider", "redrive"}]
