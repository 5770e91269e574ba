"""The contract can't be broken by mistake, and other languages get it whole.

protos/groupbuy.binpb is the contract as it was last accepted. `make lint` compares protos/ with it, and so do these
tests with protos that were broken on purpose.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessageClass
from groupbuy.orders.v1 import orders_pb2

from protos.generate import DESCRIPTORS, PROTOS, breaking, describe

ORDERS = "groupbuy/orders/v1/orders.proto"
DECISIONS = "groupbuy/groups/v1/decisions.proto"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of protos/ to break."""
    made = tmp_path / "protos"
    shutil.copytree(PROTOS, made)
    return made


def edit(protos: Path, file: str, old: str, new: str) -> None:
    path = protos / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_contract_as_it_is_breaks_nobody_and_its_descriptor_set_has_not_drifted(tmp_path: Path) -> None:
    assert breaking() == ""
    describe(tmp_path / "fresh.binpb")
    assert (tmp_path / "fresh.binpb").read_bytes() == DESCRIPTORS.read_bytes(), "run `make proto`"


BREAKS = {
    "a field removed": (ORDERS, "  bool solo = 4;\n", "", 'field "4" with name "solo"'),
    "a field with another type": (ORDERS, "int32 quantity = 5;", "int64 quantity = 5;", "quantity"),
    "a field with another number": (
        ORDERS,
        "string consistency_token = 2;",
        "string consistency_token = 3;",
        "consistency_token",
    ),
    "a method removed": (ORDERS, "  rpc GetOrder(GetOrderRequest) returns (Order);\n", "", 'RPC "GetOrder"'),
    "an enum's value removed": (ORDERS, "  WAIT_FINAL = 3;\n", "", 'value "3" on enum "Wait"'),
    "a field of the log removed": (DECISIONS, "  int64 version = 2;\n", "", 'field "2" with name "version"'),
}


def test_what_breaks_the_contract_is_refused_and_named(copy: Path) -> None:
    for file, old, new, _ in BREAKS.values():
        edit(copy, file, old, new)
    said = breaking(copy).splitlines()
    for case, (file, _, _, named) in BREAKS.items():
        assert any(file in line and named in line for line in said), (case, said)


def test_what_is_only_added_is_let_through(copy: Path, tmp_path: Path) -> None:
    edit(copy, ORDERS, "  bool solo = 4;\n", "  bool solo = 4;\n  // A wish.\n  string wish = 99;\n")
    assert breaking(copy) == ""
    describe(tmp_path / "more.binpb", copy)
    assert breaking(PROTOS, tmp_path / "more.binpb") != "", "once accepted, it is guarded too"


def test_the_descriptor_set_is_all_that_another_language_needs() -> None:
    files = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    service = pool.FindServiceByName("groupbuy.orders.v1.OrderService")
    request = GetMessageClass(service.methods_by_name["PlaceOrder"].input_type)(customer="ann", quantity=2)
    ours = orders_pb2.PlaceOrderRequest.FromString(request.SerializeToString())
    assert (ours.customer, ours.quantity) == ("ann", 2)
    here = {str(path.relative_to(PROTOS)) for path in (PROTOS / "groupbuy").rglob("*.proto")}
    assert here <= {file.name for file in files.file}
