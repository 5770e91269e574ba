"""The generated pages are what the code does, and each process prints its part of the configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_generated_pages_have_not_drifted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["services.orders", "services.groups", "services.payments", "simulators.psp"])
def test_help_of_a_process_prints_its_variables(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed = [line for line in done.stdout.splitlines() if line.startswith("GROUPBUY_")]
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    missing = [name for name in printed if name not in page and f"<SERVICE>_{name.split('_', 2)[2]}" not in page]
    assert "GROUPBUY_SIMPROVIDER_LISTEN" in printed or len(printed) > 20
    assert missing == []
