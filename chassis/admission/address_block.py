"""Refuses new connections from single addresses for a while, in the kernel, before gRPC accepts them.

A peer whose connection is closed may connect again within a millisecond, and is not found again before the next sweep
(chassis/admission/connections.py). A socket filter on the listening socket drops the first packet of its next
connections. Connections that exist go on. The filter is classic BPF (linux/filter.h), needs no privilege, and exists on
Linux only.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from collections.abc import Callable, Sequence
from ctypes import addressof, create_string_buffer

#: Seconds in which a second misbehaving connection blocks its address, and seconds for which it is blocked.
REPEAT_S = 10.0
BLOCK_S = 10.0
#: Addresses blocked at once: the filter has at most 4,096 instructions and costs 1 ns each.
MAX_BLOCKED = 64

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
#: Opcodes: load a word or a byte of the packet, compare with a constant, return a constant.
_LOAD_WORD, _LOAD_BYTE, _AND, _JUMP_EQUAL, _RETURN = 0x20, 0x30, 0x54, 0x15, 0x06
#: Offset of the IP header, and of the source address in each version's header.
_NETWORK_HEADER = 0xFFF00000
_SOURCE = {4: _NETWORK_HEADER + 12, 6: _NETWORK_HEADER + 8}
_ACCEPT = 0xFFFFFFFF

_Instruction = tuple[int, int, int, int]


def drop_filter(addresses: Sequence[str]) -> list[_Instruction]:
    """Classic BPF that drops packets from these addresses and accepts the others: (opcode, if true, if false, value).

    Raises ValueError for what is no address.
    """
    program: list[_Instruction] = []
    for one in map(ipaddress.ip_address, addresses):
        words = struct.unpack(f">{len(one.packed) // 4}I", one.packed)
        # One test of the version and one of each word; a test that fails jumps to the next address.
        left = 2 * len(words) + 1
        program += [(_LOAD_BYTE, 0, 0, _NETWORK_HEADER), (_AND, 0, 0, 0xF0), (_JUMP_EQUAL, 0, left, one.version << 4)]
        for index, word in enumerate(words):
            left -= 2
            program += [(_LOAD_WORD, 0, 0, _SOURCE[one.version] + 4 * index), (_JUMP_EQUAL, 0, left, word)]
        program.append((_RETURN, 0, 0, 0))
    return [*program, (_RETURN, 0, 0, _ACCEPT)]


class AddressBlock:
    """The addresses whose new connections are refused. Used on one thread only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._clock = clock
        #: When the last connection of an address misbehaved, and when its block ends.
        self._seen: dict[str, float] = {}
        self._until: dict[str, float] = {}

    @property
    def blocked(self) -> list[str]:
        """The addresses that are blocked, in order."""
        return sorted(self._until)

    def report(self, address: str) -> bool:
        """Counts a misbehaving connection; returns whether the blocked addresses changed."""
        now = self._clock()
        repeated = now - self._seen.get(address, -REPEAT_S) < REPEAT_S
        self._seen = {one: when for one, when in self._seen.items() if now - when < REPEAT_S} | {address: now}
        if not repeated or (address not in self._until and len(self._until) >= MAX_BLOCKED):
            return False
        changed = address not in self._until
        self._until[address] = now + BLOCK_S
        return changed

    def expire(self) -> bool:
        """Ends the blocks whose time is over; returns whether the blocked addresses changed."""
        now = self._clock()
        over = [one for one, until in self._until.items() if until <= now]
        for one in over:
            del self._until[one]
        return bool(over)

    def apply(self, listener: socket.socket) -> None:
        """Puts the blocked addresses on a listening socket. Raises OSError where the system has no such filter."""
        if not self._until:
            listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            return
        program = b"".join(struct.pack("=HBBI", *one) for one in drop_filter(self.blocked))
        code = create_string_buffer(program)
        # struct sock_fprog: the number of instructions of 8 bytes and their address.
        fprog = struct.pack("@HP", len(program) // 8, addressof(code))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
