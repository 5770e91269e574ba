"""A Merkle tree that grows leaf by leaf and remembers no leaf: the root is that of RFC 6962, section 2.1.

Must never change how it hashes: roots that were exported years ago are compared with it.
"""

from __future__ import annotations

from hashlib import sha256

_LEAF, _NODE = b"\0", b"\1"


class Tree:
    """The whole subtrees on its right edge, the largest first."""

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: list[bytes] | None = None) -> None:
        self.size = size
        self.peaks = peaks if peaks is not None else []

    def add(self, leaf: bytes) -> None:
        """Adds a leaf on the right."""
        node = sha256(_LEAF + leaf).digest()
        size = self.size
        # Two subtrees of one size become one of twice the size.
        while size & 1:
            node = sha256(_NODE + self.peaks.pop() + node).digest()
            size >>= 1
        self.peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The root, 32 bytes; of no leaf, the digest of nothing."""
        if not self.peaks:
            return sha256(b"").digest()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = sha256(_NODE + peak + root).digest()
        return root
