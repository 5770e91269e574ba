"""The arguments of `watch` and `lag`, the state directory, and when `lag` fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.errors import CANNOT_RUN, OpsError
from ops.main import main
from ops.watch.lag import PartitionLag
from ops.watch.lag_command import ok
from ops.watch.service import state_directory

#: Nothing listens there.
NOBODY = ("--kafka", "127.0.0.1:1")


@pytest.mark.parametrize(
    "args",
    [
        ("watch", "--listen", "9400"),
        ("watch", "--listen", "host:port"),
        ("watch", "--statement", "no-such-file.csv"),
        ("watch", "--statement", "paypal=127.0.0.1:1"),
        ("watch", "--workers", "0"),
        ("watch", "--once"),
        ("lag", "--group", "groupbuy.unknown"),
        ("lag",),
        ("stuck",),
    ],
)
def test_a_command_that_cannot_run_ends_with_2_and_a_sentence(
    args: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*args, *NOBODY]) == CANNOT_RUN
    said = capsys.readouterr()
    assert said.err.startswith("groupbuy-ops: ")
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_a_state_directory_has_one_watch(tmp_path: Path) -> None:
    with state_directory(tmp_path / "state", 2) as path:
        assert path.stat().st_mode & 0o777 == 0o700
        with pytest.raises(OpsError, match="another watch uses") as raised, state_directory(path, 2):
            pass
        assert raised.value.exit_code == CANNOT_RUN
    with state_directory(path, 2):
        pass


def test_the_state_of_another_number_of_workers_is_deleted(tmp_path: Path) -> None:
    for name in ("0-of-2", "1-of-2", "0-of-1", "0-of-2.set-aside"):
        (tmp_path / name).mkdir()
    with state_directory(tmp_path, 2):
        assert {one.name for one in tmp_path.glob("*-of-*")} == {"0-of-2", "1-of-2", "0-of-2.set-aside"}


@pytest.mark.parametrize(
    ("members", "records", "seconds", "owner", "works"),
    [
        (1, 0, 0.0, "", True),
        (1, 5, 3.0, "host:1", True),
        (1, 5, None, "host:1", True),
        (0, 0, 0.0, "", False),
        (1, 5, 31.0, "host:1", False),
        (1, 5, 3.0, "", False),
    ],
)
def test_lag_fails_for_a_group_that_does_not_work(
    members: int, records: int, seconds: float | None, owner: str, works: bool
) -> None:
    assert ok([PartitionLag("g", "t", 0, 1, 1 + records, records, seconds, owner)], members, 30.0) is works
