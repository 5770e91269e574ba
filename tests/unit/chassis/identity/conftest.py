"""Certificates of one authority, issued once."""

from __future__ import annotations

import pytest

from devstack.certificates.ca import Authority, Issued
from tests.unit.chassis.identity.support import IDENTITIES


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def certificates(authority: Authority) -> dict[str, Issued]:
    """A certificate for each identity, by name."""
    return {name: authority.issue(name, spiffe) for name, spiffe in IDENTITIES.items()}
