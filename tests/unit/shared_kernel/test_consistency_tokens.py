"""Consistency tokens hold an offset of the orders topic, versions of a group, or both."""

from __future__ import annotations

from base64 import b64encode

import pytest
from groupbuy.orders.v1.orders_pb2 import GetOrderRequest
from groupbuy.vendored import validate_pb2
from hypothesis import given
from hypothesis import strategies as st

from eventlog.producing.record_accumulator import Position
from shared_kernel.consistency_tokens import Token, decode, encode, of_group, of_payments
from tests.scenarios.facts import GROUP

OFFSETS = st.integers(0, 2**63 - 1)
GROUPS = st.uuids().map(str)
MOST = 2**63 - 1


def text_of(plain: str) -> str:
    return b64encode(plain.encode()).decode().rstrip("=")


@given(st.integers(0, 2**31 - 1), OFFSETS)
def test_a_token_contains_the_position_of_the_fact(partition: int, offset: int) -> None:
    token = encode(Token(partition, offset))
    assert decode(token) == Token(partition, offset)
    assert token == encode(Position(partition, offset, 0)) == text_of(f"{partition}:{offset}")


@given(st.integers(0, 2**31 - 1), OFFSETS, GROUPS, OFFSETS, OFFSETS)
def test_a_token_contains_versions_of_a_group_too(
    partition: int, offset: int, group: str, decided: int, paid: int
) -> None:
    whole = Token(partition, offset, group, decided, paid)
    assert decode(encode(whole)) == whole
    assert decode(of_group(group, decided)) == Token(group=group, group_version=decided)
    assert decode(of_payments(group, paid)) == Token(group=group, payments_version=paid)
    assert not set(encode(whole) + of_group(group, decided)) & set("+/=")


def test_the_longest_token_fits_into_a_request() -> None:
    most = GetOrderRequest.DESCRIPTOR.fields_by_name["consistency_token"].GetOptions().Extensions[validate_pb2.field]
    assert len(encode(Token(2**31 - 1, MOST, GROUP, MOST, MOST))) <= most.string.max_len


@pytest.mark.parametrize(
    "text", ["!", "a", "MTow!", "", "MTI", "LTE6MA", "OjE", "MTpx", "wrI6MQ", text_of("1:" + "9" * 20)]
)
def test_an_invalid_token_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a consistency token"):
        decode(text)


HEX = GROUP.replace("-", "")


@pytest.mark.parametrize(
    "plain",
    [
        "1:2;",
        ";1:2",
        "1:2;1:3",
        f"{HEX}:1:1;{HEX}:1:1",
        f"{GROUP}:1:1",
        f"{HEX.upper()}:1:1",
        f"{HEX}:1",
        f"{HEX}:1:-1",
    ],
)
def test_a_part_that_no_service_writes_is_refused(plain: str) -> None:
    with pytest.raises(ValueError, match="is not a consistency token"):
        decode(text_of(plain))
