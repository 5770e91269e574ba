"""The status codes of errors are those that the contract documents."""

from __future__ import annotations

import re
from pathlib import Path

from groupbuy.errors.v1 import errors_pb2

from shared_kernel.api_errors import STATUS_CODES

CONTRACT = Path(__file__).resolve().parents[3] / "protos/groupbuy/errors/v1/errors.proto"


def test_the_code_of_each_reason_is_the_documented_one() -> None:
    contract = CONTRACT.read_text(encoding="utf-8")
    documented = {reason: code for code, reason in re.findall(r"// ([A-Z_]+): .*\n *(\w+) = \d+;", contract)}
    used = {errors_pb2.ErrorReason.Name(reason): code.name for reason, code in STATUS_CODES.items()}
    assert used == {reason: documented[reason] for reason in used}
