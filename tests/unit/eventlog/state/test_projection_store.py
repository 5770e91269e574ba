"""Goal: a projection's database is always the fold of a prefix of each log, and reads include all that is folded,
written or not. Method: a partition whose states list every record they saw, closed and opened again."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventlog.records.dead_letters import Undecodable
from eventlog.records.log_position import SourcePosition
from eventlog.state import projection_store
from eventlog.state.database import Database
from eventlog.state.projection_index import Index
from eventlog.state.projection_store import ProjectionStore

TOPICS = ("facts", "decisions")


class Seen:
    """Folding: every state lists the records it saw; a record `name/place` is added to the index."""

    stamp = "seen-1"

    def initial(self, key: str) -> list[str]:
        return []

    def is_decision_log(self, topic: str) -> bool:
        return False

    def fold(self, state: list[str], topic: str, record: Any, index: Index) -> None:
        text = record.value.decode()
        if text == "spoilt":
            raise Undecodable("spoilt")
        state.append(f"{topic} {record.offset}")
        name, _, place = text.partition("/")
        if place.startswith("-"):
            index.delete(name, place[1:].encode())
        elif place:
            index.put(name, place.encode(), str(record.offset).encode())

    def encode(self, state: list[str]) -> bytes:
        return json.dumps(state).encode()

    def decode(self, key: str, value: bytes) -> list[str]:
        found: list[str] = json.loads(value)
        return found


def opened(directory: Path, cached: int = 100) -> ProjectionStore[list[str]]:
    return ProjectionStore(0, Database(directory / "0", Seen.stamp), Seen(), TOPICS, cached)


async def begun(one: ProjectionStore[list[str]]) -> asyncio.Future[None]:
    """A write that has begun and not ended."""
    writing = asyncio.ensure_future(one.persist())
    async with asyncio.timeout(10):
        while not one._saving:  # noqa: ASYNC110 - nothing signals the begin of a write
            await asyncio.sleep(0)
    assert not writing.done()
    return writing


def record(offset: int, key: str = "k", value: str = "") -> Any:
    return SimpleNamespace(offset=offset, key=key.encode(), value=value.encode(), headers=[("h", b"1")])


async def test_states_and_positions_are_written_together(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.apply("facts", [record(0), record(1, "other")])
    first.apply("decisions", [record(0, value="x")])
    await first.persist()
    first.apply("facts", [record(2)])
    first.close()
    again = opened(tmp_path)
    assert again.positions == {"facts": 2, "decisions": 1}
    assert again.get("k") == ["facts 0", "decisions 0"]
    again.apply("facts", [record(one) for one in range(4)])
    assert again.get("k") == ["facts 0", "decisions 0", "facts 2", "facts 3"], (
        "records that are folded already are skipped"
    )
    assert again.get("nobody") is None
    again.close()


async def test_positions_name_the_digest_of_the_last_record(tmp_path: Path) -> None:
    one = opened(tmp_path)
    one.apply("facts", [record(0, value="a"), record(1, value="b")])
    await one.persist()
    one.close()
    kept = Database(tmp_path / "0", Seen.stamp)
    assert kept.position.sources == {"facts": SourcePosition(2, sha256(b"b").digest())}
    kept.close()


async def test_changes_while_a_write_is_encoded_are_not_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Always:
        """A time slice that has expired after each state."""

        def expired(self) -> bool:
            return True

        async def yield_to_loop(self) -> None:
            await asyncio.sleep(0)

    monkeypatch.setattr(projection_store, "TimeSlice", Always)
    one = opened(tmp_path)
    keys = [f"k{number}" for number in range(50)]
    one.apply("facts", [record(offset, key, f"ann/{key}") for offset, key in enumerate(keys)])
    writing = await begun(one)
    offset = len(keys)
    while not writing.done():
        one.apply("facts", [record(offset, keys[offset % 50], f"ann/{keys[offset % 50]}")])
        assert one.get(keys[offset % 50]) is not None
        offset += 1
        await asyncio.sleep(0)
    assert offset > len(keys) + 20
    one.close()
    again = opened(tmp_path)
    assert again.positions == {"facts": 50}
    assert {key: again.get(key) for key in keys} == {key: [f"facts {number}"] for number, key in enumerate(keys)}
    assert [value for _, value in again.index.page("ann", b"", 100)] == [
        str(keys.index(key)).encode() for key in sorted(keys)
    ]
    again.close()


async def test_memory_holds_a_bounded_number_of_states(tmp_path: Path) -> None:
    one = opened(tmp_path, cached=10)
    for offset in range(200):
        one.apply("facts", [record(offset, f"k{offset}")])
    assert one.get("k0") == ["facts 0"]
    await one.persist()
    assert len(one._cache) <= 10
    assert not one._dirty and not one._saving
    assert all(one.get(f"k{offset}") == [f"facts {offset}"] for offset in range(200))
    one.apply("facts", [record(200, "k0")])
    assert one.get("k0") == ["facts 0", "facts 200"]
    one.close()


async def test_pages_of_an_index_are_in_order_in_memory_and_on_disk(tmp_path: Path) -> None:
    one = opened(tmp_path)
    places = [f"{number:03d}" for number in range(60)]
    for offset, place in enumerate(places[::2]):
        one.apply("facts", [record(offset, value=f"ann/{place}")])
    one.apply("facts", [record(30, value="annabel/000"), record(31, value="an/000")])
    await one.persist()
    for offset, place in enumerate(places[1::2]):
        one.apply("facts", [record(40 + offset, value=f"ann/{place}")])
    one.apply("facts", [record(100, value="ann/-010"), record(101, value="ann/-011")])
    wanted = [place.encode() for place in places if place not in ("010", "011")]
    for _ in range(2):
        found: list[bytes] = []
        while page := one.index.page("ann", found[-1] if found else b"", 7):
            found += [place for place, _ in page]
        assert found == wanted
        await one.persist()
    assert one.index.page("bob", b"", 7) == []
    one.close()


async def test_the_owner_sends_the_dead_letters_of_records_that_its_standby_passed(tmp_path: Path) -> None:
    standby = opened(tmp_path)
    standby.apply("facts", [record(0, value="spoilt"), record(1), record(2, value="spoilt")])
    assert standby.refused() == []
    await standby.persist()
    standby.close()
    owner = opened(tmp_path)
    owner.enter(1)
    owner.committed["facts"] = 1
    (due,) = owner.undelivered("facts")
    assert (due.offset, due.key, due.value, due.headers) == (2, b"k", b"spoilt", [("h", b"1")])
    owner.delivered(due.row)
    await owner.persist()
    owner.close()
    last = opened(tmp_path)
    assert last.undelivered("facts") == []
    last.close()


async def test_the_next_process_sends_a_dead_letter_that_is_not_acknowledged(tmp_path: Path) -> None:
    owner = opened(tmp_path)
    owner.enter(1)
    owner.apply("facts", [record(0, value="spoilt"), record(1, value="spoilt")])
    first, second = owner.refused()
    assert owner.refused() == []
    owner.delivered(first.row)
    await owner.persist()
    owner.close()
    again = opened(tmp_path)
    again.enter(1)
    assert [one.offset for one in again.undelivered("facts")] == [second.offset]
    again.close()


async def test_a_close_waits_for_the_write_in_progress(tmp_path: Path) -> None:
    one = opened(tmp_path)
    one.apply("facts", [record(offset, f"k{offset}") for offset in range(100)])
    writing = await begun(one)
    one.close()
    await writing
    assert one.closed
    again = opened(tmp_path)
    assert again.positions == {"facts": 100}
    again.close()
