"""`make up`: the whole system in the foreground until Ctrl-C.

The run directory is `.run/` of the current directory; `.run/stack.json` has addresses and process ids, `.run/stack.env`
has the addresses for shells. Each run starts with empty data and deletes it at the end, unless --keep is given. Logs
stay until the next start.
"""

from __future__ import annotations

import argparse
import io
import logging
import secrets
import shlex
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from chassis.identity.peer_identity import server_name
from chassis.identity.policy import EVERY, PolicyError
from chassis.identity.policy import read as read_policy
from devstack import addresses, foreground
from devstack.product import CONSOLE, WITH_CONSOLE
from devstack.record import VARIABLES, exports
from devstack.stack import Stack

RUN_DIR = Path(".run")
PROTOS = Path(__file__).resolve().parent.parent / "protos" / "groupbuy.binpb"

_EXAMPLE = """\
grpcurl OPTIONS -max-time 5 -d '{
  "request_id": "REQUEST", "campaign_id": "CAMPAIGN",
  "campaign": {"product": "mug", "currency": "CNY", "solo_price_minor": 9900, "capacity": 10,
    "tiers": [{"members": 2, "unit_price_minor": 8900}, {"members": 5, "unit_price_minor": 7900}],
    "window": "3600s", "hold_window": "60s"}
}' GROUPS groupbuy.groups.v1.CampaignService/CreateCampaign"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a stack until it is stopped. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Paths may have characters that the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # A broker's data has its users and their passwords, or none.
    kept = "kept-secured" if options.secured else "kept"
    stack = Stack(
        options.run_dir,
        data=options.run_dir / (kept if options.keep else "data"),
        keep_data=options.keep,
        partitions=options.partitions,
        secured=options.secured,
        policy=options.policy,
        fixed_ports=options.ports,
        plan=WITH_CONSOLE,
    )
    foreground.say("starting broker, provider and services")
    code = foreground.run(stack, lambda: _print_addresses(stack))
    if stack.logs.is_dir() and any(stack.logs.iterdir()):
        foreground.say(f"logs, until the next start: {stack.logs}")
    return code


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m devstack",
        description="Runs the whole system until Ctrl-C. Set KAFKA=host:port to use another broker. `make up` takes "
        "the options as variables: KEEP=1 SECURED=1 PORTS=free PARTITIONS=4 POLICY=file, or all as UP='--keep …'.",
    )
    parser.add_argument("--keep", action="store_true", help="keep the data, and continue from it next time")
    parser.add_argument(
        "--run-dir", type=Path, default=RUN_DIR, help="directory for data, logs and stack.json (default: %(default)s)"
    )
    parser.add_argument("--secured", action="store_true", help="mTLS for gRPC, SASL_SSL and ACLs for Kafka")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="policy of all processes, with --secured")
    parser.add_argument(
        "--partitions", type=int, default=4, help="partitions per topic; cannot be changed later (default: %(default)s)"
    )
    last = addresses.FIRST_PORT + len(addresses.NAMES) - 1
    parser.add_argument(
        "--ports",
        default="",
        metavar="PORTS",
        help=f"`free`, the first of {len(addresses.NAMES)} ports, or name=port,… (default: {addresses.FIRST_PORT} to "
        f"{last} for {', '.join(addresses.NAMES)})",
    )
    options = parser.parse_args(arguments)
    if options.partitions < 1:
        parser.error("--partitions must be 1 or greater")
    try:
        options.ports = addresses.choose(options.ports)
    except addresses.BadPorts as error:
        parser.error(f"--ports: {error}")
    if options.policy is not None:
        _check_policy(parser, options)
    return options


def _check_policy(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not options.secured:
        parser.error("--policy needs --secured: without certificates every caller may call every method")
    try:
        read_policy(options.policy, EVERY)
    except PolicyError as error:
        parser.error(f"--policy: {error}")


def _print_addresses(stack: Stack) -> None:
    more = ", and the credentials of groupbuy-ops" if stack.credentials is not None else ""
    file = shlex.quote(str(stack.run_dir / VARIABLES))
    text = (
        f"{exports(addresses.variables(stack.kafka, stack.endpoints))}\n"
        f"The file sets these variables in a shell{more}:\n\n. {file}\n\n"
        f"The console: http://{stack.endpoints[CONSOLE]}/\n\nLogs are in {stack.logs}. An example:\n\n{_example(stack)}"
    )
    foreground.say(text, sys.stdout)


def _example(stack: Stack) -> str:
    """A command that creates a campaign. Each start has another campaign id."""
    options = "-plaintext"
    if stack.credentials is not None:
        merchant = stack.credentials.issued["merchant"]
        ca, certificate, key = (shlex.quote(str(one)) for one in (merchant.ca, merchant.certificate, merchant.key))
        # The certificate has the service's name and no host. A merchant may not use reflection, hence -protoset.
        options = (
            f"-cacert {ca} -cert {certificate} -key {key} -authority {server_name(stack.identity('groups'))} "
            f"-protoset {shlex.quote(str(PROTOS))}"
        )
    example = _EXAMPLE.replace("OPTIONS", options).replace("GROUPS", stack.endpoints["groups"])
    return example.replace("REQUEST", str(uuid.uuid4())).replace("CAMPAIGN", f"mug-{secrets.token_hex(3)}")
