"""Machine code that repeats a recorded guest: 32-bit protected mode, flat, no paging.

Every access is one instruction, so that it comes as one entry, one exit, or two where it crosses a
page. Consecutive stores are `rep stos` and `rep movs`; a repetition is a loop. The results of loads
go to memory, one after the other, where the VMM checks them.

Registers: edi where the next result goes, ebx a loop's counter, mm0 the last 8 bytes stored, dx and
eax port and value of the last out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coalesced.hv.abi import OP, OP_IN, OP_LOAD, OP_OUT, OP_STORE, PAGE_SIZE
from coalesced.hv.errors import GuestError
from coalesced.vmm.accel.patterns import Item, items_of, loops
from coalesced.vmm.accel.recording import MemoryAccess, Recording

TOP = 1 << 32
_PART = 1 << 18

_LOAD = {1: b"\xa0", 2: b"\x66\xa1", 4: b"\xa1"}  # mov al|ax|eax, [moffs]
_STORE = {1: b"\xc6\x05", 2: b"\x66\xc7\x05", 4: b"\xc7\x05"}  # mov [disp32], imm
_VALUE = {1: b"\xb0", 2: b"\x66\xb8", 4: b"\xb8"}  # mov al|ax|eax, imm
_OUT = {1: b"\xee", 2: b"\x66\xef", 4: b"\xef"}  # out dx, al|ax|eax
_IN = {1: b"\xec", 2: b"\x66\xed", 4: b"\xed"}  # in al|ax|eax, dx
_STOS = {1: b"\xaa", 2: b"\x66\xab", 4: b"\xab"}
_MOVS = {1: b"\xa4", 2: b"\x66\xa5", 4: b"\xa5"}
_REP = b"\xf3"
_MOV_DX = b"\x66\xba"
_MOV_EBX, _MOV_ECX, _MOV_ESI, _MOV_EDI = b"\xbb", b"\xb9", b"\xbe", b"\xbf"
_MOV_EBP_EDI, _MOV_EDI_EBP = b"\x89\xfd", b"\x89\xef"
_MOVQ_MM0_FROM, _MOVQ_MM0_TO = b"\x0f\x6f\x05", b"\x0f\x7f\x05"
_MOVQ_MM1_FROM, _MOVQ_MM1_TO_EDI = b"\x0f\x6f\x0d", b"\x0f\x7f\x0f"
_ADD_EDI_8 = b"\x83\xc7\x08"
_DEC_EBX, _JNZ = b"\x4b", b"\x0f\x85"
_HALT = b"\xf4\xeb\xfd"  # hlt, and again when it is entered once more


@dataclass(frozen=True)
class Program:
    """Machine code and its data, for any place below 4 GiB, and its expected results.

    It starts at its first byte. `results_at` is the offset of the results, `results` what they
    were when the guest was recorded. `loads`: the loads and ins (`hv.abi.OP`) in order, `places`
    where the result of each lies in the results.
    """

    code: bytes
    fixups: tuple[int, ...]  # offsets of 32-bit offsets into the program that become addresses
    results_at: int
    results: bytes
    loads: NDArray[np.void]
    places: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Bytes that it takes, in whole pages."""
        return -(-(self.results_at + len(self.results)) // PAGE_SIZE) * PAGE_SIZE

    def at(self, base: int) -> bytes:
        """Code and data as they are to lie at `base`; results follow at `results_at`."""
        image = np.frombuffer(bytearray(self.code), np.uint8)
        places = np.array(self.fixups, dtype=np.int64)[:, None] + np.arange(4)
        words = np.ascontiguousarray(image[places]).view("<u4") + np.uint32(base)
        image[places] = words.view(np.uint8)
        return image.tobytes()

    def loaded(self, results: bytes) -> NDArray[np.uint64]:
        """The value of each load, out of results that were left."""
        padded = np.frombuffer(results + bytes(8), np.uint8)
        sizes = self.loads["size"].astype(np.int64)
        values = np.zeros(len(self.loads), dtype=np.uint64)
        for byte in range(8):
            has = sizes > byte
            values[has] |= padded[self.places[has] + byte].astype(np.uint64) << np.uint64(8 * byte)
        return values


def assemble(recording: Recording, part: int = _PART) -> Program:
    """The program of a recorded guest; `part` operations are searched for repetitions at a time.

    Raises GuestError for an address of 4 GiB or more.
    """
    assembler = _Assembler()
    for step in recording.steps:
        if isinstance(step, MemoryAccess):
            assembler.copy(step)
        else:
            for start in range(0, len(step), part):
                assembler.run(step[start : start + part])
    return assembler.finish()


class _Assembler:
    """Code, data and results as they grow."""

    def __init__(self) -> None:
        self._code = bytearray()
        self._data = bytearray()
        self._results = bytearray()
        self._into_data: list[int] = []  # places in the code of offsets into the data
        self._loads: list[NDArray[np.void]] = []
        self._places: list[NDArray[np.int64]] = []
        # Values of registers; None: unknown.
        self._dx: int | None = None
        self._eax: tuple[int, int] | None = None
        self._mm0: int | None = None
        self._code += _MOV_EDI + bytes(4)  # where the results lie: known at the end

    def finish(self) -> Program:
        self._code += _HALT
        data_at = -(-len(self._code) // 16) * 16
        results_at = -(-(data_at + len(self._data)) // 16) * 16
        image = bytearray(self._code.ljust(data_at, b"\0") + self._data).ljust(results_at, b"\0")
        for place in self._into_data:
            (offset,) = struct.unpack_from("<I", image, place)
            struct.pack_into("<I", image, place, offset + data_at)
        first_result = len(_MOV_EDI)
        struct.pack_into("<I", image, first_result, results_at)
        loads = np.concatenate([np.zeros(0, OP), *self._loads])
        places = np.concatenate([np.zeros(0, np.int64), *self._places])
        fixups = (first_result, *self._into_data)
        return Program(bytes(image), fixups, results_at, bytes(self._results), loads, places)

    # --- copies of RAM ---

    def copy(self, access: MemoryAccess) -> None:
        """read_memory into the results, or write_memory."""
        size = len(access.data)
        if not size:
            return
        _check("write" if access.write else "read", size, access.address)
        width = 1 if size % 4 else 4
        if access.write:
            self._code += _MOV_EBP_EDI + _MOV_EDI + _u32(access.address) + _MOV_ESI
            self._refer(access.data)
        else:
            self._code += _MOV_ESI + _u32(access.address)
            self._results += access.data
        self._code += _MOV_ECX + _u32(size // width) + _REP + _MOVS[width]
        if access.write:
            self._code += _MOV_EDI_EBP

    # --- bus operations ---

    def run(self, ops: NDArray[np.void]) -> None:
        """Operations, among which what repeats is looked for."""
        _check_all(ops)
        self._expect(ops)
        items = items_of(ops)
        done = 0
        for start, period, times in loops(items):
            self._emit(items[done:start])
            self._forget()
            self._code += _MOV_EBX + _u32(times)
            top = len(self._code)
            self._emit(items[start : start + period])
            self._code += _DEC_EBX + _JNZ
            self._code += struct.pack("<i", top - len(self._code) - 4)
            self._forget()
            done = start + period * times
        self._emit(items[done:])

    def _expect(self, ops: NDArray[np.void]) -> None:
        loads = ops[(ops["kind"] == OP_LOAD) | (ops["kind"] == OP_IN)]
        sizes = loads["size"].astype(np.int64)
        places = len(self._results) + np.cumsum(sizes) - sizes
        self._loads.append(loads)
        self._places.append(places)
        octets = np.ascontiguousarray(loads["value"]).view(np.uint8).reshape(-1, 8)
        self._results += octets[np.arange(8) < sizes[:, None]].tobytes()

    def _emit(self, items: list[Item]) -> None:
        for kind, size, address, value in items:
            if kind == OP_LOAD:
                self._load(size, address)
            elif kind == OP_IN:
                self._port(address)
                self._code += _IN[size] + _STOS[size]
                self._eax = None
            elif isinstance(value, bytes):
                self._store_run(size, address, value)
            elif kind == OP_OUT:
                self._port(address)
                if self._eax != (size, value):
                    self._code += _VALUE[size] + value.to_bytes(size, "little")
                    self._eax = (size, value)
                self._code += _OUT[size]
            elif size == 8:
                if self._mm0 != value:
                    self._code += _MOVQ_MM0_FROM
                    self._refer(value.to_bytes(8, "little"))
                    self._mm0 = value
                self._code += _MOVQ_MM0_TO + _u32(address)
            else:
                self._code += _STORE[size] + _u32(address) + value.to_bytes(size, "little")

    def _load(self, size: int, address: int) -> None:
        if size == 8:
            self._code += _MOVQ_MM1_FROM + _u32(address) + _MOVQ_MM1_TO_EDI + _ADD_EDI_8
        else:
            self._code += _LOAD[size] + _u32(address) + _STOS[size]
            self._eax = None

    def _store_run(self, size: int, address: int, data: bytes) -> None:
        """Stores of `size` bytes from `address` on that leave `data`."""
        count = len(data) // size
        self._code += _MOV_EBP_EDI + _MOV_EDI + _u32(address) + _MOV_ECX + _u32(count)
        if data == data[:size] * count:
            self._code += _VALUE[size] + data[:size] + _REP + _STOS[size]
            self._eax = None
        else:
            self._code += _MOV_ESI
            self._refer(data)
            self._code += _REP + _MOVS[size]
        self._code += _MOV_EDI_EBP

    def _port(self, port: int) -> None:
        if self._dx != port:
            self._code += _MOV_DX + port.to_bytes(2, "little")
            self._dx = port

    def _refer(self, data: bytes) -> None:
        """The address of bytes among the data, as the last operand of an instruction."""
        self._into_data.append(len(self._code))
        self._code += _u32(len(self._data))
        self._data += data

    def _forget(self) -> None:
        """A loop begins or ends: the contents of registers are unknown."""
        self._dx = self._eax = self._mm0 = None


# --- addresses ---


def _check_all(ops: NDArray[np.void]) -> None:
    too_high = ops["address"] > np.uint64(TOP) - ops["size"].astype(np.uint64)
    if too_high.any():
        kind, size, address, _ = ops[int(np.argmax(too_high))].item()
        _check("store" if kind == OP_STORE else "load", size, address)


def _check(what: str, size: int, address: int) -> None:
    if address + size > TOP:
        raise GuestError(
            f"{what} of {size} bytes at {address:#x}: expected an address below 4 GiB: --accel kvm "
            "runs guests in 32-bit protected mode"
        )


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")
