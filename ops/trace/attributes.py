"""Names of span attributes. The messaging names are those of OpenTelemetry's semantic conventions 1.38, which are not
stable yet; no other module spells them."""

from __future__ import annotations

SYSTEM = "messaging.system"
TOPIC = "messaging.destination.name"
PARTITION = "messaging.destination.partition.id"
OFFSET = "messaging.kafka.offset"
KAFKA = "kafka"

GROUP = "groupbuy.group"
ORDER = "groupbuy.order"
#: Version of a decision.
VERSION = "groupbuy.version"
#: Kinds of a decision's events, separated by commas.
EVENTS = "groupbuy.events"
#: `timer` if a timer caused a decision.
TRIGGER = "groupbuy.trigger"
OPERATION = "groupbuy.operation"
ATTEMPT = "groupbuy.attempt"
RESULT = "groupbuy.result"
#: Requests of one provider call, with retries and look-ups.
REQUESTS = "groupbuy.requests"
#: `missing` if the log no longer has the cause of a step.
CAUSE = "groupbuy.cause"
