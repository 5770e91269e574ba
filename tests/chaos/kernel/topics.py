"""The topics of one run of the kernel's chaos test."""

from __future__ import annotations

from eventlog.records.topic_spec import FOR_EVER, TopicSpec


def group_of(tag: str) -> str:
    """The consumer group of the workers."""
    return f"groupbuy.chaos.{tag}"


def topics(tag: str) -> tuple[TopicSpec, TopicSpec]:
    """The inbox and the decision log."""
    inbox = TopicSpec(f"chaos.inbox.{tag}", None, "key", "chaos", (group_of(tag),), FOR_EVER)
    return inbox, TopicSpec(f"chaos.log.{tag}", None, "key", "chaos", (), FOR_EVER)
