"""ACLs follow from the topics. The integration tests check them against a broker."""

from __future__ import annotations

import pytest

from eventlog.admin.acls import OPS, PROVISIONER, REDRIVER, Grant, Operation, Resource, grants, kafka_acls_commands
from eventlog.records.topic_spec import TopicSpec, sources_of_dead_letters
from shared_kernel.topics import (
    ALL,
    ALLOWANCE_LOG,
    CAMPAIGNS,
    GROUP_LOG,
    GROUP_PREFIX,
    ORDERS,
    PAYMENT_LOG,
    REGISTRY,
    STOCK_LOG,
)

GRANTS = grants(ALL, GROUP_PREFIX)
SERVICES = {"orders", "groups", "payments", "inventory"}


def principals(operation: Operation, topic: str) -> set[str]:
    return {
        one.principal for one in GRANTS if (one.operation, one.resource, one.name) == (operation, Resource.TOPIC, topic)
    }


def added_by(*, redrive: bool = False, provision: bool = False) -> set[Grant]:
    return set(grants(ALL, GROUP_PREFIX, redrive=redrive, provision=provision)) - set(GRANTS)


@pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
def test_a_topic_has_one_writer(topic: TopicSpec) -> None:
    assert principals(Operation.WRITE, topic.name) == {topic.writer}


def test_the_specified_readers_the_writer_and_the_command_line_may_read_a_topic() -> None:
    assert principals(Operation.READ, GROUP_LOG.name) == {"groups", "payments", "orders", "inventory", OPS}
    assert principals(Operation.READ, CAMPAIGNS.name) == {"groups", "orders", OPS}
    assert principals(Operation.READ, "groups.inbox.v1") == {"groups", OPS}
    assert principals(Operation.READ, "groups.group.v1.orders.dlq") == {OPS}


def test_a_service_may_join_only_its_own_consumer_groups() -> None:
    groups = {one for one in GRANTS if one.resource is Resource.GROUP and one.principal in SERVICES}
    assert groups == {
        Grant(name, Resource.GROUP, f"groupbuy.{name}.", Operation.READ, prefixed=True) for name in SERVICES
    }


def test_no_principal_may_delete_or_alter_and_topics_are_granted_by_their_full_name() -> None:
    every = grants(ALL, GROUP_PREFIX, redrive=True, provision=True)
    assert {one.operation for one in every} == set(Operation)
    on_cluster = {one.operation for one in every if one.resource is Resource.CLUSTER}
    assert on_cluster == {Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS}
    assert {one.principal for one in every if one.operation is Operation.CREATE} == {PROVISIONER}
    assert not any(one.prefixed for one in every if one.resource is Resource.TOPIC)


def test_the_command_line_can_not_join_a_group_or_commit_offsets() -> None:
    assert [one for one in GRANTS if one.principal == OPS and one.resource is Resource.GROUP] == [
        Grant(OPS, Resource.GROUP, "groupbuy.", Operation.DESCRIBE, prefixed=True)
    ]


def test_only_the_provisioner_may_commit_offsets_of_all_groups_and_only_on_request() -> None:
    assert not any(one.principal == PROVISIONER for one in GRANTS)
    added = added_by(provision=True)
    assert {one.principal for one in added} == {PROVISIONER}
    assert Grant(PROVISIONER, Resource.GROUP, "groupbuy.", Operation.READ, prefixed=True) in added
    assert {one.name for one in added if one.operation is Operation.WRITE} == {REGISTRY.name}


def test_the_redriver_may_write_topics_with_dead_letters_but_no_inbox() -> None:
    assert {one.name for one in GRANTS if one.principal == OPS and one.operation is Operation.WRITE} == {REGISTRY.name}
    assert principals(Operation.READ, REGISTRY.name) == SERVICES | {OPS}
    assert not any(one.principal == REDRIVER for one in GRANTS)
    added = added_by(redrive=True)
    assert {one.principal for one in added} == {REDRIVER}
    written = {one.name for one in added if one.operation is Operation.WRITE}
    logs = (ORDERS, GROUP_LOG, PAYMENT_LOG, STOCK_LOG, ALLOWANCE_LOG, REGISTRY)
    assert written == {one.name for one in logs}
    assert not any(one.resource is Resource.GROUP for one in added)


def test_a_dead_letter_topic_is_named_after_its_source() -> None:
    sources = sources_of_dead_letters(ALL)
    assert set(sources) == {topic.name for topic in ALL if topic.message is None}
    assert all(name.startswith(f"{topic.name}.") for name, topic in sources.items())


def test_the_commands_of_kafka_acls_grant_the_same() -> None:
    commands = kafka_acls_commands(GRANTS)
    assert (
        "kafka-acls.sh --add --allow-principal User:payments --operation Read "
        "--group groupbuy.payments. --resource-pattern-type prefixed" in commands
    )
    on_cluster = "--operation Describe --operation DescribeConfigs --cluster"
    assert f"kafka-acls.sh --add --allow-principal User:ops {on_cluster}" in commands
    assert sum(line.count("--operation") for line in commands) == len(GRANTS)


def test_a_topic_name_contains_the_service_that_writes_it() -> None:
    for topic in ALL:
        if topic is REGISTRY:
            continue
        owner = topic.name.split(".")[0] if topic.message is not None else topic.name.split(".")[-2]
        assert topic.writer == owner
