"""The kernel's few errors. Callers meet NotReady and BrokerUnavailable; the others end the process (see crash.py)."""

from __future__ import annotations


class EventLogError(Exception):
    """Base of all errors of the kernel."""


class NotReady(EventLogError):
    """The state asked for is being recovered or belongs to another process. Ask again in a moment."""


class BrokerUnavailable(EventLogError):
    """The broker did not acknowledge in time. The record may or may not be in the log: send the same one again."""


class TopicsDiffer(EventLogError):
    """The broker's topics are not what the registry says. Create or mend them before starting."""


class Impossible(EventLogError):
    """Something that exactness rules out has happened. The process must end with code 70, not go on."""
