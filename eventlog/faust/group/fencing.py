"""Ends a process when another one joins under its instance name, which static membership allows one process to have.

When the group does not know its member id, aiokafka drops the id and joins under its instance name as a new member. A
fenced process would so fence its successor, which would fence it in turn, and no work would be done.
"""

from __future__ import annotations

from typing import Any

from aiokafka import errors
from aiokafka.errors import BrokerResponseError, KafkaError

from eventlog.runtime.abort import abort


class FencedInstanceId(BrokerResponseError):  # type: ignore[misc]
    """The broker's response to a join under an instance name that another member has taken. aiokafka lacks it."""

    errno = 82
    message = "FENCED_INSTANCE_ID"
    description = "Another member has joined under this instance name."


errors.kafka_errors.setdefault(FencedInstanceId.errno, FencedInstanceId)


def exit_when_fenced(coordinator: Any) -> None:
    """Makes a coordinator rejoin under its former member id, so that the broker can tell it from a new process.

    If another process has the instance name, this process ends. If the member only expired, it joins as a new one.
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
