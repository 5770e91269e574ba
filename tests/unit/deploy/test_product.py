"""What each process of the product is told."""

from __future__ import annotations

from pathlib import Path

from deploy.product import PRODUCT, Layout

LAYOUT = Layout(
    kafka="127.0.0.1:9",
    data=Path("/data"),
    endpoints={"orders": "h:1", "groups": "h:2", "payments": "h:3", "provider": "h:4"},
    link_key="0" * 64,
)


def test_a_service_is_told_broker_address_state_and_name() -> None:
    orders = PRODUCT.then["orders"](LAYOUT)
    assert orders.argv[1:] == ("-m", "services.orders")
    assert orders.environment == {
        "GROUPBUY_ORDERS_KAFKA": "127.0.0.1:9",
        "GROUPBUY_ORDERS_LISTEN": "h:1",
        "GROUPBUY_ORDERS_STATE_DIR": "/data/state/orders",
        "GROUPBUY_ORDERS_INSTANCE": "orders-0",
        "GROUPBUY_ORDERS_DRAIN_SECONDS": "3",
        "GROUPBUY_ORDERS_LINK_KEYS": f"local:{'0' * 64}",
    }


def test_both_services_that_look_at_links_have_one_key_another_each_time_and_no_one_else_has_it() -> None:
    fresh, other = (Layout(LAYOUT.kafka, LAYOUT.data, LAYOUT.endpoints) for _ in range(2))
    assert len(fresh.link_key) == 64
    assert fresh.link_key != other.link_key
    assert fresh.link_key not in repr(fresh)
    told = {name: str(PRODUCT.then[name](fresh).environment) for name in PRODUCT.then}
    assert [name for name in told if fresh.link_key in told[name]] == ["orders", "groups"]


def test_payments_alone_knows_the_provider() -> None:
    assert PRODUCT.then["payments"](LAYOUT).environment["GROUPBUY_PAYMENTS_PROVIDER"] == "h:4"
    assert "h:4" not in str(PRODUCT.then["groups"](LAYOUT).environment)
    assert PRODUCT.first["provider"](LAYOUT).environment == {
        "GROUPBUY_SIMPROVIDER_LISTEN": "h:4",
        "GROUPBUY_SIMPROVIDER_DATABASE": "/data/provider.sqlite",
    }


def test_topics_are_made_by_the_command_line_for_one_broker() -> None:
    assert PRODUCT.topics is not None
    command = " ".join(PRODUCT.topics("127.0.0.1:9", 4))
    assert command.endswith("-m ops.main topics create --kafka 127.0.0.1:9 --partitions 4 --replication 1")
