"""ACLs of the broker, derived from the topics: a topic's one writer may write it, and its readers may read it.

A principal has the name of its service. The broker's authorizer denies everything that is not granted here.
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
    """Kinds of resources, with their numbers in Kafka's protocol."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4


class Operation(IntEnum):
    """Operations, with their numbers in Kafka's protocol. READ and WRITE imply DESCRIBE."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10


class Grant(NamedTuple):
    """Permission for one principal to perform one operation on a resource, from any host."""

    principal: str
    resource: Resource
    name: str
    operation: Operation
    #: Whether the grant covers all names that begin with `name`.
    prefixed: bool = False

    def __str__(self) -> str:
        star = "*" if self.prefixed else ""
        return f"{self.principal}: {self.operation.name} on {self.resource.name.lower()} {self.name}{star}"


#: The command line. It reads every topic and writes the registry, where it records its acts. It can't join a consumer
#: group or commit an offset: with those rights it could fence a service or make it skip records.
OPS = "ops"
#: Creates topics, and commits first and recovered offsets. Its rights are granted only while such a command runs.
PROVISIONER = "provision"
#: Writes dead letters back to their source topics. Its rights are granted only while such a command runs.
REDRIVER = "redrive"
#: Other systems. They read the public topics, in consumer groups whose names begin with this one's and a dot.
READER = "reader"
_CLUSTER = "kafka-cluster"
_ANY, _ALLOW, _MATCH_ANY, _LITERAL, _PREFIXED = 1, 3, 1, 3, 4


def grants(
    topics: Sequence[TopicSpec], group_prefix: str, *, redrive: bool = False, provision: bool = False
) -> list[Grant]:
    """All grants, sorted. `redrive` and `provision` add those of these two principals.

    Consumer groups are named `<group_prefix><service>.<processor>`.
    """
    found: set[Grant] = set()
    services = {topic.writer for topic in topics} | {service_of(one) for topic in topics for one in topic.readers}
    services.discard(OPS)
    for topic in topics:
        found.add(_topic(topic.writer, topic, Operation.WRITE))
        reading = {service_of(reader) for reader in topic.readers} | set(topic.followers)
        if topic.message is not None:
            # A decider folds its own log. No service reads dead letters.
            reading.add(topic.writer)
        found |= {_topic(service, topic, Operation.READ) for service in reading}
        # Every process compares all topics with their specifications before it starts.
        for service in services:
            found |= {_topic(service, topic, one) for one in (Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS)}
        for one in (Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS, Operation.READ):
            found.add(_topic(OPS, topic, one))
    for service in services:
        found.add(Grant(service, Resource.GROUP, f"{group_prefix}{service}.", Operation.READ, prefixed=True))
    public = [topic for topic in topics if topic.public]
    found |= {_topic(READER, topic, one) for topic in public for one in (Operation.READ, Operation.DESCRIBE)}
    if public:
        found.add(Grant(READER, Resource.GROUP, f"{READER}.", Operation.READ, prefixed=True))
    found.add(Grant(OPS, Resource.GROUP, group_prefix, Operation.DESCRIBE, prefixed=True))
    # DESCRIBE_CONFIGS: a check reads the broker's setting `offsets.retention.minutes`.
    found |= {Grant(OPS, Resource.CLUSTER, _CLUSTER, one) for one in (Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS)}
    if redrive:
        found |= _redriver_grants(topics)
    if provision:
        found |= _provisioner_grants(topics, group_prefix)
    return sorted(found)


def _redriver_grants(topics: Sequence[TopicSpec]) -> set[Grant]:
    """Reads dead letters, and reads and writes their source topics, because it copies the original record."""
    sources = sources_of_dead_letters(topics)
    found = set()
    for topic in topics:
        if topic.name in sources:
            found |= {_topic(REDRIVER, topic, one) for one in (Operation.READ, Operation.DESCRIBE)}
        elif topic in sources.values() or topic.writer == OPS:
            found |= {_topic(REDRIVER, topic, one) for one in (Operation.READ, Operation.WRITE)}
    return found


def _provisioner_grants(topics: Sequence[TopicSpec], group_prefix: str) -> set[Grant]:
    """Creates topics and joins all consumer groups. It writes only the registry."""
    found = {Grant(PROVISIONER, Resource.GROUP, group_prefix, Operation.READ, prefixed=True)}
    for topic in topics:
        for one in (Operation.CREATE, Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS, Operation.READ):
            found.add(_topic(PROVISIONER, topic, one))
        if topic.writer == OPS:
            found.add(_topic(PROVISIONER, topic, Operation.WRITE))
    return found | {Grant(PROVISIONER, Resource.CLUSTER, _CLUSTER, Operation.DESCRIBE)}


def _topic(principal: str, topic: TopicSpec, operation: Operation) -> Grant:
    return Grant(principal, Resource.TOPIC, topic.name, operation)


def kafka_acls_commands(granted: Iterable[Grant]) -> list[str]:
    """The grants as commands of kafka-acls.sh, one per principal and resource, without its connection options."""
    together: dict[tuple[str, Resource, str, bool], list[str]] = {}
    for one in granted:
        operation = "".join(word.title() for word in one.operation.name.split("_"))
        together.setdefault((one.principal, one.resource, one.name, one.prefixed), []).append(operation)
    found = []
    for (principal, resource, name, prefixed), operations in together.items():
        where = "--cluster" if resource is Resource.CLUSTER else f"--{resource.name.lower()} {name}"
        pattern = " --resource-pattern-type prefixed" if prefixed else ""
        listed = " ".join(f"--operation {one}" for one in operations)
        found.append(f"kafka-acls.sh --add --allow-principal User:{principal} {listed} {where}{pattern}")
    return found


async def read_grants(kafka: Kafka, principals: Iterable[str]) -> set[Grant]:
    """The present grants of the principals at the broker.

    Raises SecurityDisabled if the broker has no authorizer, another KafkaError if it denies the request, and
    TopicsDiffer if a principal has an ACL that Grant can't express.
    """
    ours = {f"User:{name}" for name in principals}
    every = DescribeAclsRequest_v1(_ANY, None, _MATCH_ANY, None, None, _ANY, _ANY)
    response = await _send(kafka, every)
    if response.error_code:
        raise for_code(response.error_code)(f"can't read the ACLs: {response.error_message or 'no reason given'}")
    found: set[Grant] = set()
    for kind, name, pattern, entries in response.resources:
        for principal, host, operation, permission in entries:
            if principal not in ours:
                continue
            try:
                one = Grant(principal[5:], Resource(kind), name, Operation(operation), pattern == _PREFIXED)
            except ValueError:
                raise TopicsDiffer(f"{principal} has an unexpected grant of operation {operation} on {name}") from None
            if host != "*" or permission != _ALLOW:
                raise TopicsDiffer(
                    f"{principal} has an ACL for {one.operation.name} on {name} with a host, or one that denies"
                )
            found.add(one)
    return found


async def create_grants(kafka: Kafka, granted: Sequence[Grant]) -> None:
    """Creates the ACLs of the grants. Raises KafkaError if the broker refuses one."""
    if granted:
        _check(granted, (await _send(kafka, CreateAclsRequest_v1([_row(one) for one in granted]))).creation_responses)


async def delete_grants(kafka: Kafka, granted: Sequence[Grant]) -> None:
    """Deletes the ACLs of the grants. Raises KafkaError if the broker refuses one."""
    if granted:
        _check(granted, (await _send(kafka, DeleteAclsRequest_v1([_row(one) for one in granted]))).filter_responses)


def _row(one: Grant) -> tuple[object, ...]:
    pattern = _PREFIXED if one.prefixed else _LITERAL
    return (int(one.resource), one.name, pattern, f"User:{one.principal}", "*", int(one.operation), _ALLOW)


def _check(granted: Sequence[Grant], responses: Sequence[Any]) -> None:
    for one, (code, message, *_) in zip(granted, responses, strict=True):
        if code:
            raise for_code(code)(f"{one}: {message or 'no reason given'}")


async def _send(kafka: Kafka, struct: Any) -> Any:
    """Sends a request that is already built: the client library can build one for a single grant only."""

    class Built(Request[type(struct)]):  # type: ignore[misc]
        API_KEY = struct.API_KEY

        def build(self, request_struct_class: object) -> Any:
            return struct

    connection = AIOKafkaClient(**client(kafka), client_id="eventlog.acls")
    await connection.bootstrap()
    try:
        return await connection.send(connection.get_random_node(), Built())
    finally:
        await connection.close()
