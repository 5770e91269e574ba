"""A domain for tests of the kernel: a counter with additions, which lapses LIFE_MS after the first one."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

LIFE_MS = 1_000


@dataclass(slots=True)
class Counter:
    total: int = 0
    opened_ms: int | None = None
    lapsed: bool = False
    seen: list[str] = field(default_factory=list)


class Counting:
    """Inputs are JSON: {"add": n, "id": s}, {"tick": ms}, {"raise": true}. Events are small dicts."""

    def initial(self, key: str) -> Counter:
        return Counter()

    def decode_input(self, value: bytes) -> dict[str, Any]:
        command = json.loads(value)
        if not {"add", "tick", "raise"} & command.keys():
            raise ValueError("unknown body")
        return dict(command)

    def decide(self, state: Counter, command: dict[str, Any], at_ms: int) -> Generator[dict[str, Any], None, None]:
        due = self.due(state)
        if due is not None and due <= at_ms:
            yield {"lapsed": due}
        if "raise" in command:
            yield {"added": 1, "id": "before the fault"}
            raise RuntimeError("planted")
        if "add" in command and not state.lapsed and command["id"] not in state.seen:
            yield {"added": command["add"], "id": command["id"]}
            if state.total >= 10:
                yield {"full": state.total}

    def evolve(self, state: Counter, event: dict[str, Any], at_ms: int) -> None:
        if state.opened_ms is None:
            state.opened_ms = at_ms
        if "added" in event:
            state.total += event["added"]
            state.seen.append(event["id"])
        state.lapsed = state.lapsed or "lapsed" in event or "full" in event

    def faulted(self, state: Counter, command: dict[str, Any], error: str) -> Generator[dict[str, Any], None, None]:
        yield {"faulted": error, "total": state.total}

    def due(self, state: Counter) -> int | None:
        return None if state.lapsed or state.opened_ms is None else state.opened_ms + LIFE_MS

    def tick(self, due_ms: int) -> bytes:
        return json.dumps({"tick": due_ms}).encode()

    def encode_decision(
        self, key: str, version: int, cause: int, time_ms: int, previous_sha256: bytes, events: list[dict[str, Any]]
    ) -> bytes:
        decision = [key, version, cause, time_ms, previous_sha256.hex(), events]
        return json.dumps(decision, sort_keys=True).encode()

    def decode_decision(self, value: bytes) -> Any:
        _key, version, cause, time_ms, previous, events = json.loads(value)
        return SimpleNamespace(
            version=version, cause=cause, time_ms=time_ms, previous_sha256=bytes.fromhex(previous), events=events
        )


def add(amount: int, id_: str) -> bytes:
    return json.dumps({"add": amount, "id": id_}).encode()


def record(offset: int, value: bytes | None, key: bytes | None = b"k", timestamp: int = 5_000) -> Any:
    return SimpleNamespace(offset=offset, value=value, key=key, timestamp=timestamp, headers=[])
