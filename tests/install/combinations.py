"""The dependencies, Pythons and platforms that the wheels are tested with.

docs/installing.md names them for users.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

PYTHONS = ("3.11", "3.12", "3.13")
#: uv's names.
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-apple-darwin")
#: The client runs on Linux with musl too. The services do not: aiokafka and Faust have no wheels for it.
CLIENT_PLATFORMS = (*PLATFORMS, "x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl")
#: Dependencies of the services that a platform builds from source. Faust needs no compiler for that.
SOURCE_ONLY: Mapping[str, frozenset[str]] = {"aarch64-manylinux_2_28": frozenset({"faust-streaming"})}
#: The same with the locked versions: the ranges permit an older cryptography, which has a wheel for Intel Macs.
LOCKED_SOURCE_ONLY: Mapping[str, frozenset[str]] = {**SOURCE_ONLY, "x86_64-apple-darwin": frozenset({"cryptography"})}

#: Oldest and newest release of each dependency that others depend on too. The first grpcio is a year old.
AXES: Mapping[str, tuple[str, ...]] = {
    "protobuf": (">=6.31.1,<7", ">=7,<8"),
    "grpcio": ("==1.76.*", ">=1.85"),
    "pytest": (">=8,<9", ">=9,<10"),
    "stripe": (">=14,<15", ">=15,<16", ">=16,<17"),
    "pydantic-settings": ("==2.10.*", ">=2.16"),
}
#: grpcio's companion packages (health checking, reflection, channelz) permit protobuf 7 from this version on, so the
#: services need it; the client does not use them.
GRPCIO_FOR_PROTOBUF_7 = "1.82"
OLD_GRPCIO_NEW_PROTOBUF = ("grpcio==1.76.*", "protobuf>=7,<8")


#: Each version of each axis alone; the resolver chooses the others.
SINGLES = [f"{name}{version}" for name, versions in AXES.items() for version in versions]
#: Every combination of the axes as requirements, without those that GRPCIO_FOR_PROTOBUF_7 excludes.
PRODUCTS = [
    requirements
    for versions in itertools.product(*AXES.values())
    if not set(OLD_GRPCIO_NEW_PROTOBUF)
    <= set(requirements := tuple(f"{name}{version}" for name, version in zip(AXES, versions, strict=True)))
]
