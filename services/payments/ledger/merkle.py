"""A Merkle tree that grows leaf by leaf and stores no leaf. Its root is that of RFC 6962, section 2.1.

Exported roots of years ago are compared with it, so its hashing may not change: tests/unit/payments/test_merkle.py.
"""

from __future__ import annotations

from hashlib import sha256

_LEAF, _NODE = b"\0", b"\1"


class Tree:
    """The roots of the complete subtrees, the largest first."""

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: list[bytes] | None = None) -> None:
        self.size = size
        self.peaks = peaks if peaks is not None else []

    def add(self, leaf: bytes) -> None:
        """Appends a leaf."""
        node = sha256(_LEAF + leaf).digest()
        size = self.size
        # Two subtrees of one size merge into one of twice the size.
        while size & 1:
            node = sha256(_NODE + self.peaks.pop() + node).digest()
            size >>= 1
        self.peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The root, 32 bytes. Without leaves: the digest of no bytes."""
        if not self.peaks:
            return sha256(b"").digest()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = sha256(_NODE + peak + root).digest()
        return root
