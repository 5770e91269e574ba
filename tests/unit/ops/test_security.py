"""The credentials of the command line come from the environment, and an error there is one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventlog.broker.security import Cluster, client
from ops.errors import CANNOT_RUN, OpsError
from ops.security import cluster

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GROUPBUY_")]:
        monkeypatch.delenv(name)


def test_a_local_stack_needs_no_credentials() -> None:
    assert client(cluster("127.0.0.1:9092")) == {"bootstrap_servers": "127.0.0.1:9092"}


def test_a_user_selects_sasl_over_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    monkeypatch.setenv("GROUPBUY_OPS_KAFKA_USER", "ops")
    monkeypatch.setenv("GROUPBUY_OPS_KAFKA_PASSWORD", PASSWORD)
    monkeypatch.setenv("GROUPBUY_OPS_KAFKA_CA", str(ca))
    found = cluster("broker:9093")
    assert isinstance(found, Cluster)
    assert (found.address, found.security.user, found.security.mechanism) == ("broker:9093", "ops", "SCRAM-SHA-512")
    assert PASSWORD not in repr(found)


def test_incomplete_credentials_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPBUY_OPS_KAFKA_USER", "ops")
    with pytest.raises(OpsError) as caught:
        cluster("broker:9093")
    assert caught.value.exit_code == CANNOT_RUN
    assert "GROUPBUY_OPS_KAFKA_PASSWORD and GROUPBUY_OPS_KAFKA_CA are not set" in str(caught.value)


def test_an_invalid_value_is_reported_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPBUY_OPS_KAFKA_PASSWORD", PASSWORD)
    monkeypatch.setenv("GROUPBUY_OPS_KAFKA_CA", "/nowhere/ca.pem")
    with pytest.raises(OpsError, match=r"GROUPBUY_OPS_KAFKA_CA is '/nowhere/ca\.pem'") as caught:
        cluster("broker:9093")
    assert PASSWORD not in str(caught.value)
