"""`make compose-test`: the Compose files on real containers, from nothing to a served stack and back.

Each round plays an evening with a service killed in it, audits it, takes the stack down and up again, and audits again.
Two rounds run without security, one with it; then the layers of the console and of the inventory, and two replicas of
each service. The last line is one JSON object with
`orders settled violations kept_after_restart secured`. Exits with 1 if a claim fails, with 0 and `skipped` where
containers can't be run, and with 130 after Ctrl-C. Everything that it starts is removed in any case.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.compose import images, pages_and_stock, traffic
from tests.compose.engine import ContainerFailed, Engine, Unavailable
from tests.compose.stack import SERVICES, ComposeStack
from tests.evening import EveningFailed

#: Orders of each round without security, and of the one with it.
ORDERS, ORDERS_SECURED = 500, 200
PARTS = ("rounds", "secured", "layers", "replicas")
#: Seconds in which everything in progress ends after the last order.
QUIET_S = "120"
#: The figures of the audit that have to be the same after a restart.
_FIGURES = ("orders", "groups", "violations", "books_equal", "captured_minor", "records")
Say = Callable[[str], None]


@contextmanager
def stack_of(engine: Engine, layers: Sequence[str], say: Say) -> Iterator[ComposeStack]:
    """A stack that is removed at the end of the block."""
    stack = ComposeStack(engine, layers, say)
    try:
        yield stack
    finally:
        stack.remove()


def round_of(engine: Engine, layers: Sequence[str], orders: int, seed: int, say: Say) -> dict[str, Any]:
    """One round; the figures."""
    with stack_of(engine, layers, say) as stack, tempfile.TemporaryDirectory() as name:
        secured = "compose.secured" in layers
        stack.up()
        callers = stack.callers(Path(name)) if secured else None
        say(f"{orders} orders on {' + '.join(layers)}")
        played = traffic.play(stack, orders, seed, kill=True, callers=callers)
        stack.wait_ready(traffic.VICTIM)
        before = _audit(stack)
        settled = stack.ops("watch", "--once")[1]["orders"].get("settled", 0)
        say(f"audit: {json.dumps(before)}, {settled} settled")
        memory = stack.memory_mb()
        stack.down()
        stack.up()
        after = _audit(stack)
        more = traffic.play(stack, 50, seed + 1, kill=False, callers=callers)
        last = _audit(stack)
        kept = {one: before[one] == after[one] for one in _FIGURES}
        return {
            "orders": played,
            "settled": settled,
            "violations": before["violations"] + after["violations"] + last["violations"],
            "differences": sum(not found["books_equal"] for found in (before, after, last)),
            "kept_after_restart": all(kept.values()) and last["orders"] == before["orders"] + more,
            "all_orders_in_the_log": before["orders"] == played,
            "memory_mb": memory,
        }


def layers(engine: Engine, say: Say) -> dict[str, bool]:
    """Whether the layers of the console and of the inventory do what they should."""
    with stack_of(engine, pages_and_stock.LAYERS, say) as stack:
        stack.up()
        say(f"pages and stock on {' + '.join(pages_and_stock.LAYERS)}")
        found = pages_and_stock.check(stack)
        say(json.dumps(found))
        return found


def replicas(engine: Engine, orders: int, say: Say) -> dict[str, Any]:
    """Settled orders per second with one and with two replicas of each service, and the invariants with two."""
    found: dict[str, Any] = {}
    for count, layers in ((1, ("compose",)), (2, ("compose", "compose.replicas"))):
        with stack_of(engine, layers, say) as stack:
            stack.up([f"{service}-1" for service in SERVICES] if count > 1 else ())
            say(f"settled orders per second with {count} replica(s) of each service")
            measured = traffic.throughput(stack, orders)
            audited = _audit(stack)
            found[str(count)] = {
                **measured,
                "violations": audited["violations"],
                "books_equal": audited["books_equal"],
                "memory_mb": stack.memory_mb(),
            }
            say(json.dumps(found[str(count)]))
    return found


def _audit(stack: ComposeStack) -> dict[str, Any]:
    _, audited = stack.ops("audit", "--wait", QUIET_S)
    return {name: audited[name] for name in _FIGURES}


def run(engine: Engine, given: argparse.Namespace, say: Say) -> tuple[dict[str, Any], bool]:
    """Runs the parts. Returns the figures and whether every claim holds."""
    parts, secured_orders = given.only or PARTS, min(given.orders, ORDERS_SECURED)
    rounds = (
        [round_of(engine, ("compose",), given.orders, 20 + n, say) for n in range(given.rounds)]
        if "rounds" in parts
        else []
    )
    secured = round_of(engine, ("compose", "compose.secured"), secured_orders, 30, say) if "secured" in parts else None
    pages = layers(engine, say) if "layers" in parts else {}
    scaled = replicas(engine, given.load, say) if "replicas" in parts else {}
    every = [*rounds, *([secured] if secured else [])]
    figures = {
        "orders": sum(one["orders"] for one in every),
        "settled": sum(one["settled"] for one in every),
        "violations": sum(one["violations"] + one["differences"] for one in every)
        + sum(one["violations"] + (not one["books_equal"]) for one in scaled.values()),
        "kept_after_restart": all(one["kept_after_restart"] for one in every),
        "secured": secured is not None and secured["all_orders_in_the_log"] and not secured["violations"],
        "rounds": every,
        "layers": pages,
        "replicas": scaled,
    }
    good = (
        not figures["violations"]
        and figures["kept_after_restart"]
        and all(one["all_orders_in_the_log"] and one["settled"] for one in every)
        and (figures["secured"] or secured is None)
        and all(pages.values())
        and all(one["settled"] >= given.load for one in scaled.values())
    )
    return figures, bool(good)


def main() -> int:
    """Runs the test. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="run one part")
    parser.add_argument("--rounds", type=int, default=2, help="rounds without security, each from nothing")
    parser.add_argument(
        "--orders", type=int, default=ORDERS, help="orders of each round; of the secured one at most 200"
    )
    parser.add_argument("--load", type=int, default=traffic.LOAD_ORDERS, help="orders that compare the replicas")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        engine = Engine()
    except Unavailable as reason:
        print(json.dumps({"skipped": str(reason)}))
        return 0

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with ExitStack() as leaving:
        leaving.callback(engine.close)
        try:
            images.build(engine, say)
            leaving.enter_context(engine.serving())
            figures, good = run(engine, given, say)
        except Unavailable as reason:
            print(json.dumps({"skipped": str(reason)}))
            return 0
        except KeyboardInterrupt:
            say("interrupted; everything that was started is removed")
            return 130
        except (ContainerFailed, EveningFailed) as error:
            say(str(error))
            print(json.dumps({"failed": str(error).splitlines()[0]}))
            return 1
    print(json.dumps(figures))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
