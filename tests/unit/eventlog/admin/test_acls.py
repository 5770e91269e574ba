"""Who may do what at the broker follows from the topics. Pure: the broker's own answer is in the integration tests."""

from __future__ import annotations

import pytest

from eventlog.admin.acls import OPS, PROVISIONER, REDRIVER, Grant, Operation, Resource, commands, grants
from eventlog.records.topic_spec import TopicSpec, sources_of_dead_letters
from shared_kernel.topics import ALL, CAMPAIGNS, GROUP_LOG, ORDERS, PAYMENT_LOG, REGISTRY

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
    every = grants(ALL, redrive=True, provision=True)
    assert {one.operation for one in every} == set(Operation)
    on_cluster = {one.operation for one in every if one.resource is Resource.CLUSTER}
    assert on_cluster == {Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS}
    assert {one.principal for one in every if one.operation is Operation.CREATE} == {PROVISIONER}
    assert not any(one.prefixed for one in every if one.resource is Resource.TOPIC)


def test_the_command_line_joins_no_group_and_commits_nothing() -> None:
    assert [one for one in GRANTS if one.principal == OPS and one.resource is Resource.GROUP] == [
        Grant(OPS, Resource.GROUP, "groupbuy.", Operation.DESCRIBE, prefixed=True)
    ]


def test_offsets_are_committed_by_a_principal_that_has_rights_only_while_it_does() -> None:
    assert not any(one.principal == PROVISIONER for one in GRANTS)
    more = set(grants(ALL, provision=True)) - set(GRANTS)
    assert {one.principal for one in more} == {PROVISIONER}
    assert Grant(PROVISIONER, Resource.GROUP, "groupbuy.", Operation.READ, prefixed=True) in more
    assert {one.name for one in more if one.operation is Operation.WRITE} == {REGISTRY.name}


def test_redriving_writes_topics_that_have_dead_letters_and_no_inbox() -> None:
    assert {one.name for one in GRANTS if one.principal == OPS and one.operation is Operation.WRITE} == {REGISTRY.name}
    assert who(Operation.READ, REGISTRY.name) == SERVICES | {OPS}
    assert not any(one.principal == REDRIVER for one in GRANTS)
    more = set(grants(ALL, redrive=True)) - set(GRANTS)
    assert {one.principal for one in more} == {REDRIVER}
    written = {one.name for one in more if one.operation is Operation.WRITE}
    assert written == {ORDERS.name, GROUP_LOG.name, PAYMENT_LOG.name, REGISTRY.name}
    assert not any(one.resource is Resource.GROUP for one in more)


def test_the_name_of_a_dead_letter_topic_says_where_its_records_came_from() -> None:
    origins = sources_of_dead_letters(ALL)
    assert set(origins) == {topic.name for topic in ALL if topic.message is None}
    assert all(name.startswith(f"{topic.name}.") for name, topic in origins.items())


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
