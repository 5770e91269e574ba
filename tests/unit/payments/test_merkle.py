"""Roots are those of RFC 6962, so that others can check them. Method: a second implementation of its definition."""

from __future__ import annotations

from hashlib import sha256

import pytest

from services.payments.ledger.merkle import Tree

#: Published with certificate-transparency: the leaves and their root.
INPUTS = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
ROOT_OF_EIGHT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def root_of(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\1" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def tree_of(leaves: list[bytes]) -> Tree:
    tree = Tree()
    for leaf in leaves:
        tree.add(leaf)
    return tree


def test_roots_equal_published_ones() -> None:
    assert tree_of([bytes.fromhex(one) for one in INPUTS]).root().hex() == ROOT_OF_EIGHT


@pytest.mark.parametrize("count", [*range(34), 63, 64, 65, 1000])
def test_a_growing_tree_has_the_root_of_the_definition(count: int) -> None:
    leaves = [str(number).encode() for number in range(count)]
    tree = tree_of(leaves)
    assert tree.root() == root_of(leaves)
    assert tree.size == count


def test_a_restored_tree_continues() -> None:
    leaves = [str(number).encode() for number in range(21)]
    kept = tree_of(leaves[:13])
    resumed = Tree(kept.size, list(kept.peaks))
    for leaf in leaves[13:]:
        resumed.add(leaf)
    assert resumed.root() == root_of(leaves)


def test_another_leaf_another_order_or_a_missing_leaf_changes_the_root() -> None:
    leaves = [str(number).encode() for number in range(9)]
    roots = {
        tree_of(one).root()
        for one in (leaves, leaves[:-1], leaves[::-1], [*leaves[:4], b"x", *leaves[5:]], [*leaves, leaves[-1]])
    }
    assert len(roots) == 5
