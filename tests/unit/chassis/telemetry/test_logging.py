"""The log: one object a line from every logger, without secrets and repeated lines of libraries."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from groupbuy.orders.v1.orders_pb2 import PlaceOrderRequest

from chassis.telemetry.logging import REPEAT_S, RepeatFilter
from chassis.telemetry.redaction import REDACTED, clean_text, redact

# Runs in its own process: logging is configured once a process.
SCRIPT = """
import logging, sys, structlog
from groupbuy.orders.v1.orders_pb2 import PlaceOrderRequest
from chassis.telemetry import logging as chassis_logging
chassis_logging.configure(level="info", form=sys.argv[1], service="orders", instance="orders-0")
log = structlog.stdlib.get_logger("ours")
log.info("placed %s", 3, order="o1", payment_method="card_4111", request=PlaceOrderRequest(payment_method="card_4111"))
log.debug("too quiet")
logging.getLogger("eventlog.processors.decider").info("%s started", "groupbuy.groups.decider", extra={"partition": 2})
logging.getLogger("aiokafka.conn").info("chatter")
logging.getLogger("faust.worker").info("chatter")
logging.getLogger("grpc._cython.cygrpc").info("chatter")
logging.getLogger("aiokafka.conn").warning("lost")
for _ in range(50):
    logging.getLogger("aiokafka.client").error("Unable connect to %s", "b:1")
with chassis_logging.silenced("aiokafka"):
    logging.getLogger("aiokafka.cluster").error("chatter")
try:
    raise ValueError("bad payment_method: 'card_4111' of c1")
except ValueError:
    log.exception("failed")
"""


def output(form: str) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT, form], capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr == ""
    return done.stdout


def test_every_log_is_one_object_a_line_and_libraries_log_warnings_only() -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in output("json").splitlines()]
    assert [line["event"] for line in lines] == [
        "placed 3",
        "groupbuy.groups.decider started",
        "lost",
        "Unable connect to b:1",
        "failed",
    ]
    for line in lines:
        assert {"timestamp", "level", "logger", "service", "instance"} <= line.keys()
    assert lines[1]["logger"] == "eventlog.processors.decider"
    assert lines[1]["partition"] == 2
    assert "ValueError" in lines[-1]["exception"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_secret_is_written_by_field_by_message_or_by_traceback(form: str) -> None:
    logged = output(form)
    assert "card_4111" not in logged
    assert logged.count(REDACTED) >= 3
    assert "Traceback" in logged


@pytest.mark.parametrize(
    "text",
    [
        'payment_method: "card_4111"',
        "{'payment_method': 'card_4111', 'customer': 'c1'}",
        '{"payment_method": "card_4111"}',
        '{\\"payment_method\\": \\"card_4111\\"}',
        "PAYMENT_METHOD=card_4111",
        "authorization: Bearer card_4111",
        "client_secret='card_4111'",
        repr(str(PlaceOrderRequest(payment_method="card_4111"))),
    ],
)
def test_the_value_after_the_name_of_a_secret_is_removed_from_texts(text: str) -> None:
    assert "card_4111" not in clean_text(text)
    assert REDACTED in clean_text(text)


def test_secrets_are_redacted_at_any_depth_and_other_values_kept() -> None:
    event = {"event": "x", "call": {"headers": [{"authorization": "s3"}], "n": 1}, "password": "s3", "amount_minor": 5}
    assert redact(None, "", event) == {
        "event": "x",
        "call": {"headers": [{"authorization": REDACTED}], "n": 1},
        "password": REDACTED,
        "amount_minor": 5,
    }


def test_a_repeated_line_of_a_library_is_held_back_and_counted() -> None:
    now = 0.0
    repeats = RepeatFilter(lambda: now)

    def logged(name: str, message: str) -> logging.LogRecord | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, message, (), None)
        return record if repeats.filter(record) else None

    assert logged("aiokafka", "gone")
    assert [logged("aiokafka", "gone") for _ in range(3)] == [None] * 3
    assert logged("aiokafka", "something else")
    assert logged("chassis.lifecycle.runner", "ours")
    assert logged("chassis.lifecycle.runner", "ours")
    now = REPEAT_S
    again = logged("aiokafka", "gone")
    assert again is not None
    assert vars(again)["held_back"] == 3
