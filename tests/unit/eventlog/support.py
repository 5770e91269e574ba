"""What several tests of the kernel need."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import defaultdict
from typing import Any

from intervaltree import IntervalTree


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code that is to end its process."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def bare_consumer(cls: Any, **attributes: Any) -> Any:
    """A consumer object without a broker: only what the method under test touches."""
    made = cls.__new__(cls)
    made._acked = defaultdict(list)
    made._acked_index = defaultdict(set)
    made._gap = defaultdict(IntervalTree)
    made._committed_offset = defaultdict(lambda: None)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made
