"""Two processes of one instance name: the later one has it, the earlier one must end and not take it back.

aiokafka forgets its member id when the group does not know it, and joins under its instance name as if it were new. A
process that was displaced would so displace its successor, that one it, and so on: nobody would get anything done.
"""

from __future__ import annotations

from typing import Any

from aiokafka import errors
from aiokafka.errors import BrokerResponseError, KafkaError

from eventlog.runtime.abort import abort


class FencedInstanceId(BrokerResponseError):  # type: ignore[misc]
    """The broker's answer to a join under an instance name that another member has taken; aiokafka knows no such."""

    errno = 82
    message = "FENCED_INSTANCE_ID"
    description = "Another member has joined under this instance name."


errors.kafka_errors.setdefault(FencedInstanceId.errno, FencedInstanceId)


def exit_when_fenced(coordinator: Any) -> None:
    """Makes a coordinator join again under the member id it had, so that the broker can tell it from a new process.

    If the name is another's by now, the process ends. If the member merely expired, aiokafka joins as a new one.
    """
    reset, rejoin = coordinator.reset_generation, coordinator._do_rejoin_group
    former = ""

    def reset_generation() -> None:
        nonlocal former
        former = "" if joining else coordinator.member_id or former
        reset()

    joining = False

    async def do_rejoin_group(subscription: Any) -> Any:
        nonlocal former, joining
        if former and not coordinator.member_id:
            coordinator.member_id = former
        joining = True
        try:
            return await rejoin(subscription)
        except KafkaError as error:
            if FencedInstanceId.__name__ in str(error):
                name = coordinator._group_instance_id
                abort("another process has taken this instance's name", instance=name, group=coordinator.group_id)
            raise
        finally:
            joining = False

    coordinator.reset_generation, coordinator._do_rejoin_group = reset_generation, do_rejoin_group
