"""The effects of a guest's accesses on RAM, on devices, and in exits, in plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from coalesced.hv.abi import OP_IN, OP_LOAD, OP_OUT, OP_STORE
from helpers.vmm_fake import Recorder

PAGE = 4096
Operation = tuple[int, int, int, int]  # kind, size, address, value


def pages(address: int, size: int) -> list[tuple[int, int]]:
    """(address, size) of the parts of an access: two where it crosses a page."""
    room = PAGE - address % PAGE
    return [(address, size)] if size <= room else [(address, room), (address + room, size - room)]


def refusal(kind: int, size: int, address: int) -> str | None:
    """The reason why the processor does not carry an operation out."""
    sizes: tuple[int, ...]
    if kind in (OP_LOAD, OP_STORE):
        what, sizes, end = ("load", "store")[kind], (1, 2, 4, 8), 1 << 64
        expected = "a size of 1, 2, 4 or 8", "an address that does not wrap"
    elif kind in (OP_IN, OP_OUT):
        what, sizes, end = ("in", "out")[kind - 2], (1, 2, 4), 1 << 16
        expected = "a size of 1, 2 or 4", "ports of 0 to 0xffff"
    else:
        what, sizes, end = "unknown kind of access", (), 0
        expected = "load, store, in or out (0 to 3)", ""
    if size in sizes and address + size <= end:
        return None
    return f"{what} of {size} bytes at {address:#x}: expected {expected[size in sizes]}"


class ModelBoard:
    """RAM and recorders, byte by byte; every address has at most one owner."""

    def __init__(
        self,
        ram: Sequence[tuple[int, int]],
        memory: Sequence[tuple[int, Recorder]],
        ports: Sequence[tuple[int, Recorder]],
    ) -> None:
        self.ram = {start + i: 0 for start, size in ram for i in range(size)}
        self.spaces = {False: (memory, 0x00), True: (ports, 0xFF)}

    def run(self, step: Sequence[Operation]) -> tuple[list[int], str | None]:
        """The operations' values afterwards, and the text of what ended them."""
        values = [op[3] for op in step]
        for number, (kind, size, address, value) in enumerate(step):
            wrong = refusal(kind, size, address)
            if wrong is not None:
                return values, f"GuestError: operation {number}: {wrong}"
            port = kind in (OP_IN, OP_OUT)
            parts = [(address, size)] if port else pages(address, size)
            if kind in (OP_LOAD, OP_IN):
                got = b"".join(self.read(port, at, length) for at, length in parts)
                values[number] = int.from_bytes(got, "little")
            else:
                data = (value % (1 << 8 * size)).to_bytes(size, "little")
                for at, length in parts:
                    self.write(port, at, data[at - address : at - address + length])
        return values, None

    def _owned(self, port: bool, at: int, size: int) -> list[tuple[Recorder | None, int, int]]:
        """(device, its offset or the address, length) of the parts of an access."""
        parts: list[tuple[Recorder | None, int, int]] = []
        for address in range(at, at + size):
            device, offset = None, address
            for base, candidate in self.spaces[port][0]:
                if base <= address < base + len(candidate.bytes):
                    device, offset = candidate, address - base
            if parts and parts[-1][0] is device:
                parts[-1] = (device, parts[-1][1], parts[-1][2] + 1)
            else:
                parts.append((device, offset, 1))
        return parts

    def read(self, port: bool, at: int, size: int) -> bytes:
        if not port and at in self.ram:
            return bytes(self.ram[at + i] for i in range(size))
        data = b""
        for device, offset, length in self._owned(port, at, size):
            if device is None:
                data += bytes([self.spaces[port][1]]) * length
            else:
                data += device.read(offset, length).to_bytes(length, "little")
        return data

    def write(self, port: bool, at: int, data: bytes) -> None:
        if not port and at in self.ram:
            self.ram.update((at + i, byte) for i, byte in enumerate(data))
            return
        for device, offset, length in self._owned(port, at, len(data)):
            if device is not None:
                device.write(offset, length, int.from_bytes(data[:length], "little"))
            data = data[length:]


def exits_of(
    ops: Iterable[Operation], zones: Sequence[tuple[int, int]], usable: int | None
) -> tuple[int, Counter[str]]:
    """(queued writes, exits by reason) of accesses to devices, the final halt included.

    `zones`: (first, last) addresses of memory writes that may be queued. `usable`: entries that
    the ring holds, None without coalescing. The VMM drains at every exit and nowhere else.
    """
    queued = total = 0
    exits: Counter[str] = Counter()
    for kind, size, address, _ in ops:
        last = address + size - 1
        inside = any(low <= address and last <= high for low, high in zones)
        touches = any(low <= last and address <= high for low, high in zones)
        if kind == OP_STORE and usable is not None and inside and queued < usable:
            queued, total = queued + 1, total + 1
            continue
        if kind in (OP_IN, OP_OUT):
            reason = "pio"
        elif kind == OP_LOAD:
            reason = "load"
        elif usable is None or not touches:
            reason = "no_zone"
        else:
            reason = "ring_full" if inside else "straddle"
        exits[reason] += 1
        queued = 0
    exits["hlt"] += 1
    return total, exits
