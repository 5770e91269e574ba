"""Keys of links come from the environment, and are not shown in messages or logs."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from chassis.lifecycle.settings import load
from chassis.telemetry.redaction import REDACTED, clean_text, is_secret, redact
from services.groups.settings import GroupsSettings
from services.orders.settings import OrdersSettings
from shared_kernel.share_links.share_link_settings import keys_of

HEX = "5e" * 32


def test_both_services_read_keys_and_do_not_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPBUY_GROUPS_LINK_KEYS", f"new:{HEX},old:{'00' * 32}")
    monkeypatch.setenv("GROUPBUY_GROUPS_LINK_BASE_URL", "https://shop.example/s/")
    groups = load(GroupsSettings, insecure=True)
    assert repr(keys_of(groups.link_keys)) == "Keys(new, old)"
    assert groups.link_base_url == "https://shop.example/s/"
    assert HEX not in repr(groups)
    assert not keys_of(load(OrdersSettings, insecure=True).link_keys)
    assert keys_of(load(OrdersSettings, insecure=True, link_keys=SecretStr(f"a:{HEX}")).link_keys)


def test_invalid_keys_end_the_process_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GROUPBUY_GROUPS_LINK_KEYS", f"a:{HEX}x")
    with pytest.raises(SystemExit) as caught:
        load(GroupsSettings, insecure=True)
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert "GROUPBUY_GROUPS_LINK_KEYS" in errors
    assert "kid:hex" in errors
    assert HEX not in errors


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "share_link",
        "parent_link",
        "LINK_KEYS",
        "link_key",
        "sasl_password",
        "tls_private_key",
        "next_page_token",
    ],
)
def test_fields_of_these_names_are_secret(name: str) -> None:
    assert is_secret(name)
    assert redact(None, "", {name: "x" * 20}) == {name: REDACTED}
    assert "sesame" not in clean_text(f"asked {name}='sesame' and {name}: sesame")


def test_a_private_key_is_redacted_in_any_text() -> None:
    pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEII\nAoGBAN\n-----END EC PRIVATE KEY-----"
    assert clean_text(f"before {pem} after") == f"before {REDACTED} after"
    assert clean_text(f"cut {pem[:50]}") == f"cut {REDACTED}"
    assert clean_text("-----BEGIN CERTIFICATE-----") == "-----BEGIN CERTIFICATE-----"
