"""Steps with `make up` itself: twice at once, Ctrl-C in the middle, data that are kept."""

from __future__ import annotations

from devstack.supervision.waiting import wait_for
from tests.first_hour.by_hand import second_terminal
from tests.first_hour.checkout import Foreground, StepFailed, running
from tests.first_hour.hour import Hour, Step

#: Opens a group and prints its link and its order.
_OPEN = """
import os, sys
from datetime import timedelta
from groupbuy.links.v1.links_pb2 import SHARE_CHANNEL_GROUP_CHAT
from groupbuy_client import Client
with Client(orders=os.environ["ORDERS_AT"], groups=os.environ["GROUPS_AT"]) as shop:
    pot = shop.create_campaign(product="pot", currency="CNY", solo_price_minor=9900, capacity=3, tiers=[(2, 8900)],
        window=timedelta(hours=1), hold_window=timedelta(minutes=1))
    ann = shop.place_order(customer="ann", campaign=pot.name, currency="CNY", max_unit_price_minor=8900,
        payment_method="card_ok").order
    link = shop.create_share_link(target=ann.group, inviter="ann", channel=SHARE_CHANNEL_GROUP_CHAT)
    print(link.share_token, ann.name)
"""
_JOIN = """
import os, sys
from groupbuy_client import Client
token, name = sys.argv[1:]
with Client(orders=os.environ["ORDERS_AT"], groups=os.environ["GROUPS_AT"]) as shop:
    group = shop.resolve_share_link(token).target
    order = shop.get_order(name)
    bob = shop.place_order(customer="bob", group=group, share_link=token, campaign=order.campaign, currency="CNY",
        max_unit_price_minor=8900, payment_method="card_ok").order
    print("joined", bob.group == order.group)
"""


def twice(hour: Hour) -> None:
    """A second `make up` beside the first: refused with what to do, or at free ports, in a path of any characters."""
    first = hour.stack()
    hour.checkout.make("up", within_s=60).expect(2, "a stack is running in", "stop it first")
    other = hour.place / "another run" / "拼团"
    at = f"UP=--run-dir '{other}'"
    hour.checkout.make("up", at, within_s=60).expect(2, "port 15050 for kafka can't be used", "make up PORTS=free")
    # A terminal that can't show the path.
    environment = hour.checkout.environment(PYTHONIOENCODING="ascii")
    with Foreground(hour.checkout, at, "PORTS=free", run_dir=other, environment=environment) as second:
        second.wait_ready()
        hour.checkout.shell(f". '{other}/stack.env'; test -n \"$ORDERS_AT\"").expect(0)
        if set(first.pids()) & set(second.pids()):
            raise StepFailed("both stacks have a process in common")
        second.interrupt()
    beside = [path.name for path in hour.place.iterdir() if not path.name.isascii()]
    if beside:
        raise StepFailed(f"the second stack wrote beside its directory: {beside}")


def ctrl_c(hour: Hour) -> None:
    """Ctrl-C during the start and later: no process is left, the logs stay, and the next start works at once."""
    hour.end_stack()
    logs = hour.checkout.root / ".run" / "logs"
    with Foreground(hour.checkout) as early:
        if not wait_for((logs / "broker.log").exists, timeout_s=60):
            raise StepFailed(f"no broker was started:\n{early.output}")
        early.interrupt()
    with Foreground(hour.checkout) as stack:
        stack.wait_ready()
        pids = stack.pids()
        output = stack.interrupt()
    if left := running(pids):
        raise StepFailed(f"processes {left} outlived Ctrl-C")
    kept = sorted(path.name for path in logs.iterdir() if path.stat().st_size)
    if not {"broker.log", "orders.log", "groups.log", "payments.log"} <= set(kept) or str(logs) not in output:
        raise StepFailed(f"the logs {kept} stay, and the end of the output is:\n{output[-500:]}")
    if (logs.parent / "stack.env").exists():
        raise StepFailed("the file with the addresses of an ended stack stays")


def keep(hour: Hour) -> None:
    """`make up KEEP=1` twice: orders stay, and a friend joins by a link from before."""
    hour.end_stack()
    begin = second_terminal(hour)
    with Foreground(hour.checkout, "KEEP=1") as first:
        first.wait_ready()
        opened = hour.checkout.shell(f"{begin}python -c '{_OPEN}'").expect(0).output.split()
        first.interrupt()
    with Foreground(hour.checkout, "KEEP=1") as second:
        second.wait_ready()
        hour.checkout.shell(f"{begin}python -c '{_JOIN}' {' '.join(opened[-2:])}").expect(0, "joined True")
        second.interrupt()


STEPS = (
    Step("twice", "a second make up, in the same and in another directory", 240, twice),
    Step("ctrl-c", "Ctrl-C during the start and later", 240, ctrl_c),
    Step("keep", "make up KEEP=1 twice, and a link from before", 240, keep),
)
