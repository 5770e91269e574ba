"""The operator of a command, as the log's registry records it."""

from __future__ import annotations

import getpass
import os
import socket


def who() -> str:
    """The Kafka user, else account and machine."""
    user = os.environ.get("GROUPBUY_OPS_KAFKA_USER")
    if user:
        return user
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # In a container the user may have no name.
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
