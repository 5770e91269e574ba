"""The ports of `make up`: fixed, chosen or free, and their variables."""

from __future__ import annotations

import pytest

from devstack import addresses
from devstack.addresses import BadPorts
from devstack.product import WITH_CONSOLE


def test_every_address_of_the_product_has_a_fixed_port_by_default() -> None:
    ports = addresses.choose()
    processes = ["kafka", "orders", "groups", "payments", "provider", "provider_http", "payments_webhooks"]
    assert list(ports) == [*processes, "orders_metrics", "groups_metrics", "payments_metrics", "console", "share"]
    assert list(ports.values()) == list(range(15_050, 15_062))
    assert {*WITH_CONSOLE.first, *WITH_CONSOLE.then, *WITH_CONSOLE.extra_addresses} == ports.keys() - {"kafka"}


def test_another_first_port_moves_all() -> None:
    assert list(addresses.choose("16050").values()) == list(range(16_050, 16_062))


def test_single_ports_replace_the_default() -> None:
    assert addresses.choose("orders=8001, kafka=9092") == {**addresses.choose(), "orders": 8001, "kafka": 9092}


def test_free_fixes_none() -> None:
    assert addresses.choose("free") == {}


@pytest.mark.parametrize(
    "text",
    ["shop=1", "orders", "orders=", "orders=x", "orders=0", "orders=70000", "0", "65530", "-1", "groups=15051", ","],
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(BadPorts):
        addresses.choose(text)


def test_variables_have_the_names_of_the_examples() -> None:
    found = addresses.variables("h:9", {"orders": "h:1", "groups-1": "h:2", "payments_webhooks": "h:3"})
    assert found == {"KAFKA_AT": "h:9", "ORDERS_AT": "h:1", "GROUPS_1_AT": "h:2", "PAYMENTS_WEBHOOKS_AT": "h:3"}
