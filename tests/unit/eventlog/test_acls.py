"""Who may do what at the broker follows from the topics. Pure: the broker's own answer is in the integration tests."""

from __future__ import annotations

import pytest

from chassis.topics import ALL, BUSINESS, CAMPAIGNS, GROUP_LOG, REGISTRY
from eventlog.acls import OPS, REDRIVER, Grant, Operation, Resource, commands, grants
from eventlog.topics import TopicSpec

GRANTS = grants(ALL)
SERVICES = {"orders", "groups", "payments"}


def who(operation: Operation, topic: str) -> set[str]:
    return {
        one.principal for one in GRANTS if (one.operation, one.resource, one.name) == (operation, Resource.TOPIC, topic)
    }


@pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
def test_a_topic_has_one_writer(topic: TopicSpec) -> None:
    assert who(Operation.WRITE, topic.name) == {topic.writer}


def test_readers_are_those_of_the_registry_and_the_writer_and_the_command_line() -> None:
    assert who(Operation.READ, GROUP_LOG.name) == {"groups", "payments", "orders", OPS}
    assert who(Operation.READ, CAMPAIGNS.name) == {"groups", "orders", OPS}
    assert who(Operation.READ, "groups.inbox.v1") == {"groups", OPS}
    assert who(Operation.READ, "groups.group.v1.orders.dlq") == {OPS}


def test_a_service_works_in_its_own_consumer_groups_alone() -> None:
    groups = {one for one in GRANTS if one.resource is Resource.GROUP and one.principal in SERVICES}
    assert groups == {
        Grant(name, Resource.GROUP, f"groupbuy.{name}.", Operation.READ, prefixed=True) for name in SERVICES
    }


def test_nobody_may_delete_alter_or_act_for_the_cluster_and_topics_are_granted_by_their_whole_name() -> None:
    assert {one.operation for one in GRANTS} == set(Operation)
    on_cluster = {one.operation for one in GRANTS if one.resource is Resource.CLUSTER}
    assert on_cluster == {Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS}
    assert {one.principal for one in GRANTS if one.operation is Operation.CREATE} == {OPS}
    assert not any(one.prefixed for one in GRANTS if one.resource is Resource.TOPIC)


def test_the_command_line_writes_its_registry_alone_and_redriving_is_a_right_of_its_own() -> None:
    assert {one.name for one in GRANTS if one.principal == OPS and one.operation is Operation.WRITE} == {REGISTRY.name}
    assert who(Operation.READ, REGISTRY.name) == SERVICES | {OPS}
    assert not any(one.principal == REDRIVER for one in GRANTS)
    more = set(grants(ALL, redrive=True)) - set(GRANTS)
    assert {one.principal for one in more} == {REDRIVER}
    written = {one.name for one in more if one.operation is Operation.WRITE}
    assert written == {topic.name for topic in (*BUSINESS, REGISTRY) if topic is not CAMPAIGNS}


def test_kafkas_own_tool_is_told_the_same() -> None:
    told = commands(GRANTS)
    assert (
        "kafka-acls.sh --add --allow-principal User:payments --operation Read "
        "--group groupbuy.payments. --resource-pattern-type prefixed" in told
    )
    on_cluster = "--operation Describe --operation DescribeConfigs --cluster"
    assert f"kafka-acls.sh --add --allow-principal User:ops {on_cluster}" in told
    assert sum(line.count("--operation") for line in told) == len(GRANTS)


def test_no_topic_that_a_service_writes_begins_with_the_name_of_another() -> None:
    for topic in ALL:
        if topic is REGISTRY:
            continue
        owner = topic.name.split(".")[0] if topic.message is not None else topic.name.split(".")[-2]
        assert topic.writer == owner
