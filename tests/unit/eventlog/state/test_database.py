"""A database survives every kind of damage: it holds a prefix of the log, or it is set aside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventlog.records.log_position import NO_IDENTITY, LogIdentity, SourcePosition
from eventlog.state import database
from eventlog.state.database import Database, Position

STAMP = "things-1"
ROWS = 2_000
#: Rows of each write, by the position that it reaches.
WRITES = (5, 6, 7)


class Died(BaseException):
    """The process would have ended with code 70."""


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(what: str, error: BaseException | None = None, **_: object) -> None:
        raise Died(f"{what}: {error}")

    monkeypatch.setattr(database, "abort", die)
    monkeypatch.setattr(database, "set_aside_count", {})


def position(at: int) -> Position:
    return Position({"log": SourcePosition(at, bytes([at]))}, {"greatest_cause": at})


def fill(path: Path, identity: LogIdentity = NO_IDENTITY) -> None:
    """Makes three writes; the last one is only in the write-ahead log, as after SIGKILL."""
    kept = Database(path, STAMP, identity)
    for at in WRITES:
        batch = kept.batch()
        for number in range(ROWS):
            batch.put(b"a%05d" % number, at.to_bytes(1, "big") + os.urandom(60))
        kept.write(batch, position(at))
        if at != WRITES[-1]:
            kept._db.flush()
    shutil.copytree(path, path.with_name("killed"))
    kept.close()
    shutil.rmtree(path)
    path.with_name("killed").rename(path)


def use(path: Path, identity: LogIdentity = NO_IDENTITY) -> int:
    """Opens and reads the database; the process may end once. Returns the position, 0 for an empty database."""
    for _ in range(2):
        kept = Database(path, STAMP, identity)
        try:
            rows = list(kept.scan(b"a"))
        except Died:
            kept.close()
            continue
        at = kept.position.sources["log"].next_offset if not kept.position.empty else 0
        # All rows come from the write that the position names.
        assert {value[0] for _, value in rows} == ({at} if at else set())
        assert len(rows) == (ROWS if at else 0)
        kept.close()
        return at
    pytest.fail("the database was still damaged at the second start")


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _zero(data: bytes) -> bytes:
    return bytes(len(data))


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :] if data else data


def _empty(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [_empty, _cut, _zero, _flip, None], ids=["empty", "cut", "zero", "flip", "gone"])
@pytest.mark.parametrize("kind", ["CURRENT", "IDENTITY", "MANIFEST-*", "OPTIONS-*", "*.sst", "*.log", "LOCK", "*"])
def test_a_damaged_file_costs_at_most_a_refold(
    tmp_path: Path, kind: str, damage: Callable[[bytes], bytes] | None
) -> None:
    path = tmp_path / "0"
    fill(path)
    files = [one for one in path.glob(kind) if one.is_file()]
    assert files
    for file in files:
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage(file.read_bytes()))
    assert use(path) in {0, *WRITES}


@pytest.mark.parametrize("which", [0, -1])
@pytest.mark.parametrize("damage", [_empty, _cut, _zero, _flip, None], ids=["empty", "cut", "zero", "flip", "gone"])
def test_one_damaged_table_of_several_is_detected(
    tmp_path: Path, which: int, damage: Callable[[bytes], bytes] | None
) -> None:
    path = tmp_path / "0"
    fill(path)
    table = sorted(path.glob("*.sst"))[which]
    if damage is None:
        table.unlink()
    else:
        table.write_bytes(damage(table.read_bytes()))
    assert use(path) in {0, *WRITES}


def test_damage_is_set_aside_with_its_reason_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "0"
    fill(path)
    (path / "CURRENT").write_bytes(b"")
    assert use(path) == 0
    assert database.set_aside_count == {"damaged": 1}
    assert "set aside" in caplog.text
    assert (tmp_path / "0.set-aside").is_dir()


def test_only_the_last_database_set_aside_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "0"
    for _ in range(3):
        fill(path)
        (path / "CURRENT").write_bytes(b"")
        assert use(path) == 0
        shutil.rmtree(path)
    assert [one.name for one in tmp_path.iterdir()] == ["0.set-aside"]


IDENTITY = LogIdentity("cluster-a", 4, {"log": "id-1", "inbox": "id-2"})


@pytest.mark.parametrize(
    ("other", "fits"),
    [
        (IDENTITY, True),
        (LogIdentity("cluster-a", 4, {"log": "id-1", "inbox": "id-2", "new": "id-9"}), True),
        (LogIdentity("cluster-b", 4, {"log": "id-1", "inbox": "id-2"}), False),
        (LogIdentity("cluster-a", 5, {"log": "id-1", "inbox": "id-2"}), False),
        (LogIdentity("cluster-a", 4, {"log": "id-7", "inbox": "id-2"}), False),
        (LogIdentity("cluster-a", 4, {"log": "id-1", "inbox": "id-7"}), False),
        (LogIdentity("cluster-a", 4, {"log": "id-1"}), False),
        (LogIdentity("cluster-a", 4, {"other": "id-1", "inbox": "id-2"}), False),
    ],
)
def test_the_database_of_another_log_is_set_aside(tmp_path: Path, other: LogIdentity, fits: bool) -> None:
    path = tmp_path / "0"
    fill(path, IDENTITY)
    assert use(path, other) == (WRITES[-1] if fits else 0)
    assert database.set_aside_count == ({} if fits else {"another log": 1})


def test_rows_under_another_stamp_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "0"
    fill(path)
    kept = Database(path, "things-2")
    assert kept.position.empty
    assert list(kept.scan(b"a")) == []
    kept.close()
    assert database.set_aside_count == {}


def test_a_second_process_on_the_directory_is_not_damage(tmp_path: Path) -> None:
    path = tmp_path / "0"
    first = Database(path, STAMP)
    with pytest.raises(Exception, match="LOCK"):
        Database(path, STAMP)
    first.close()
    assert database.set_aside_count == {}


def test_rows_come_in_order_and_in_portions(tmp_path: Path) -> None:
    kept = Database(tmp_path / "0", STAMP)
    batch: Any = kept.batch()
    for number in range(1_000):
        batch.put(b"a%05d" % number, b"%d" % number)
    batch.put(b"b", b"other")
    kept.write(batch, position(5))
    assert [key for key, _ in kept.scan(b"a")] == [b"a%05d" % number for number in range(1_000)]
    assert [key for key, _ in kept.scan(b"a", b"a00990")] == [b"a%05d" % number for number in range(990, 1_000)]
    assert kept.keys(b"a00100", b"a", 2) == [b"a00100", b"a00101"]
    assert kept.position == position(5)
    kept.close()
