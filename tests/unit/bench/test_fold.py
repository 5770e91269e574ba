"""bench-fold: the comparison with another checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.command import ROOT
from bench.fold import __main__ as fold


def test_both_checkouts_run_in_each_turn_with_logs_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rates = iter([200.0, 100.0, 90.0, 100.0, 300.0, 200.0])
    started: list[tuple[Path, str]] = []
    created: list[str] = []

    def worker(mode: str, bootstrap: str, count: int, *, again: str, root: Path) -> dict[str, float]:
        started.append((root, again))
        return {"per_s": next(rates)}

    async def again(bootstrap: str, name: str) -> None:
        created.append(name)

    monkeypatch.setattr(fold, "_worker", worker)
    monkeypatch.setattr(fold, "_again", again)
    assert fold.compare("broker:1", tmp_path, facts=10, turns=3) == 1.5
    assert [root for root, _ in started] == [ROOT, tmp_path] * 3
    assert created == [name for _, name in started]
    assert len(set(created)) == 6


def test_a_worker_of_another_checkout_imports_its_own_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(options)
        figures = '{"per_s": 1, "cpu_us_per_fact": 1, "peak_rss_mb": 1}\n'
        return subprocess.CompletedProcess(command, 0, stdout=figures)

    monkeypatch.setattr(subprocess, "run", run)
    fold._worker("ours", "broker:1", 10, again="before0", root=tmp_path)
    assert calls[0]["cwd"] == tmp_path
    assert calls[0]["env"]["BENCH_AGAIN"] == "before0"
    assert calls[0]["env"]["PYTHONPATH"].split(os.pathsep) == [str(tmp_path), str(tmp_path / "gen")]
    fold._worker("ours", "broker:1", 10)
    assert calls[1]["cwd"] == ROOT
    assert calls[1]["env"].get("PYTHONPATH") == os.environ.get("PYTHONPATH")
