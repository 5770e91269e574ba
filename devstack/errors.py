"""Errors of starting a broker or a stack, with the exit code of the command line.

Each message says what to do next. The end of a log may follow it.
"""

from __future__ import annotations


class DevstackError(Exception):
    """Base class. `exit_code` is 1 after a failure, and 2 if something is missing or an argument is wrong."""

    exit_code = 1


class MissingTool(DevstackError):
    """Java, Maven or a directory for Kafka's jars is missing. The message says what to install or set."""

    exit_code = 2


class AlreadyRunning(DevstackError):
    """A running stack has locked the run directory."""

    exit_code = 2


class BadAddress(DevstackError):
    """KAFKA, or the argument that replaces it, is not a list of host:port."""

    exit_code = 2


class PortTaken(DevstackError):
    """A chosen port can't be used."""

    exit_code = 2


class BadDirectory(DevstackError):
    """A file or directory can't be written. The message has its path and the reason."""

    exit_code = 2


class BrokerFailed(DevstackError):
    """The broker ended or did not answer."""


class StackFailed(DevstackError):
    """A process of the stack ended in a way that a restart does not fix, or did not start in time."""


class Cancelled(DevstackError):
    """A stop was requested during the start."""

    exit_code = 130
