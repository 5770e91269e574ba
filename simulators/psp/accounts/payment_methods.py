"""Saved payment methods: which customer each belongs to, and whether one without a customer was used.

Stripe's rule: a payment method that belongs to no customer works once; one of a customer works for that customer alone.
"""

from __future__ import annotations

import sqlite3

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.holds import MethodRefused

SCHEMA = """
CREATE TABLE IF NOT EXISTS payment_methods (method TEXT PRIMARY KEY, customer TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
USED = (
    "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment or was detached "
    "from a Customer. It may not be used again. To use a PaymentMethod multiple times, you must attach it to a "
    "Customer first."
)
WITHOUT_CUSTOMER = (
    "The payment method you provided is attached to a customer so for security purposes you must provide the customer "
    "in the request."
)


class PaymentMethods:
    """The payment methods of an account book. For the thread that writes the book."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def customer(self, method: str) -> str | None:
        """Customer of a method; empty if it was used without one; None if it was not used."""
        row = self._db.execute("SELECT customer FROM payment_methods WHERE method = ?", (method,)).fetchone()
        return row[0] if row else None

    def check(self, request: pb.AuthoriseRequest) -> None:
        """Raises MethodRefused for a method that can't be used by a request."""
        owner = self.customer(request.payment_method)
        if owner == "":
            raise MethodRefused(USED)
        if owner is not None and not request.customer:
            raise MethodRefused(WITHOUT_CUSTOMER)
        if owner is not None and owner != request.customer:
            raise MethodRefused(f"The payment method does not belong to the customer {request.customer}.")

    def use(self, request: pb.AuthoriseRequest) -> None:
        """Records that a request used a method, in the open transaction. It stays usable if the request saves it."""
        if self.customer(request.payment_method) is None:
            self.attach(request.payment_method, request.customer if request.save_method else "")

    def attach(self, method: str, customer: str) -> None:
        """Makes a method a customer's, in the open transaction. Raises MethodRefused for a used or another's one."""
        if self.customer(method) not in (None, customer):
            raise MethodRefused(USED)
        self._db.execute("INSERT OR IGNORE INTO payment_methods VALUES (?, ?)", (method, customer))
