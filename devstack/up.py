"""`make up`: the whole system in the foreground until Ctrl-C.

The run directory is `.run/` of the current directory; `.run/stack.json` has addresses and process ids. Each run starts
with empty data and deletes it at the end, unless --keep is given.
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
        description="Runs the whole system until Ctrl-C. Set KAFKA=host:port to use another broker.",
    )
    parser.add_argument("--keep", action="store_true", help="keep the data, and continue from the last run with --keep")
    parser.add_argument(
        "--run-dir", type=Path, default=RUN_DIR, help="directory for data, logs and stack.json (default: %(default)s)"
    )
    parser.add_argument(
        "--secured", action="store_true", help="use mutual TLS, and a broker that authenticates its clients"
    )
    parser.add_argument(
        "--partitions", type=int, default=4, help="partitions of every topic; fixed for ever (default: %(default)s)"
    )
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
    return foreground.run(stack, lambda: _print_addresses(stack))


def _print_addresses(stack: Stack) -> None:
    rows = {"kafka": stack.kafka, **stack.endpoints}
    width = max(map(len, rows))
    for name, address in rows.items():
        print(f"{name:{width}}  {address}")
    print(f"\nLogs are in {stack.logs}, and these addresses in {stack.run_dir / NAME}. An example:\n")
    example = _EXAMPLE
    if stack.credentials is not None:
        merchant = stack.credentials.issued["merchant"]
        # The certificate has the service's name and no host. A merchant may not use reflection, hence -protoset.
        with_certificate = (
            f"-cacert {merchant.ca} -cert {merchant.certificate} -key {merchant.key} "
            f"-authority {server_name(stack.identity('groups'))} -protoset {PROTOS}"
        )
        example = _EXAMPLE.replace("-plaintext", with_certificate)
        print(f"set -a; . {stack.credentials.ops_file}; set +a  # credentials of groupbuy-ops\n")
    print(example.replace("GROUPS", stack.endpoints["groups"]).replace("REQUEST", str(uuid.uuid4())), flush=True)
