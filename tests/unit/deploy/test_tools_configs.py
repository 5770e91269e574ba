"""`groupbuy-ops export tools`: the committed files are its output, and each tool knows the type of every topic."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from ops.errors import OK
from ops.export.tool_configs import Access, tool_configs
from ops.main import main
from shared_kernel.topics import ALL
from tests.unit.deploy.external_tools import ROOT, module

TOOLS = ROOT / "deploy" / "tools"
PLAIN = tool_configs(ALL, Access("kafka:9092"))
SECURED = tool_configs(ALL, Access("a:9093,b:9093", "ops"))
TYPES = {topic.name: topic.type_name for topic in ALL if topic.message is not None}


def parsed(files: Mapping[str, str], name: str) -> Any:
    return module("yaml").safe_load(files[name])


@pytest.mark.parametrize("name", PLAIN)
def test_the_committed_file_is_the_generated_one(name: str) -> None:
    assert (TOOLS / name).read_text(encoding="utf-8") == PLAIN[name], "run `make docs`"


def test_the_descriptor_set_has_every_type_with_all_it_needs() -> None:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString((ROOT / "protos" / "groupbuy.binpb").read_bytes()).file:
        pool.Add(file)
    assert len(TYPES) == 13
    for name in TYPES.values():
        assert pool.FindMessageTypeByName(name).full_name == name


def test_proto_files_have_every_type() -> None:
    texts = {one: one.read_text(encoding="utf-8") for one in (ROOT / "protos" / "groupbuy").rglob("*.proto")}
    for name in TYPES.values():
        package, _, message = name.rpartition(".")
        assert any(f"package {package};" in text and f"message {message} {{" in text for text in texts.values()), name


@pytest.mark.parametrize("files", [PLAIN, SECURED], ids=["plain", "secured"])
def test_each_tool_knows_the_type_of_each_topic(files: Mapping[str, str]) -> None:
    protobuf = parsed(files, "akhq.yaml")["akhq"]["connections"]["groupbuy"]["deserialization"]["protobuf"]
    mapping = protobuf["topics-mapping"]
    for topic in ALL:
        found = [one["value-message-type"] for one in mapping if re.match(one["topic-regex"], topic.name)]
        assert found == ([topic.type_name] if topic.message is not None else [])
    (cluster,) = parsed(files, "kafka-ui.yaml")["kafka"]["clusters"]
    assert cluster["serde"][0]["properties"]["protobufMessageNameByTopic"] == TYPES
    assert cluster["readOnly"] is True
    console = parsed(files, "redpanda-console.yaml")["serde"]["protobuf"]["mappings"]
    assert {one["topicName"]: one["valueProtoType"] for one in console} == TYPES
    kaf = parsed(files, "kaf.yaml")
    # All keys of kaf's configuration; it ignores others.
    assert kaf.keys() == {"current-cluster", "clusters"}
    assert kaf["current-cluster"] == kaf["clusters"][0]["name"]
    kafkactl = parsed(files, "kafkactl.yaml")
    assert kafkactl["contexts"][kafkactl["current-context"]]["protobuf"]["protosetFiles"] == ["/protos/groupbuy.binpb"]
    for name, message in TYPES.items():
        assert f"consume {name} --value-proto-type {message} " in files["kafkactl.yaml"]
        assert f"#   {name}: {message}\n" in files["kcat.conf"]
        assert f"kaf consume {name} --proto-include /protos --proto-type {message}\n" in files["kaf.yaml"]


def test_credentials_stand_in_the_secured_files_without_a_password() -> None:
    kcat = dict(line.split("=", 1) for line in SECURED["kcat.conf"].splitlines() if not line.startswith("#"))
    assert kcat == {
        "bootstrap.servers": "a:9093,b:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "ops",
        "ssl.ca.location": "/tls/ca.crt",
    }
    java = parsed(SECURED, "akhq.yaml")["akhq"]["connections"]["groupbuy"]["properties"]
    assert java["sasl.jaas.config"].endswith('username="ops" password="${KAFKA_PASSWORD}";')
    assert parsed(SECURED, "kafka-ui.yaml")["kafka"]["clusters"][0]["properties"].items() <= java.items()
    assert parsed(SECURED, "redpanda-console.yaml")["kafka"]["sasl"]["username"] == "ops"
    assert parsed(SECURED, "kaf.yaml")["clusters"][0]["SASL"]["password"] == ""
    assert parsed(SECURED, "kafkactl.yaml")["contexts"]["groupbuy"]["brokers"] == ["a:9093", "b:9093"]


def test_the_command_writes_the_files(tmp_path: Path) -> None:
    assert main(["export", "tools", "--brokers", "a:9093,b:9093", "--user", "ops", "--out", str(tmp_path)]) == OK
    assert {one.name: one.read_text(encoding="utf-8") for one in tmp_path.iterdir()} == SECURED
