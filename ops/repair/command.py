"""`repair`: what an operator does about one payment, through the payments' OperatorService.

Each command is one command in the log, with the operator's identity and reason. It returns when it is decided.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer
from groupbuy.payments.v1 import operator_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation
from groupbuy.payments.v1.ledger_pb2 import LedgerAccount

from ops import where
from ops.completion import offering
from ops.errors import DOES_NOT_HOLD, cannot_run
from ops.repair.advice import KINDS
from ops.repair.printing import print_issues, print_repair
from ops.repair.service import operators
from ops.terminal.output import Json, Output

app = typer.Typer(no_args_is_help=True, help="Repairs payments: each repair is recorded with its operator and reason.")

OPERATIONS = {name.removeprefix("OPERATION_").lower(): number for name, number in Operation.items() if number}
ACCOUNTS = {name.removeprefix("LEDGER_ACCOUNT_").lower(): number for name, number in LedgerAccount.items() if number}

Payment = Annotated[str, typer.Argument(help="groups/{group}/orders/{order}/payment")]
OperationName = Annotated[
    str, typer.Argument(metavar="OPERATION", help=", ".join(OPERATIONS), autocompletion=offering(OPERATIONS))
]
Attempt = Annotated[int, typer.Option("--attempt", min=1, help="The attempt, as `repair list` prints it.")]
Hold = Annotated[str, typer.Option("--hold", help="The provider's reference of the hold.")]
MaybeHold = Annotated[str, typer.Option("--hold", help="The provider's reference of the hold; may be omitted.")]
AmountMinor = Annotated[int, typer.Option("--amount-minor", min=1, help="Amount in minor units.")]


def _run(
    method: str,
    request: Any,
    reason: Annotated[str, typer.Option("--reason", help="Why. The log of payment decisions keeps it.")],
    payments: where.Payments = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the events that would follow, and append nothing.")
    ] = False,
    request_id: Annotated[
        str, typer.Option("--request-id", help="UUID of an earlier call whose result is not known. Default: a new one.")
    ] = "",
    expected_version: Annotated[
        int,
        typer.Option("--expected-version", min=0, help="Refuse if the group's payments have another one. 0: no check."),
    ] = 0,
    json: Json = False,
) -> None:
    """Makes one repair and prints it. The parameters from `reason` on are those of every repair."""
    if not reason.strip():
        raise cannot_run("--reason is empty: state why")
    try:
        request.request_id = str(UUID(request_id)) if request_id else str(uuid4())
    except ValueError:
        raise cannot_run(f"--request-id is {request_id!r}, not a UUID") from None
    request.reason = reason
    request.validate_only = dry_run
    request.expected_version = expected_version
    target = where.payments(payments)

    async def call() -> pb.Repair:
        async with operators(target) as service:
            repair: pb.Repair = await service.call(method, request)
            return repair

    repair = asyncio.run(call())
    print_repair(Output(json), repair, dry_run=dry_run)
    if repair.refusal:
        raise typer.Exit(DOES_NOT_HOLD)


_COMMON = tuple(inspect.signature(_run, eval_str=True).parameters.values())[2:]


def _repair(name: str, method: str) -> Callable[[Callable[..., Any]], None]:
    """Adds a command that makes one repair. The decorated function makes the request from its own parameters."""

    def add(make: Callable[..., Any]) -> None:
        own = tuple(inspect.signature(make, eval_str=True).parameters.values())

        def command(**given: Any) -> None:
            mine = {one.name: given.pop(one.name) for one in own}
            _run(method, make(**mine), **given)

        parameters = sorted((*own, *_COMMON), key=lambda one: one.default is not inspect.Parameter.empty)
        command.__doc__ = make.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # read by typer
        app.command(name)(command)

    return add


def _operation(name: str) -> Any:
    if name not in OPERATIONS:
        raise cannot_run(f"{name!r} is no operation: {', '.join(OPERATIONS)}")
    return OPERATIONS[name]


def _account(option: str, name: str) -> Any:
    if name not in ACCOUNTS:
        raise cannot_run(f"{option} is {name!r}, no account: {', '.join(ACCOUNTS)}")
    return ACCOUNTS[name]


@app.command("list")
def list_(
    payments: where.Payments = None,
    group: Annotated[str, typer.Option("--group", help="groups/{group}. Default: all groups.")] = "groups/-",
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind", help=f"{', '.join(KINDS.values())}; repeatable.", autocompletion=offering(KINDS.values())
        ),
    ] = None,
    alarms: Annotated[bool, typer.Option("--alarms", help="Only issues for which an operator has to act.")] = False,
    json: Json = False,
) -> None:
    """Lists what is owed, stuck, in suspense, in dispute or to be approved, with the command that repairs it.

    Reads the payments service.

    Changes nothing.

    Exit codes: 0 nothing is listed, 1 something is, 2 cannot run.

    Example: groupbuy-ops repair list --alarms
    """
    numbers = {name: number for number, name in KINDS.items()}
    if unknown := sorted(set(kind or ()) - numbers.keys()):
        raise cannot_run(f"--kind {', '.join(unknown)} is unknown: {', '.join(numbers)}")
    target, out = where.payments(payments), Output(json)

    async def read() -> list[pb.Issue]:
        async with operators(target) as service:
            return await service.issues([numbers[one] for one in kind or ()], alarms_only=alarms, parent=group)

    found = asyncio.run(read())
    print_issues(out, found)
    if found:
        raise typer.Exit(DOES_NOT_HOLD)


@_repair("retry", "RetryCall")
def _retry(
    payment: Payment,
    operation: OperationName,
    attempt: Annotated[
        int, typer.Option("--attempt", min=0, help="0: the pending call of this operation, or what is owed.")
    ] = 0,
) -> Any:
    """Retries a pending call, or the refund of an amount that is owed, without waiting.

    Reads the payments service.

    Changes the payments' inbox, except with --dry-run: one command, recorded with the operator and the reason.

    Exit codes: 0 done, 1 the rules refuse it, 2 cannot run or there is no such payment.

    Example: groupbuy-ops repair retry groups/G/orders/O/payment refund --reason "the card is valid again"
    """
    return pb.RetryCallRequest(name=payment, operation=_operation(operation), attempt=attempt)


@_repair("give-up", "GiveUpCall")
def _give_up(payment: Payment, operation: OperationName, attempt: Attempt) -> Any:
    """Stops a pending call for good: a charge fails, a refund stays owed, a void counts as a hold that ended by itself.

    Reads the payments service.

    Changes the payments' inbox, except with --dry-run: one command, recorded with the operator and the reason.

    Exit codes: 0 done, 1 the rules refuse it, 2 cannot run or there is no such payment.

    Example: groupbuy-ops repair give-up groups/G/orders/O/payment
    capture --attempt 1 --reason "the account is closed"
    """
    return pb.GiveUpCallRequest(name=payment, operation=_operation(operation), attempt=attempt)


@_repair("release", "ReleaseMember")
def _release(payment: Payment) -> Any:
    """Releases a member of a stuck settlement instead of charging it.

    Reads the payments service.

    Changes the payments' inbox, except with --dry-run: one command, recorded with the operator and the reason.

    Exit codes: 0 done, 1 the rules refuse it, 2 cannot run or there is no such payment.

    Example: groupbuy-ops repair release groups/G/orders/O/payment --reason "the provider is away for days"
    """
    return pb.ReleaseMemberRequest(name=payment)


@_repair("fail", "FailMember")
def _fail(payment: Payment) -> Any:
    """Fails a member of a stuck settlement: its charge counts as declined.

    Reads the payments service.

    Changes the payments' inbox, except with --dry-run: one command, recorded with the operator and the reason.

    Exit codes: 0 done, 1 the rules refuse it, 2 cannot run or there is no such payment.

    Example: groupbuy-ops repair fail groups/G/orders/O/payment --reason "the bank refuses by telephone"
    """
    return pb.FailMemberRequest(name=payment)


@_repair("returned-outside", "MarkReturnedOutside")
def _returned_outside(
    payment: Payment,
    amount_minor: AmountMinor,
    reference: Annotated[str, typer.Option("--reference", help="Reference of the transfer.")],
    hold: MaybeHold = "",
    refund: Annotated[str, typer.Option("--refund", help="Id of the refund; empty for a return without one.")] = "",
) -> Any:
    """Records that an amount owed reached the customer by other means, for example by a bank transfer.

    Reads the payments service.

    Changes the payments' inbox, except with --dry-run: one command, recorded with the operator and the reason.

    Exit codes: 0 done, 1 the rules refuse it, 2 cannot run or there is no such payment.

    Example: groupbuy-ops repair returned-outside groups/G/orders/O/payment
    --amount-minor 500 --reference T1 --reason "card closed"
    """
    return pb.MarkReturnedOutsideRequest(
        name=payment, amount_minor=amount_minor, reference=reference, hold=hold, refund=refund
    )


@_repair("approve-return", "ApproveReturn")
def _approve_return(payment: Payment, hold: Hold) -> Any:
    """Returns unexpected funds now, beyond all limits.

    Reads the payments service.

    Changes the payments' inbox, except with --dry-run: one command, recorded with the operator and the reason.

    Exit codes: 0 done, 1 the rules refuse it, 2 cannot run or there is no such payment.

    Example: groupbuy-ops repair approve-return groups/G/orders/O/payment --hold pi_1 --reason "paid twice"
    """
    return pb.ApproveReturnRequest(name=payment, hold=hold)


@_repair("keep", "KeepSuspense")
def _keep(payment: Payment, hold: Hold) -> Any:
    """Assigns unexpected funds to the merchant; they are not returned.

    Reads the payments service.

    Changes the payments' inbox, except with --dry-run: one command, recorded with the operator and the reason.

    Exit codes: 0 done, 1 the rules refuse it, 2 cannot run or there is no such payment.

    Example: groupbuy-ops repair keep groups/G/orders/O/payment --hold pi_1 --reason "sold by telephone"
    """
    return pb.KeepSuspenseRequest(name=payment, hold=hold)


@_repair("adjust", "AdjustLedger")
def _adjust(
    payment: Payment,
    from_account: Annotated[
        str, typer.Option("--from", help="Account that loses the amount.", autocompletion=offering(ACCOUNTS))
    ],
    to_account: Annotated[
        str, typer.Option("--to", help="Account that gains the amount.", autocompletion=offering(ACCOUNTS))
    ],
    amount_minor: AmountMinor,
    currency: Annotated[str, typer.Option("--currency", help="ISO 4217 code.")],
    hold: MaybeHold = "",
) -> Any:
    """Proposes an adjustment of the ledger, which takes effect with the approval of another operator.

    Reads the payments service.

    Changes the payments' inbox, except with --dry-run: one command, recorded with the operator and the reason.

    Exit codes: 0 done, 1 the rules refuse it, 2 cannot run or there is no such payment.

    Example: groupbuy-ops repair adjust groups/G/orders/O/payment
    --from clearing --to adjustments --amount-minor 5 --currency EUR --reason "rounding"
    """
    return pb.AdjustLedgerRequest(
        name=payment,
        from_account=_account("--from", from_account),
        to_account=_account("--to", to_account),
        amount_minor=amount_minor,
        currency=currency,
        hold=hold,
    )


@_repair("approve-adjustment", "ApproveAdjustment")
def _approve_adjustment(
    payment: Payment, proposal: Annotated[str, typer.Argument(help="Request id of the proposal.")]
) -> Any:
    """Approves an adjustment of the ledger that another operator proposed.

    Reads the payments service.

    Changes the payments' inbox, except with --dry-run: one command, recorded with the operator and the reason.

    Exit codes: 0 done, 1 the rules refuse it, 2 cannot run or there is no such payment.

    Example: groupbuy-ops repair approve-adjustment groups/G/orders/O/payment
    1b9f2d8e-7a43-4a53-9d0e-0c4a3b6f8e21 --reason "checked with the bank"
    """
    return pb.ApproveAdjustmentRequest(name=payment, proposal=proposal)


@_repair("resolve", "ResolveUnknown")
def _resolve(
    payment: Payment,
    operation: OperationName,
    attempt: Attempt,
    done: Annotated[bool, typer.Option("--done/--not-done", help="Whether the provider did it.")],
    hold: MaybeHold = "",
) -> Any:
    """States the result of a call whose result is unknown, as the provider's records show it.

    Reads the payments service.

    Changes the payments' inbox, except with --dry-run: one command, recorded with the operator and the reason.

    Exit codes: 0 done, 1 the rules refuse it, 2 cannot run or there is no such payment.

    Example: groupbuy-ops repair resolve groups/G/orders/O/payment
    capture --attempt 1 --done --reason "dashboard, checked by telephone"
    """
    return pb.ResolveUnknownRequest(
        name=payment, operation=_operation(operation), attempt=attempt, done=done, hold=hold
    )
