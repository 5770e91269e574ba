"""The wheels of this tree, built once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.distributions import build_wheels


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheels")
    build_wheels(directory)
    return directory
