"""The messages of fold.proto, from a descriptor set: a peer's environment has protobuf, and may have no compiler."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessages

#: Names the descriptor set in the environment of a worker.
VARIABLE = "BENCH_PEERS_MESSAGES"


def load(descriptors: Path | None = None) -> dict[str, Any]:
    """Message classes by their short names, from a file or from the one that the environment names."""
    path = descriptors or Path(os.environ[VARIABLE])
    found = GetMessages(FileDescriptorSet.FromString(path.read_bytes()).file)
    return {name.rpartition(".")[2]: kind for name, kind in found.items()}
