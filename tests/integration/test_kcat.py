"""kcat reads the topics of a running stack with the generated configuration.

Its bytes decode by the descriptor set, and the headers are those of docs/asyncapi.yaml.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from ops.export.asyncapi_document import headers_of
from ops.export.tool_configs import Access, tool_configs
from shared_kernel.topics import ALL, GROUP_LOG, INVENTORY, ORDERS, OUTCOMES, REGISTRY

if TYPE_CHECKING:
    from tests.integration.shop import Shop

DESCRIPTOR_SET = Path(__file__).parents[2] / "protos" / "groupbuy.binpb"
#: Partition, offset, lengths of key and value; key and value; headers.
FORMAT = "%p %o %K %S\n%k%s\n%h\n"


class Read(NamedTuple):
    """One record as kcat prints it."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: dict[str, str]


def kcat(config: Path, topic: str, *options: str) -> bytes:
    program = shutil.which("kcat")
    if program is None:
        pytest.skip("kcat is not installed: `apt-get install kcat` has it")
    command = [program, "-F", str(config), "-C", "-q", "-e", "-o", "beginning", "-t", topic, *options]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def records(output: bytes) -> Iterator[Read]:
    while output:
        head, _, output = output.partition(b"\n")
        partition, offset, key, value = map(int, head.split())
        headers, _, rest = output[key + value + 1 :].partition(b"\n")
        pairs = dict(one.split("=", 1) for one in headers.decode().split(",") if one)
        yield Read(partition, offset, output[:key], output[key : key + value], pairs)
        output = rest


def types() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes()).file:
        pool.Add(file)
    return pool


def test_bytes_from_kcat_decode_and_have_the_documented_headers(shop: Shop, tmp_path: Path) -> None:
    campaign = shop.campaign(capacity=2, tiers=[(2, 6_900)])
    orders = shop.full_group(campaign, 2)
    shop.wait_all(orders, "SETTLED")
    config = tmp_path / "kcat.conf"
    config.write_text(tool_configs(ALL, Access(shop.stack.kafka))["kcat.conf"])
    pool, counts, placed = types(), {}, set()
    # Other tests wrote forged records to the same broker, under keys of their own.
    ours = {campaign.rsplit("/", 1)[1].encode(), orders[0].group.rsplit("/", 1)[1].encode()}
    for topic in ALL:
        read = records(kcat(config, topic.name, "-f", FORMAT))
        found = [one for one in read if topic is REGISTRY or one.key in ours]
        counts[topic.name] = len(found)
        for one in found:
            documented = headers_of(topic)
            assert documented.keys() <= one.headers.keys(), (topic.name, one.headers)
            assert bool(documented) == bool(one.headers), topic.name
            assert all(one.headers[name] == value for name, value in documented.items() if value)
            assert one.key
            if topic.message is not None:
                made: Any = GetMessageClass(pool.FindMessageTypeByName(topic.type_name))
                message = made.FromString(one.value)
                assert message.SerializeToString(deterministic=True)
                # A field that the descriptor set lacks would be unknown.
                assert message.SerializeToString() == topic.message.FromString(one.value).SerializeToString()
                placed |= {message.order} if topic is ORDERS else set()
    # Nothing is dead-lettered, the inventory service does not run here, and outcomes are not written.
    empty = {topic.name for topic in ALL if topic.message is None} | {topic.name for topic in (*INVENTORY, OUTCOMES)}
    assert {name for name, count in counts.items() if not count} == empty
    assert placed == {order.name.rsplit("/", 1)[1] for order in orders}


def test_buf_prints_a_record_of_kcat_as_json(shop: Shop, tmp_path: Path) -> None:
    campaign = shop.campaign(capacity=2, tiers=[(2, 6_900)])
    shop.wait_all(shop.full_group(campaign, 2), "SETTLED")
    config = tmp_path / "kcat.conf"
    config.write_text(tool_configs(ALL, Access(shop.stack.kafka))["kcat.conf"])
    value = next(records(kcat(config, GROUP_LOG.name, "-f", FORMAT))).value
    buf = Path(sys.executable).with_name("buf")
    command = [str(buf), "convert", str(DESCRIPTOR_SET), "--type", GROUP_LOG.type_name, "--from", "-#format=binpb"]
    done = subprocess.run(command, input=value, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == "1"
