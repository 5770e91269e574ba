"""Who runs a command, as it is recorded in the log's own registry."""

from __future__ import annotations

import getpass
import os
import socket


def who() -> str:
    """The user at Kafka, else the account and the machine."""
    user = os.environ.get("GROUPBUY_OPS_KAFKA_USER")
    if user:
        return user
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # A container's user without a name.
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
