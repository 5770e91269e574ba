"""docs/asyncapi.yaml: generated from the list of topics, and valid by the official schema of AsyncAPI 3.0."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from ops.broker.topics import PARTITIONS
from ops.errors import OK
from ops.export.asyncapi_document import asyncapi_document
from ops.main import main
from shared_kernel.topics import ALL
from tests.unit.deploy.external_tools import ROOT, module, npm

TEXT = asyncapi_document(ALL, PARTITIONS, 3, "../protos")
PATH = ROOT / "docs" / "asyncapi.yaml"


def parsed() -> Any:
    return module("yaml").safe_load(TEXT)


def problems(document: Any) -> list[str]:
    schema = json.loads((npm() / "@asyncapi" / "specs" / "schemas" / "3.0.0-without-$id.json").read_text())
    # Draft 7, as the schema says.
    return [error.message for error in module("jsonschema").Draft7Validator(schema).iter_errors(document)]


def test_the_committed_document_is_the_generated_one(tmp_path: Path) -> None:
    assert PATH.read_text(encoding="utf-8") == TEXT, "run `make docs`"
    assert main(["export", "asyncapi", "--out", str(tmp_path)]) == OK
    assert (tmp_path / "asyncapi.yaml").read_text(encoding="utf-8") == TEXT


def test_the_document_is_valid_and_the_schema_finds_a_wrong_one() -> None:
    document = parsed()
    assert problems(document) == []
    broken = deepcopy(document)
    next(iter(broken["operations"].values()))["action"] = "sned"
    assert problems(broken)
    broken = deepcopy(document)
    del broken["info"]["title"]
    assert problems(broken)


def test_every_topic_writer_and_reader_is_there() -> None:
    document = parsed()
    channels = {one["address"]: one for one in document["channels"].values()}
    assert list(channels) == [topic.name for topic in ALL]
    expected = set()
    for topic in ALL:
        kafka = channels[topic.name]["bindings"]["kafka"]
        assert (kafka["partitions"], kafka["replicas"]) == (PARTITIONS, 3)
        assert kafka["topicConfiguration"]["retention.ms"] == int(topic.config()["retention.ms"])
        expected |= {f"{topic.writer}.writes.{topic.name}"}
        expected |= {f"{reader}.reads.{topic.name}" for reader in topic.readers}
        expected |= {f"{service}.follows.{topic.name}" for service in topic.followers}
    assert set(document["operations"]) == expected


def test_every_reference_leads_somewhere() -> None:
    document = parsed()
    found = list(references(document))
    assert len(found) > 60
    for one in found:
        if one.startswith("#/"):
            target: Any = document
            for name in one.removeprefix("#/").split("/"):
                target = target[name]
        else:
            assert (PATH.parent / one).is_file(), one


def references(value: Any) -> Any:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@pytest.mark.parametrize("topic", [topic for topic in ALL if topic.message is not None], ids=lambda topic: topic.name)
def test_the_payload_is_the_proto_file_with_the_message(topic: Any) -> None:
    message = parsed()["components"]["messages"][topic.message.DESCRIPTOR.name]
    assert message["name"] == topic.type_name
    text = (PATH.parent / message["payload"]["schema"]["$ref"]).read_text(encoding="utf-8")
    assert f"message {topic.message.DESCRIPTOR.name} {{" in text
