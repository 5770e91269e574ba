"""Every proto of ours names its package in Go, Java and C#, and the names follow from the proto package."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from protos.generate import DESCRIPTORS, PROTOS

GO_MODULE = "github.com/groupbuy/groupbuy-settlement/gen/go"
FILES = {file.name: file for file in FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file}
OURS = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "groupbuy").rglob("*.proto"))


@pytest.mark.parametrize("name", OURS)
def test_the_options_of_each_proto_follow_from_its_package(name: str) -> None:
    file = FILES[name]
    root, area, version = file.package.split(".")
    assert Path(name).parent == Path(root, area, version)
    assert {field.name: value for field, value in file.options.ListFields()} == {
        "csharp_namespace": f"Groupbuy.{area.capitalize()}.{version.upper()}",
        "go_package": f"{GO_MODULE}/{root}/{area}/{version};{area}{version}",
        "java_multiple_files": True,
        "java_package": f"com.groupbuy.{area}.{version}",
    }


def test_all_protos_of_one_package_have_the_same_options() -> None:
    by_package: dict[str, list[FileDescriptorProto]] = {}
    for name in OURS:
        by_package.setdefault(FILES[name].package, []).append(FILES[name])
    for package, files in by_package.items():
        assert {file.options.SerializeToString(deterministic=True) for file in files} == {
            files[0].options.SerializeToString(deterministic=True)
        }, package


def test_the_contract_has_the_messages_of_error_details() -> None:
    messages = {message.name for message in FILES["google/rpc/error_details.proto"].message_type}
    assert {"ErrorInfo", "RetryInfo", "BadRequest"} <= messages
