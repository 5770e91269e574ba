"""Errors of the inventory API."""

from __future__ import annotations

from groupbuy.errors.v1 import errors_pb2
from groupbuy.inventory.v1 import decisions_pb2 as pb

from chassis.rpc.errors import ApiError
from shared_kernel.api_errors import api_error


def stock_not_found(stock: str) -> ApiError:
    """The stock item was not created."""
    return _error(errors_pb2.ERROR_REASON_STOCK_NOT_FOUND, stock, "was not created")


def stock_exists(stock: str) -> ApiError:
    """The id is in use by a different stock item."""
    return _error(errors_pb2.ERROR_REASON_STOCK_EXISTS, stock, "exists and differs; use another id")


def etag_mismatch(stock: str, etag: str) -> ApiError:
    """Another edit came between read and write."""
    problem = "was changed by another edit; read it again"
    return _error(errors_pb2.ERROR_REASON_ETAG_MISMATCH, stock, problem, etag=etag)


def answer_pending(stock: str) -> ApiError:
    """The command is in the log, but its decision was not seen before the deadline."""
    return _error(errors_pb2.ERROR_REASON_ANSWER_PENDING, stock, "has no decision before the deadline; read it")


def refused(stock: str, reason: int, etag: str) -> ApiError:
    """The decider refused a command."""
    if reason == pb.COMMAND_REFUSAL_NOT_FOUND:
        return stock_not_found(stock)
    if reason == pb.COMMAND_REFUSAL_EXISTS:
        return stock_exists(stock)
    if reason == pb.COMMAND_REFUSAL_REVISION:
        return etag_mismatch(stock, etag)
    if reason == pb.COMMAND_REFUSAL_ARCHIVED:
        return _error(errors_pb2.ERROR_REASON_STOCK_ARCHIVED, stock, "is archived and can no longer be edited")
    problem = "can't have a total below what is sold and leased"
    return _error(errors_pb2.ERROR_REASON_STOCK_BELOW_OUT, stock, problem)


def _error(reason: errors_pb2.ErrorReason.ValueType, stock: str, problem: str, **metadata: str) -> ApiError:
    name = f"stocks/{stock}"
    return api_error(reason, f"{name} {problem}", stock=name, **metadata)
