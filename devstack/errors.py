"""What can go wrong when a broker or a stack is started, each with the exit code that a command line ends with.

Every message is a sentence that says what to do next; a log's tail may follow it.
"""

from __future__ import annotations


class DeployError(Exception):
    """Base of all. `exit_code` is for mains: 1 something failed, 2 something is missing or asked for wrongly."""

    exit_code = 1


class MissingTool(DeployError):
    """Java or Maven is not there, or too old. The message says what to install."""

    exit_code = 2


class AlreadyRunning(DeployError):
    """A live stack holds this run directory."""

    exit_code = 2


class BadAddress(DeployError):
    """KAFKA, or an argument in its place, is no list of host:port."""

    exit_code = 2


class BrokerFailed(DeployError):
    """The broker ended, or never answered."""


class StackFailed(DeployError):
    """A process of the stack ended in a way that a restart does not mend, or did not come up in time."""


class Cancelled(DeployError):
    """Somebody asked to stop while something was being started."""

    exit_code = 130
