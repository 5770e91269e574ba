"""Who may do what at the broker, derived from the topics: one principal writes a topic, its readers read it.

A principal is named as its service. What isn't granted is refused by the broker's authorizer. A service gets on a topic
what the topic's own entry says, and no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import (
    CreateAclsRequest_v1,
    DeleteAclsRequest_v1,
    DescribeAclsRequest_v1,
)
from aiokafka.protocol.api import Request

from eventlog.broker.security import Kafka, client
from eventlog.core.errors import TopicsDiffer
from eventlog.records.topic_spec import TopicSpec, service_of, sources_of_dead_letters


class Resource(IntEnum):
    """What can be granted on; the numbers are the protocol's."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4


class Operation(IntEnum):
    """What can be granted; the numbers are the protocol's. READ and WRITE bring DESCRIBE with them."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10


class Grant(NamedTuple):
    """One principal may do one thing, from any host."""

    principal: str
    resource: Resource
    name: str
    operation: Operation
    #: Whether all names that begin with `name` are meant.
    prefixed: bool = False

    def __str__(self) -> str:
        star = "*" if self.prefixed else ""
        return f"{self.principal}: {self.operation.name} on {self.resource.name.lower()} {self.name}{star}"


#: The command line. It reads everything, and writes the log's own registry, where its acts are recorded. It can join no
#: consumer group and commit no offset: whoever can, can fence a service and make it pass over records.
OPS = "ops"
#: Makes topics, and commits first and recovered offsets. Granted only while `topics create` or `offsets recover` runs.
PROVISIONER = "provision"
#: Puts dead letters back into the topics they came from. Granted only while `dlq redrive` runs.
REDRIVER = "redrive"
#: What the name of every consumer group begins with.
GROUPS = "groupbuy."
_CLUSTER = "kafka-cluster"
_ANY, _ALLOW, _MATCH_ANY, _LITERAL, _PREFIXED = 1, 3, 1, 3, 4


def grants(topics: Sequence[TopicSpec], *, redrive: bool = False, provision: bool = False) -> list[Grant]:
    """All that is granted, in order; with `redrive` and `provision` also what these two principals need."""
    found: set[Grant] = set()
    services = {topic.writer for topic in topics} | {service_of(one) for topic in topics for one in topic.readers}
    services.discard(OPS)
    for topic in topics:
        found.add(_topic(topic.writer, topic, Operation.WRITE))
        reading = {service_of(reader) for reader in topic.readers} | set(topic.followers)
        if topic.message is not None:
            # A decider folds its own log; nobody but people reads dead letters.
            reading.add(topic.writer)
        found |= {_topic(service, topic, Operation.READ) for service in reading}
        # Every process compares all topics with the registry before it starts.
        for service in services:
            found |= {_topic(service, topic, one) for one in (Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS)}
        for one in (Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS, Operation.READ):
            found.add(_topic(OPS, topic, one))
    for service in services:
        found.add(Grant(service, Resource.GROUP, f"{GROUPS}{service}.", Operation.READ, prefixed=True))
    found.add(Grant(OPS, Resource.GROUP, GROUPS, Operation.DESCRIBE, prefixed=True))
    # DESCRIBE_CONFIGS: `topics check` asks how long the broker keeps committed offsets.
    found |= {Grant(OPS, Resource.CLUSTER, _CLUSTER, one) for one in (Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS)}
    if redrive:
        found |= _redriving(topics)
    if provision:
        found |= _provisioning(topics)
    return sorted(found)


def _redriving(topics: Sequence[TopicSpec]) -> set[Grant]:
    """It writes the topics that have dead letters, and reads in them what it puts back: never the dead letter itself,
    but the record that the dead letter is about."""
    origins = sources_of_dead_letters(topics)
    found = set()
    for topic in topics:
        if topic.name in origins:
            found |= {_topic(REDRIVER, topic, one) for one in (Operation.READ, Operation.DESCRIBE)}
        elif topic in origins.values() or topic.writer == OPS:
            found |= {_topic(REDRIVER, topic, one) for one in (Operation.READ, Operation.WRITE)}
    return found


def _provisioning(topics: Sequence[TopicSpec]) -> set[Grant]:
    """It makes topics and works in all consumer groups, and writes the log's own registry alone."""
    found = {Grant(PROVISIONER, Resource.GROUP, GROUPS, Operation.READ, prefixed=True)}
    for topic in topics:
        for one in (Operation.CREATE, Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS, Operation.READ):
            found.add(_topic(PROVISIONER, topic, one))
        if topic.writer == OPS:
            found.add(_topic(PROVISIONER, topic, Operation.WRITE))
    return found | {Grant(PROVISIONER, Resource.CLUSTER, _CLUSTER, Operation.DESCRIBE)}


def _topic(principal: str, topic: TopicSpec, operation: Operation) -> Grant:
    return Grant(principal, Resource.TOPIC, topic.name, operation)


def commands(granted: Iterable[Grant]) -> list[str]:
    """The same for Kafka's own kafka-acls.sh, without where and how to connect: one command a principal and name."""
    together: dict[tuple[str, Resource, str, bool], list[str]] = {}
    for one in granted:
        operation = "".join(word.title() for word in one.operation.name.split("_"))
        together.setdefault((one.principal, one.resource, one.name, one.prefixed), []).append(operation)
    found = []
    for (principal, resource, name, prefixed), operations in together.items():
        where = "--cluster" if resource is Resource.CLUSTER else f"--{resource.name.lower()} {name}"
        pattern = " --resource-pattern-type prefixed" if prefixed else ""
        what = " ".join(f"--operation {one}" for one in operations)
        found.append(f"kafka-acls.sh --add --allow-principal User:{principal} {what} {where}{pattern}")
    return found


async def present(kafka: Kafka, principals: Iterable[str]) -> set[Grant]:
    """What the broker grants the principals now, as far as it is of a kind that could be ours.

    Raises TopicsDiffer where the broker doesn't say: it has no authorizer, or we may not ask.
    """
    ours = {f"User:{name}" for name in principals}
    every = DescribeAclsRequest_v1(_ANY, None, _MATCH_ANY, None, None, _ANY, _ANY)
    response = await _ask(kafka, every)
    if response.error_code:
        raise TopicsDiffer(f"the broker does not say who may do what: {_why(response)}")
    found: set[Grant] = set()
    for kind, name, pattern, entries in response.resources:
        for principal, host, operation, permission in entries:
            if principal not in ours:
                continue
            try:
                one = Grant(principal[5:], Resource(kind), name, Operation(operation), pattern == _PREFIXED)
            except ValueError:
                raise TopicsDiffer(f"{principal} is granted operation {operation} on {name}: nothing of ours") from None
            if host != "*" or permission != _ALLOW:
                raise TopicsDiffer(f"{principal} is granted {one.operation.name} on {name} otherwise than by us")
            found.add(one)
    return found


async def add(kafka: Kafka, granted: Sequence[Grant]) -> None:
    """Grants. Raises TopicsDiffer where the broker does not."""
    if granted:
        _check(granted, (await _ask(kafka, CreateAclsRequest_v1([_row(one) for one in granted]))).creation_responses)


async def remove(kafka: Kafka, granted: Sequence[Grant]) -> None:
    """Takes away. Raises TopicsDiffer where the broker does not."""
    if granted:
        _check(granted, (await _ask(kafka, DeleteAclsRequest_v1([_row(one) for one in granted]))).filter_responses)


def _row(one: Grant) -> tuple[object, ...]:
    pattern = _PREFIXED if one.prefixed else _LITERAL
    return (int(one.resource), one.name, pattern, f"User:{one.principal}", "*", int(one.operation), _ALLOW)


def _check(granted: Sequence[Grant], responses: Sequence[Any]) -> None:
    for one, (code, message, *_) in zip(granted, responses, strict=True):
        if code:
            raise TopicsDiffer(f"{one}: the broker refuses: {for_code(code).__name__} {message or ''}".rstrip())


def _why(response: Any) -> str:
    return f"{for_code(response.error_code).__name__} {response.error_message or ''}".rstrip()


async def _ask(kafka: Kafka, struct: Any) -> Any:
    """Sends one request as it is: the client library builds these for one grant a time only."""

    class Ready(Request[type(struct)]):  # type: ignore[misc]
        API_KEY = struct.API_KEY

        def build(self, request_struct_class: object) -> Any:
            return struct

    connection = AIOKafkaClient(**client(kafka), client_id="groupbuy.acls")
    await connection.bootstrap()
    try:
        return await connection.send(connection.get_random_node(), Ready())
    finally:
        await connection.close()
