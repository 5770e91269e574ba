"""The command and the variables of each process of the product."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from devstack.product import PRODUCT, Layout
from services.payments.providers import registry
from services.payments.providers.unconfigured import Unconfigured
from services.payments.settings import PaymentsSettings

ENDPOINTS = {
    "orders": "h:1",
    "groups": "h:2",
    "payments": "h:3",
    "provider": "h:4",
    "provider_http": "h:5",
    "payments_webhooks": "h:6",
}
LAYOUT = Layout(kafka="127.0.0.1:9", data=Path("/data"), endpoints=ENDPOINTS, link_key="0" * 64)


@pytest.fixture
def prepared(tmp_path: Path) -> Layout:
    layout = Layout.of("127.0.0.1:9", tmp_path, ENDPOINTS)
    assert PRODUCT.prepare is not None
    PRODUCT.prepare(layout)
    return layout


def test_a_service_gets_broker_address_state_directory_and_name() -> None:
    orders = PRODUCT.then["orders"](LAYOUT)
    assert orders.argv[1:] == ("-P", "-m", "groupbuy_settlement", "services.orders")
    assert orders.environment == {
        "GROUPBUY_ORDERS_KAFKA": "127.0.0.1:9",
        "GROUPBUY_ORDERS_LISTEN": "h:1",
        "GROUPBUY_ORDERS_STATE_DIR": "/data/state/orders",
        "GROUPBUY_ORDERS_INSTANCE": "orders-0",
        "GROUPBUY_ORDERS_DRAIN_SECONDS": "3",
        "GROUPBUY_ORDERS_INSECURE": "true",
        "GROUPBUY_ORDERS_LINK_KEYS": f"local:{'0' * 64}",
        "GROUPBUY_ORDERS_PROVIDERS": "simulated,stripe,wechat",
    }


def test_a_data_directory_keeps_its_secrets_so_that_old_share_links_stay_valid(tmp_path: Path) -> None:
    first, again = (Layout.of("127.0.0.1:9", tmp_path / "one", ENDPOINTS) for _ in range(2))
    other = Layout.of("127.0.0.1:9", tmp_path / "two", ENDPOINTS)
    for name in ("link_key", "notify_secret", "stripe_key"):
        assert getattr(first, name) == getattr(again, name) != getattr(other, name)
    assert stat.S_IMODE((tmp_path / "one" / "secrets.json").stat().st_mode) == 0o600


def test_only_orders_and_groups_get_the_link_key_which_is_new_for_each_stack(
    prepared: Layout,
) -> None:
    other = Layout(LAYOUT.kafka, LAYOUT.data, LAYOUT.endpoints)
    assert len(prepared.link_key) == 64
    assert prepared.link_key != other.link_key
    assert prepared.link_key not in repr(prepared)
    variables = {name: str(PRODUCT.then[name](prepared).environment) for name in PRODUCT.then}
    assert [name for name in variables if prepared.link_key in variables[name]] == ["orders", "groups"]


def test_only_payments_gets_the_addresses_of_the_provider(prepared: Layout) -> None:
    variables = PRODUCT.then["payments"](prepared).environment
    assert variables["GROUPBUY_PAYMENTS_PROVIDER"] == "h:4"
    assert (
        variables["GROUPBUY_PAYMENTS_STRIPE_API_BASE"] == variables["GROUPBUY_PAYMENTS_WECHAT_API_BASE"] == "http://h:5"
    )
    others = str([PRODUCT.then[name](prepared).environment for name in ("orders", "groups")])
    assert not [address for address in ("h:4", "h:5", "h:6") if address in others]


def test_provider_and_payments_share_the_secrets_of_calls_and_notifications(prepared: Layout) -> None:
    provider, payments = PRODUCT.first["provider"](prepared).environment, PRODUCT.then["payments"](prepared).environment
    assert (
        provider["GROUPBUY_SIMPROVIDER_NOTIFY_URL"] == f"http://{payments['GROUPBUY_PAYMENTS_WEBHOOK_LISTEN']}/webhooks"
    )
    for ours, theirs in (
        ("STRIPE_KEY", "STRIPE_KEY"),
        ("STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET"),
        ("PROVIDER_NOTIFY_SECRET", "NOTIFY_SECRET"),
    ):
        secret = payments[f"GROUPBUY_PAYMENTS_{ours}"]
        assert secret == provider[f"GROUPBUY_SIMPROVIDER_{theirs}"]
        assert secret not in repr(prepared)
    assert Path(payments["GROUPBUY_PAYMENTS_WECHAT_PRIVATE_KEY"]).parent == Path(
        provider["GROUPBUY_SIMPROVIDER_WECHAT_KEYS"]
    )


def test_the_settings_of_payments_are_valid(prepared: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PRODUCT.then["payments"](prepared).environment.items():
        monkeypatch.setenv(name, value)
    providers = registry.configured(PaymentsSettings())
    names = {method: providers.provider_for(method).name for method in ("card_a", "stripe_a", "wallet_wechat_a")}
    assert names == {"card_a": "simulated", "stripe_a": "stripe", "wallet_wechat_a": "wechat"}
    assert all(providers.health().values())
    assert not isinstance(providers.provider_for("stripe_a"), Unconfigured)
    assert not isinstance(providers.provider_for("wallet_wechat_a"), Unconfigured)


def test_the_command_line_creates_topics_with_one_replica() -> None:
    assert PRODUCT.topics is not None
    command = " ".join(PRODUCT.topics("127.0.0.1:9", 4))
    assert command.endswith(
        "-m groupbuy_settlement ops.main topics create --kafka 127.0.0.1:9 --partitions 4 --replication 1"
    )


def test_another_replica_has_its_own_name_state_directory_and_addresses(prepared: Layout) -> None:
    assert PRODUCT.replica is not None
    endpoints = {**ENDPOINTS, "payments-1": "h:7"}
    layout = Layout(kafka=prepared.kafka, data=prepared.data, endpoints=endpoints)
    first, second = PRODUCT.then["payments"](layout), PRODUCT.replica("payments", 1)(layout)
    assert (first.name, second.name) == ("payments", "payments-1")
    differ = {name for name, value in first.environment.items() if second.environment[name] != value}
    assert differ == {f"GROUPBUY_PAYMENTS_{name}" for name in ("LISTEN", "STATE_DIR", "INSTANCE", "WEBHOOK_LISTEN")}


def test_each_process_of_a_service_serves_metrics_where_the_stack_has_an_address_for_them() -> None:
    endpoints = {**ENDPOINTS, "groups_metrics": "h:8", "groups-1": "h:9", "groups-1_metrics": "h:10"}
    layout = Layout(kafka=LAYOUT.kafka, data=LAYOUT.data, endpoints=endpoints)
    assert PRODUCT.replica is not None
    first, second = PRODUCT.then["groups"](layout), PRODUCT.replica("groups", 1)(layout)
    assert first.environment["GROUPBUY_GROUPS_METRICS_LISTEN"] == "h:8"
    assert second.environment["GROUPBUY_GROUPS_METRICS_LISTEN"] == "h:10"
    assert "GROUPBUY_ORDERS_METRICS_LISTEN" not in PRODUCT.then["orders"](layout).environment
