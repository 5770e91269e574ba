"""A command takes the broker's address from option, environment or stack; a missing one is reported in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.where import broker, provider


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA", raising=False)
    monkeypatch.delenv("PROVIDER", raising=False)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.json"
    path.write_text(json.dumps({"kafka": "127.0.0.1:3", "endpoints": {"provider": "127.0.0.1:4"}}))
    return path


def test_the_option_precedes_the_environment_which_precedes_the_stack(
    stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert broker(None, stack) == "127.0.0.1:3"
    assert provider(None, stack) == "127.0.0.1:4"
    monkeypatch.setenv("KAFKA", "127.0.0.1:2")
    assert broker(None, stack) == "127.0.0.1:2"
    assert broker("127.0.0.1:1", stack) == "127.0.0.1:1"


def test_a_missing_address_is_reported_with_the_way_out(tmp_path: Path) -> None:
    for find in (broker, provider):
        with pytest.raises(OpsError, match="make up") as caught:
            find(None, tmp_path / "none.json")
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_an_invalid_stack_file_is_reported(content: str, tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    path.write_text(content)
    with pytest.raises(OpsError, match=r"stack\.json can't be used"):
        broker(None, path)


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":9092", "localhost:99999", "a:1,b"])
def test_an_invalid_address_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="--kafka takes host:port"):
        broker(address, tmp_path / "none.json")
