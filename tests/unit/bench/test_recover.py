from __future__ import annotations

from bench.evening import closed_inputs
from bench.recover.__main__ import CLOSED_FROM, of_closed, opening
from eventlog.core.aggregate import Aggregate, decide
from services.groups.domain.domain import GroupDomain


def test_a_settled_group_has_no_due_time() -> None:
    domain = GroupDomain()
    (key, first), *rest = closed_inputs(CLOSED_FROM)
    group = Aggregate(key, domain.initial(key))
    assert decide(domain, group, first, 0, 1_790_000_000_000)
    assert domain.due(group.state) is not None
    for offset, (_, value) in enumerate(rest, start=1):
        assert decide(domain, group, value, offset, 1_790_000_000_000 + offset)
    assert domain.due(group.state) is None
    assert group.state.settled == 1


def test_the_groups_to_settle_are_opened_first_and_differ_from_the_open_ones() -> None:
    opened, closing = list(of_closed(5, 0, 1)), list(of_closed(5, 1, None))
    assert len(opened) == 5
    assert {key for key, _ in opened} == {key for key, _ in closing}
    assert opened + closing != list(of_closed(5, 0, None))
    assert not {key for key, _ in opened} & {key for key, _ in opening(50)}
