"""Topics of one run of the kernel's chaos test."""

from __future__ import annotations

from eventlog.topics import FOR_EVER, TopicSpec


def topics(tag: str) -> tuple[TopicSpec, TopicSpec]:
    """(inbox, decision log)"""
    inbox = TopicSpec(f"chaos.inbox.{tag}", None, "key", "chaos", (f"groupbuy.chaos.{tag}",), FOR_EVER)
    return inbox, TopicSpec(f"chaos.log.{tag}", None, "key", "chaos", (), FOR_EVER)
