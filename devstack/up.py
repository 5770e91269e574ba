"""`make up`: the whole system in the foreground, for working against, until Ctrl-C.

Its run directory is `.run/` of the current directory; `.run/stack.json` says what runs where. Data is fresh each time
and deleted at the end, unless it is to be kept. Must never touch a stack that runs already.
"""

from __future__ import annotations

import argparse
import logging
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from chassis.identity.peer_identity import server_name
from devstack import foreground
from devstack.record import NAME
from devstack.stack import Stack

RUN_DIR = Path(".run")
PROTOS = Path(__file__).resolve().parent.parent / "protos" / "groupbuy.binpb"

_EXAMPLE = """\
grpcurl -plaintext -max-time 5 -d '{
  "request_id": "REQUEST", "campaign_id": "mug",
  "campaign": {"product": "mug", "currency": "CNY", "solo_price_minor": 9900, "capacity": 10,
    "tiers": [{"members": 2, "unit_price_minor": 8900}, {"members": 5, "unit_price_minor": 7900}],
    "window": "600s", "hold_window": "60s"}
}' GROUPS groupbuy.groups.v1.CampaignService/CreateCampaign"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a stack until it is stopped. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m devstack.stack",
        description="Runs the whole system until Ctrl-C. KAFKA=host:port uses another broker.",
    )
    parser.add_argument("--keep", action="store_true", help="go on from the data of the last run with --keep")
    parser.add_argument("--run-dir", type=Path, default=RUN_DIR, help="for data, logs and stack.json (%(default)s)")
    parser.add_argument("--secured", action="store_true", help="mutual TLS, and a broker that asks who comes")
    parser.add_argument("--partitions", type=int, default=4, help="of every topic, for ever (%(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    stack = Stack(
        options.run_dir,
        data=options.run_dir / ("kept" if options.keep else "data"),
        keep_data=options.keep,
        keep_logs=options.keep,
        partitions=options.partitions,
        secured=options.secured,
    )
    sys.stderr.write("starting broker, provider and services\n")
    return foreground.run(stack, lambda: _say(stack))


def _say(stack: Stack) -> None:
    rows = {"kafka": stack.kafka, **stack.endpoints}
    width = max(map(len, rows))
    for name, address in rows.items():
        print(f"{name:{width}}  {address}")
    print(f"\nLogs are in {stack.logs}, these addresses in {stack.run_dir / NAME}. For instance:\n")
    example = _EXAMPLE
    if stack.credentials is not None:
        merchant = stack.credentials.issued["merchant"]
        # The certificate has the name of the service, and no host; a merchant may not ask for the protos by reflection.
        with_certificate = (
            f"-cacert {merchant.ca} -cert {merchant.certificate} -key {merchant.key} "
            f"-authority {server_name(stack.identity('groups'))} -protoset {PROTOS}"
        )
        example = _EXAMPLE.replace("-plaintext", with_certificate)
        print(f"set -a; . {stack.credentials.ops_file}; set +a  # lets groupbuy-ops in\n")
    print(example.replace("GROUPS", stack.endpoints["groups"]).replace("REQUEST", str(uuid.uuid4())), flush=True)
